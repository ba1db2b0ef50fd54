"""What `compiled_passes` compiles: the passes of one image and the drawing of its codes, as modules for torch.export.

    FirstPass   weights, rotary factors, prompt, image, mask of the prompt --> hidden states, KV cache of the prompt
    LaterPass   weights, rotary factors, image, KV cache of the prompt     --> hidden states
    GreedyStep  logits, codes, which of them are masked, how many stay so  --> codes, which of them are masked

Decisions:
- `packed_forward` and `settle_in_order` themselves are traced, so packages compute what the library does, for one image
  of one prompt without guidance, with prompts of any length and any number of scored rows but one.
- Weights are arguments. They are in memory once, and a package fits all checkpoints of its sizes, trained on or not.
- Rotary factors are arguments as well: kernels that compute cosines do so for each head of each layer again.
- Products do not add biases, which would copy them to the result first; the kernels that follow do.
- Queries and keys are normalised and rotated by functions that write nothing in place: written in place, all parts of
  the input of attention are copied several times. GELU is a sigmoid, which takes half as long as its tanh.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from showo_turbo.generation.orders import halton_priorities
from showo_turbo.generation.scheduler import settle_in_order
from showo_turbo.models.packed_forward import (
    LayerOps,
    PackedSequences,
    RaggedLayout,
    Rotary,
    packed_forward,
    rotary_embedding,
)
from showo_turbo.models.phi import PhiBackbone, PhiLayer
from showo_turbo.models.showo import Showo

_EXAMPLE_PROMPT = 7

aten = torch.ops.aten


def _max(values: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Compute `values.max(dim)` without argmax, which compiles to a loop over single numbers."""
    largest, last = values.amax(dim, keepdim=True), values.shape[dim] - 1
    numbers = torch.arange(values.shape[dim], dtype=torch.float32)  # exact below 2**24
    return largest.squeeze(dim), torch.where(values == largest, numbers, last).amin(dim).long()


_DECOMPOSITIONS: dict[Any, Callable[..., Any]] = {
    aten.max.dim: _max,
    aten.linear.default: lambda x, weight, bias: aten.add(aten.mm(x, weight.t()), bias),
    aten.addmm.default: lambda total, x, weight: aten.add(aten.mm(x, weight), total),
    aten.baddbmm.default: lambda total, x, weights: aten.add(aten.bmm(x, weights), total),
}
"""Products that add a bias, as a product and a sum, and what is faster in other operators."""


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
class _PromptCache:
    """Collect keys and values of a prompt, layer after layer, each (2, rows, heads, head size)."""

    layers: list[Tensor]
    persistent_buffers: tuple[Tensor, ...] = ()

    def update(self, layer: int, keys_values: Tensor) -> Tensor:
        """See `models.packed_forward.KVCache`."""
        self.layers.append(keys_values)
        return keys_values[:, None]


@dataclass(frozen=True)
class _PrefixedCache:
    """Attend to the keys and values of a prompt and to the whole image."""

    prompt: Sequence[Tensor] | Tensor
    persistent_buffers: tuple[Tensor, ...] = ()

    def update(self, layer: int, keys_values: Tensor) -> Tensor:
        """See `models.packed_forward.KVCache`."""
        return torch.cat([self.prompt[layer], keys_values], 1)[:, None]


class LaterPass(nn.Module):
    """Compute an image whose prompt has been read."""

    def __init__(self, phi: PhiBackbone) -> None:
        """Refer to a model, whose parameters are not those of this module."""
        super().__init__()
        self.of = (phi, LayerWeights(phi))

    def forward(
        self, weights: list[Tensor], cosines: Tensor, sines: Tensor, image: Tensor, scored: Tensor, prefix: Tensor
    ) -> Tensor:
        """Return hidden states (scored rows, hidden_size).

        Args:
            weights: as `LayerWeights.tensors` returns them.
            cosines: rotary factors of the image, see `rotary_factors`.
            sines: likewise.
            image: embeddings (rows, hidden_size).
            scored: long (scored rows,).
            prefix: KV cache of the prompt, (layers, 2, length, heads, head size).
        """
        phi, places = self.of
        ops = _layer_ops((cosines, sines))
        with places.replaced(phi, weights):
            return packed_forward(phi, ops, image, [_image_rows(image, scored, _PrefixedCache(prefix))])

    def example(self, model: Showo) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """Return inputs for images of a model, and which of their sizes may differ."""
        config, (phi, places), rows = model.showo.config, self.of, model.config.num_vq_tokens + 2
        attention = cast("Sequence[PhiLayer]", phi.layers)[0].self_attn
        prefix = (config.num_hidden_layers, 2, _EXAMPLE_PROMPT, attention.kv_heads, attention.head_dim)
        image = (torch.zeros(rows, config.hidden_size), torch.arange(1, rows - 1))
        weights = [one.detach() for one in places.tensors()]
        inputs = (weights, *rotary_factors(phi, 0, rows), *image, torch.zeros(prefix))
        return inputs, (
            [None] * len(weights),
            None,
            None,
            None,
            {0: _dimension("scored", rows)},
            {2: _dimension("length")},
        )


class FirstPass(LaterPass):
    """Compute a prompt and its image."""

    def forward(  # type: ignore[override]
        self,
        weights: list[Tensor],
        cosines: Tensor,
        sines: Tensor,
        prompt: Tensor,
        image: Tensor,
        scored: Tensor,
        mask: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Return hidden states (scored rows, hidden_size) and the KV cache (layers, 2, length, heads, head size).

        Args:
            weights: as `LayerWeights.tensors` returns them.
            cosines: rotary factors of prompt and image, see `rotary_factors`.
            sines: likewise.
            prompt: embeddings (length, hidden_size).
            image: embeddings (rows, hidden_size).
            scored: long (scored rows,).
            mask: bool (1, 1, length, length), True where a row of the prompt may attend.
        """
        (phi, places), layers, length = self.of, list[Tensor](), prompt.shape[0]
        positions, none = torch.arange(length) - length, torch.zeros(0, dtype=torch.long)
        rows = PackedSequences(RaggedLayout([length]), positions, _PromptCache(layers), mask, none, RaggedLayout([0]))
        ops = _layer_ops((cosines, sines))
        with places.replaced(phi, weights):
            groups = [rows, _image_rows(image, scored, _PrefixedCache(layers))]
            hidden = packed_forward(phi, ops, torch.cat([prompt, image]), groups)
        return hidden, torch.stack(layers)

    def example(self, model: Showo) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """See `LaterPass.example`."""
        (weights, _, _, image, scored, _), (sizes, *_) = super().example(model)
        rows, length = len(image), _EXAMPLE_PROMPT
        prompt, mask = torch.zeros(length, image.shape[1]), torch.ones(1, 1, length, length, dtype=torch.bool).tril()
        inputs = (weights, *rotary_factors(self.of[0], length, rows), prompt, image, scored, mask)
        any_length = _dimension("length")
        factors, square = {0: any_length + rows}, {2: any_length, 3: any_length}
        return inputs, (sizes, factors, factors, {0: any_length}, None, {0: _dimension("scored", rows)}, square)


class GreedyStep(nn.Module):
    """Draw the most probable codes of one image, of which the last in Halton order are masked again."""

    def __init__(self, num_codes: int) -> None:
        """Draw images of so many codes."""
        super().__init__()
        self.num_codes = num_codes
        halton_priorities(num_codes)  # a constant of what is traced

    def forward(self, logits: Tensor, codes: Tensor, masked: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
        """Compute `generation.scheduler.draw_in_order` for a single choice, whose order is that of the logits.

        Args:
            logits: (masked positions, codebook_size).
            codes: long (1, n).
            masked: bool (1, n).
            count: long ().
        """
        return settle_in_order(logits, 1, logits.new_zeros(0, 1), codes, masked, count)

    def example(self, model: Showo) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """See `LaterPass.example`."""
        sizes = {0: _dimension("scored", self.num_codes), 1: _dimension("codes")}
        logits, codes = torch.zeros(self.num_codes, model.config.codebook_size), torch.zeros(1, self.num_codes).long()
        return (logits, codes, torch.ones_like(codes).bool(), torch.tensor(1)), (sizes, None, None, None)


def _project(layer: PhiLayer, hidden: Tensor, rotary: Rotary) -> tuple[Tensor, Tensor, Tensor]:
    normed = layer.input_layernorm(hidden)
    states = _heads(layer, normed, slice(None))
    queries, keys = (
        _turned(layer, "q_layernorm", states[:-2], rotary),
        _turned(layer, "k_layernorm", states[-2], rotary),
    )
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


def _layer_ops(rotary: Rotary) -> LayerOps:
    """Return functions that write nothing in place, which a package would do in copies of all parts."""
    return LayerOps(_project, _project_keys_values, _project_queries, rotary_embedding=lambda *_: rotary)


def rotary_factors(phi: PhiBackbone, length: int, rows: int) -> Rotary:
    """Return factors of a prompt of some length and of its image, each (length + rows, 1, rotated size)."""
    return rotary_embedding(phi, torch.arange(-length, rows), torch.zeros(0))


def _dimension(name: str, largest: int | None = None) -> Any:
    """Return a size that may differ, 2 or more; it imports modules that only compiling needs."""
    return torch.export.Dim(name, min=2, max=largest)


def _image_rows(image: Tensor, scored: Tensor, cache: _PrefixedCache) -> PackedSequences:
    """Return the rows of one image, embeddings (rows, hidden_size), that attends to all of them and its prompt."""
    layout, positions = RaggedLayout([image.shape[0]]), torch.arange(image.shape[0])
    return PackedSequences(layout, positions, cache, None, scored, RaggedLayout([scored.shape[0]]))


@torch.no_grad()
def compile_package(module: LaterPass | GreedyStep, model: Showo, path: Path) -> None:
    """Compile a pass of a model, or the drawing of its images, to a package."""
    from torch._inductor import aoti_compile_and_package

    inputs, sizes = module.example(model)
    exported = torch.export.export(module, inputs, dynamic_shapes=sizes, strict=False)
    exported = exported.run_decompositions(_DECOMPOSITIONS)
    aoti_compile_and_package(exported, package_path=str(path), inductor_configs={"cpp.threads": 1})
