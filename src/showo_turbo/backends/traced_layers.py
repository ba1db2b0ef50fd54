"""Layers as packages compute them: weights, position-wise functions and KV caches, with which a pass is traced.

Decisions:
- Weights are arguments. They are in memory once, and a package fits all checkpoints of its sizes, trained on or not.
- Rotary factors are arguments as well: kernels that compute cosines do so for each head of each layer again.
- Queries and keys are normalised and rotated by functions that write nothing in place: written in place, all parts of
  the input of attention are copied several times.
"""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, cast

import torch
from torch import Tensor, nn

from showo_turbo.models.packed_forward import LayerOps, PackedSequences, RaggedLayout, Rotary, rotary_embedding
from showo_turbo.models.phi import PhiBackbone, PhiLayer


class LayerWeights:
    """Find the weights of the layers, in the order in which packages take them."""

    def __init__(self, phi: PhiBackbone) -> None:
        """Look up where a model has its weights now."""
        layers = cast("Sequence[PhiLayer]", phi.layers)
        self.linears = [layer.linears for layer in layers]
        self.is_transposed = all(linears.is_transposed for linears in self.linears)
        self.norms = [module for module in phi.modules() if isinstance(module, nn.LayerNorm)]
        self.matrices = [attrgetter("self_attn.dense", "mlp.fc1", "mlp.fc2")(layer) for layer in layers]
        modules = [*self.norms, *(module for layer in self.matrices for module in layer)]
        self._places = [(module._parameters, name) for module in modules for name in ("weight", "bias")]

    def belongs_to(self, phi: PhiBackbone) -> bool:
        """Return whether a model still computes with the modules that were looked up."""
        layers = cast("Sequence[PhiLayer]", phi.layers)
        return all(layer.linears is linears for layer, linears in zip(layers, self.linears, strict=True))

    def tensors(self) -> list[Tensor]:
        """Return the tensors that the model has now; parameters may have been replaced."""
        packed = [tensor for linears in cast(Any, self.linears) for tensor in (linears.weight, linears.bias)]
        return packed + cast("list[Tensor]", [parameters[name] for parameters, name in self._places])

    @contextmanager
    def replaced(self, phi: PhiBackbone, tensors: Sequence[Tensor]) -> Iterator[None]:
        """Let a model compute with other tensors, in the same order."""
        given = iter(tensors)
        earlier = [parameters[name] for parameters, name in self._places]
        for layer, linears in zip(cast("Sequence[PhiLayer]", phi.layers), self.linears, strict=True):
            traced = cast(Any, copy.copy(linears))
            traced.weight, traced.bias, layer.linears = next(given), next(given), traced
        try:
            for parameters, name in self._places:
                parameters[name] = cast(nn.Parameter, next(given))
            yield
        finally:
            for (parameters, name), parameter in zip(self._places, earlier, strict=True):
                parameters[name] = parameter
            for layer, linears in zip(cast("Sequence[PhiLayer]", phi.layers), self.linears, strict=True):
                layer.linears = linears


@dataclass(frozen=True)
class PromptCache:
    """Collect keys and values of a prompt, layer after layer, each (2, rows, heads, head size)."""

    layers: list[Tensor]
    persistent_buffers: tuple[Tensor, ...] = ()

    def update(self, layer: int, keys_values: Tensor) -> Tensor:
        """See `models.packed_forward.KVCache`."""
        self.layers.append(keys_values)
        return keys_values[:, None]


@dataclass(frozen=True)
class PrefixedCache:
    """Attend to the keys and values of a prompt and to the whole image."""

    prompt: Sequence[Tensor] | Tensor
    persistent_buffers: tuple[Tensor, ...] = ()

    def update(self, layer: int, keys_values: Tensor) -> Tensor:
        """See `models.packed_forward.KVCache`."""
        return torch.cat([self.prompt[layer], keys_values], 1)[:, None]


def image_rows(image: Tensor, scored: Tensor, cache: PrefixedCache) -> PackedSequences:
    """Return the rows of one image, embeddings (rows, hidden_size), that attends to all of them and its prompt."""
    layout, positions = RaggedLayout([image.shape[0]]), torch.arange(image.shape[0])
    return PackedSequences(layout, positions, cache, None, scored, RaggedLayout([scored.shape[0]]))


def _project(layer: PhiLayer, hidden: Tensor, rotary: Rotary) -> tuple[Tensor, Tensor, Tensor]:
    normed = layer.input_layernorm(hidden)
    states = _heads(layer, normed, slice(None))
    queries = _turned(layer, "q_layernorm", states[:-2], rotary)
    keys = _turned(layer, "k_layernorm", states[-2], rotary)
    return normed, queries.transpose(0, 1).flatten(1, 2), torch.stack((keys, states[-1]))


def _project_keys_values(layer: PhiLayer, hidden: Tensor, rotary: Rotary) -> tuple[Tensor, Tensor]:
    normed = layer.input_layernorm(hidden)
    keys, values = _heads(layer, normed, slice(-2, None))
    return normed, torch.stack((_turned(layer, "k_layernorm", keys, rotary), values))


def _project_queries(layer: PhiLayer, normed: Tensor, rotary: Rotary) -> Tensor:
    queries = _turned(layer, "q_layernorm", _heads(layer, normed, slice(-2)), rotary)
    return queries.transpose(0, 1).flatten(1, 2)


def _heads(layer: PhiLayer, normed: Tensor, parts: slice) -> Tensor:
    """Return some parts, (parts, rows, kv heads, head size), of the input of attention."""
    attention = layer.self_attn
    return layer.linears.attention(normed, parts).unflatten(-1, (attention.kv_heads, attention.head_dim))


def _turned(layer: PhiLayer, norm: str, states: Tensor, rotary: Rotary) -> Tensor:
    """Normalise queries or keys, (..., rows, kv heads, head size), and apply the rotary embedding."""
    if layer.self_attn.qk_layernorm:
        states = getattr(layer.self_attn, norm)(states)
    cosines, sines = rotary
    half = cosines.shape[-1] // 2
    first, second, rest = states.split([half, half, states.shape[-1] - 2 * half], -1)
    turned = first * cosines[..., :half] + second * sines[..., :half]
    turned_second = second * cosines[..., half:] + first * sines[..., half:]
    return torch.cat([turned, turned_second, rest], -1)


def layer_ops(rotary: Rotary) -> LayerOps:
    """Return functions that write nothing in place, which a package would do in copies of all parts."""
    return LayerOps(_project, _project_keys_values, _project_queries, rotary_embedding=lambda *_: rotary)


def rotary_factors(phi: PhiBackbone, length: int, rows: int) -> Rotary:
    """Return factors of a prompt of some length and of its image, each (length + rows, 1, rotated size)."""
    return rotary_embedding(phi, torch.arange(-length, rows), torch.zeros(0))
