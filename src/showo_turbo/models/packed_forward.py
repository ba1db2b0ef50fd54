"""Run the transformer on packed rows of several sequences, with a KV cache for all other rows.

    prompts   p p p | p p            packed: p p p p p i i i i i i
    images    i i i | i i i          norms, projections, MLP: all rows at once, no padding
                                     attention: one group of sequences at a time, on a padded batch

One layer:

             +--> keys, values --> KV cache --+
    hidden --project--> queries --------------+--attention--> mixed --+--combine--> hidden
             +--> first layer of the MLP -----------------------------+

Decisions:
- A group of sequences says where its rows stand and which KV cache they use; the cache decides what it stores.
- A layer is two matrix products, `[fc1; q; k; v]` of its normalised input, whose rows are one matrix, and
  `[dense, fc2]` of attention and MLP, whose columns are one. Queries and keys are rotated where the product has written
  them, and keys and values go from there to the KV cache.
- Weights are in memory once: the parameters of the modules become views of the two matrices. Names, checkpoints and
  writes into parameters stay as they are. Parameters that were replaced, as by `load_state_dict(assign=True)`, have
  other addresses and are packed again.
- Parts that are used together are neighbours: queries and keys for the rotary embedding, keys and values for the KV
  cache, and either half of the first matrix in the last layer.
- `pack_layers` alone decides. Layers in training mode, with adapters around their modules or with quantized weights
  keep separate products.
- A small second matrix is stored transposed: with 66 rows of width 128 the product took 0.44 times as long. A large one
  is not, since oneDNN's products then took up to 1.7 times as long.
- In the last layer, rows that are not scored need keys and values only: queries, output projection and MLP run on
  scored rows.
- `Showo.forward` is the plain path (all rows, no cache), and the tests compare this one with it. It computes every row
  in every layer, so the modules of a layer are those of `models.phi`, and their order is here.
- The position-wise parts of a layer are functions of the layer and its rows, so they can be compiled once for all
  layers (`backends.compiled_layers`). Which rows attend where changes from pass to pass and stays outside.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from showo_turbo.backends.linear import UpcastLinear, linear, tanh_gelu
from showo_turbo.models.phi import PhiBackbone, PhiLayer, PhiRotaryEmbedding

_MIN_LARGE_WEIGHTS = 2**20

Rotary = tuple[Tensor, Tensor]
"""Factors of the rotated part of a head and of the same with its halves swapped, each (rows, 1, rotated size)."""


class RaggedLayout:
    """Map rows of several sequences between a packed and a padded layout.

    packed   a a a b c c        padded   a a a
                                         b . .
                                         c c .
    """

    def __init__(self, lengths: Sequence[int], device: torch.device | str | None = None) -> None:
        """Lay out sequences of these lengths; 0 is allowed."""
        self.size = sum(lengths)
        self.shape = (len(lengths), max(lengths, default=0))
        self.indices = None
        if self.size != self.shape[0] * self.shape[1]:
            column = torch.arange(self.shape[1])
            filled = column < torch.tensor(lengths)[:, None]
            self.indices = filled.flatten().nonzero()[:, 0].to(device)

    def pad(self, packed: Tensor, fill: float | bool = 0) -> Tensor:
        """Pad (rows, ...) to (sequences, longest, ...), with `fill` where there is no row."""
        if self.indices is None:
            return packed.view(*self.shape, *packed.shape[1:])
        padded = packed.new_full((self.shape[0] * self.shape[1], *packed.shape[1:]), fill)
        return padded.index_copy_(0, self.indices, packed).unflatten(0, self.shape)

    def unpad(self, padded: Tensor) -> Tensor:
        """Pack (sequences, longest, ...) to (rows, ...)."""
        flat = padded.flatten(0, 1)
        return flat if self.indices is None else flat[self.indices]


class KVCache(Protocol):
    """Store keys and values of a group of sequences between forward passes."""

    @property
    def persistent_buffers(self) -> tuple[Tensor, ...]:
        """Buffers that outlast the forward pass, which reads and writes them in place."""

    def update(self, layer: int, keys_values: Tensor) -> Tensor:
        """Store keys and values of new rows in a layer and return all that the rows attend to.

        Args:
            layer: index of the layer.
            keys_values: (2, rows, heads, head size), keys rotated.

        Returns:
            (2, sequences, columns, heads, head size).
        """


@dataclass(frozen=True)
class PackedSequences:
    """Hold the rows of sequences that attend in one batch.

    Attributes:
        layout: which sequences the rows belong to.
        positions: long (rows,), for the rotary embedding, which depends on distances only.
        cache: keys and values that the rows attend to.
        mask: bool (sequences, 1, longest or 1, columns), True where a row may attend; None if everywhere.
        scored_rows: long, ascending, the rows whose hidden states are returned.
        scored_layout: which sequences these belong to.
    """

    layout: RaggedLayout
    positions: Tensor
    cache: KVCache
    mask: Tensor | None
    scored_rows: Tensor
    scored_layout: RaggedLayout

    def attend(self, queries: Tensor, attended: Tensor, scored_only: bool, scale: float) -> Tensor:
        """Compute attention, (rows, heads, head size), from the queries of all rows or of the scored ones."""
        layout, mask = self.layout, self.mask
        if scored_only:
            layout = self.scored_layout
            if mask is not None and mask.shape[2] > 1:
                rows = self.layout.unpad(mask[:, 0])[self.scored_rows]
                mask = layout.pad(rows, fill=True)[:, None]
        if not layout.size:
            return queries
        padded, (keys, values) = layout.pad(queries).transpose(1, 2), attended.transpose(2, 3)
        grouped = keys.shape[1] < padded.shape[1]
        mixed = F.scaled_dot_product_attention(padded, keys, values, mask, scale=scale, enable_gqa=grouped)
        return layout.unpad(mixed.transpose(1, 2))


def project(layer: PhiLayer, hidden: Tensor, rotary: Rotary) -> tuple[Tensor, Tensor, Tensor]:
    """Return the MLP's first layer (rows, intermediate_size), queries (rows, heads, head size), and keys and values.

    Queries and keys are rotated. Keys and values are one tensor, (2, rows, heads, head size).
    """
    attention = layer.self_attn
    projected = layer.linears.project(layer.input_layernorm(hidden))
    mlp, states = _split_mlp(projected, attention.heads + 2 * attention.kv_heads, attention.head_dim)
    queries, keys, _ = states.split([attention.heads, attention.kv_heads, attention.kv_heads], 1)
    if attention.qk_layernorm:
        queries.copy_(attention.q_layernorm(queries))
        keys.copy_(attention.k_layernorm(keys))
    _rotate(states[:, : -attention.kv_heads], rotary)
    return mlp, queries, states[:, attention.heads :].unflatten(1, (2, -1)).transpose(0, 1)


def project_keys_values(layer: PhiLayer, hidden: Tensor, rotary: Rotary) -> tuple[Tensor, Tensor]:
    """Return rows after the layer norm (rows, hidden_size), and keys and values (2, rows, heads, head size)."""
    attention, normed = layer.self_attn, layer.input_layernorm(hidden)
    projected = layer.linears.project_keys_values(normed)
    keys_values = projected.unflatten(-1, (2, -1, attention.head_dim)).transpose(0, 1)
    keys = keys_values[0]
    if attention.qk_layernorm:
        keys.copy_(attention.k_layernorm(keys))
    _rotate(keys, rotary)
    return normed, keys_values


def project_queries(layer: PhiLayer, normed: Tensor, rotary: Rotary) -> tuple[Tensor, Tensor]:
    """Return the MLP's first layer (rows, intermediate_size) and rotated queries (rows, heads, head size)."""
    attention = layer.self_attn
    projected = layer.linears.project_mlp_queries(normed)
    mlp, queries = _split_mlp(projected, attention.heads, attention.head_dim)
    if attention.qk_layernorm:
        queries.copy_(attention.q_layernorm(queries))
    _rotate(queries, rotary)
    return mlp, queries


def combine(layer: PhiLayer, hidden: Tensor, mixed: Tensor, mlp: Tensor) -> Tensor:
    """Return the output of a layer from its input, attention and the MLP's first layer, all (rows, ...)."""
    width = mixed.shape[1]
    joined = mixed.new_empty(len(mixed), width + mlp.shape[1])
    joined[:, :width] = mixed
    activation = cast(nn.Module, layer.mlp.activation_fn)
    if isinstance(activation, nn.GELU) and activation.approximate == "tanh":
        tanh_gelu(mlp, out=joined[:, width:])
    else:
        joined[:, width:] = activation(mlp)
    return layer.linears.combine(joined).add_(hidden)


def _split_mlp(projected: Tensor, heads: int, head_dim: int) -> tuple[Tensor, Tensor]:
    """Split the columns of a projection into the MLP's (rows, intermediate_size) and heads (rows, heads, head size)."""
    mlp, states = projected.split([projected.shape[1] - heads * head_dim, heads * head_dim], -1)
    return mlp, states.view(-1, heads, head_dim)


def _rotate(states: Tensor, rotary: Rotary) -> None:
    """Apply the rotary embedding to the first part of each head, (rows, heads, head size), in place."""
    cosines, sines = rotary
    turned = states[..., : cosines.shape[-1]]
    swapped = turned.roll(cosines.shape[-1] // 2, -1)
    turned.mul_(cosines).addcmul_(swapped, sines)


@dataclass(frozen=True)
class LayerOps:
    """Hold the position-wise functions of a layer, plain or compiled."""

    project: Callable[[PhiLayer, Tensor, Rotary], tuple[Tensor, Tensor, Tensor]] = project
    project_keys_values: Callable[[PhiLayer, Tensor, Rotary], tuple[Tensor, Tensor]] = project_keys_values
    project_queries: Callable[[PhiLayer, Tensor, Rotary], tuple[Tensor, Tensor]] = project_queries
    combine: Callable[[PhiLayer, Tensor, Tensor, Tensor], Tensor] = combine


def rotary_embedding(phi: PhiBackbone, positions: Tensor, hidden: Tensor) -> Rotary:
    """Return factors of positions, long (rows,), in the dtype of `hidden`."""
    if isinstance(phi.rotary_emb, PhiRotaryEmbedding):
        angles = positions[:, None, None].float() * phi.rotary_emb.inv_freq.to(positions.device, torch.float)
        cosines, sines = angles.cos(), angles.sin()
    else:
        both = phi.rotary_emb(hidden, positions[None])
        cosines, sines = (one[0, :, None].chunk(2, -1)[0] for one in both)
    return torch.cat((cosines, cosines), -1).to(hidden.dtype), torch.cat((-sines, sines), -1).to(hidden.dtype)


def packed_forward(phi: PhiBackbone, ops: LayerOps, embeddings: Tensor, groups: Sequence[PackedSequences]) -> Tensor:
    """Return hidden states (scored rows, hidden_size) after the final layer norm, group after group.

    Args:
        phi: the transformer, whose layers `pack_layers` has prepared.
        ops: position-wise functions of its layers.
        embeddings: (rows, hidden_size), of all groups.
        groups: the sequences that the rows belong to, in order.
    """
    hidden = embeddings
    rotary = rotary_embedding(phi, torch.cat([group.positions for group in groups]), hidden)
    counts = [group.layout.size for group in groups]
    *layers, last = cast("Sequence[PhiLayer]", phi.layers)
    for number, layer in enumerate(layers):
        mlp, queries, keys_values = ops.project(layer, hidden, rotary)
        attended = _update(groups, number, keys_values.split(counts, 1))
        mixed = _attend(groups, layer, queries.split(counts), attended, scored_only=False)
        hidden = ops.combine(layer, hidden, mixed, mlp)

    normed, keys_values = ops.project_keys_values(last, hidden, rotary)
    attended = _update(groups, len(layers), keys_values.split(counts, 1))
    first_rows = accumulate(counts, initial=0)
    scored = torch.cat([group.scored_rows + first for group, first in zip(groups, first_rows, strict=False)])
    if not len(scored):
        return hidden[scored]
    mlp, queries = ops.project_queries(last, normed[scored], (rotary[0][scored], rotary[1][scored]))
    counts = [group.scored_layout.size for group in groups]
    mixed = _attend(groups, last, queries.split(counts), attended, scored_only=True)
    return phi.final_layernorm(ops.combine(last, hidden[scored], mixed, mlp))


def _update(groups: Sequence[PackedSequences], layer: int, keys_values: Sequence[Tensor]) -> list[Tensor]:
    """Store keys and values of each group, and return those that its rows attend to."""
    return [group.cache.update(layer, own) for group, own in zip(groups, keys_values, strict=True)]


def _attend(
    groups: Sequence[PackedSequences],
    layer: PhiLayer,
    queries: Sequence[Tensor],
    attended: Sequence[Tensor],
    scored_only: bool,
) -> Tensor:
    """Compute attention of all groups, (rows, heads * head size)."""
    mixed = [
        group.attend(own, columns, scored_only, layer.self_attn.scaling)
        for group, own, columns in zip(groups, queries, attended, strict=True)
    ]
    return (torch.cat(mixed) if len(mixed) > 1 else mixed[0]).flatten(1)


class PackedLinears:
    """Compute with two matrices, which the parameters of the modules are views of from now on."""

    def __init__(self, layer: PhiLayer) -> None:
        """Move the weights of a layer, which `_is_packable`."""
        self.modules = linear_modules(layer)
        *sources, dense, fc2 = self.modules
        self.weight = _join([module.weight for module in sources], 0)
        self.bias = _join([module.bias for module in sources], 0)
        self.combining_weight = _join([dense.weight, fc2.weight], 1)
        self.combining_biases = (dense.bias, fc2.bias)
        self.num_early = sum(module.out_features for module in sources[:2])
        self.addresses = _addresses(self.modules)

    def is_current(self, layer: PhiLayer) -> bool:
        """Return whether the modules of a layer still have these weights."""
        return linear_modules(layer) == self.modules and _addresses(self.modules) == self.addresses

    def project(self, normed: Tensor) -> Tensor:
        """See `LayerLinears`."""
        return linear(normed, self.weight, self.bias)

    def project_mlp_queries(self, normed: Tensor) -> Tensor:
        """See `LayerLinears`."""
        return linear(normed, self.weight[: self.num_early], self.bias[: self.num_early])

    def project_keys_values(self, normed: Tensor) -> Tensor:
        """See `LayerLinears`."""
        return linear(normed, self.weight[self.num_early :], self.bias[self.num_early :])

    def combine(self, joined: Tensor) -> Tensor:
        """See `LayerLinears`."""
        first, second = (bias.to(joined.dtype) for bias in self.combining_biases)
        return linear(joined, self.combining_weight, first + second)


class SeparateLinears:
    """Call the modules of a layer one after the other."""

    def __init__(self, layer: PhiLayer) -> None:
        """Refer to the modules of a layer."""
        self.modules = linear_modules(layer)

    def project(self, normed: Tensor) -> Tensor:
        """See `LayerLinears`."""
        return torch.cat([module(normed) for module in self.modules[:4]], -1)

    def project_mlp_queries(self, normed: Tensor) -> Tensor:
        """See `LayerLinears`."""
        return torch.cat([module(normed) for module in self.modules[:2]], -1)

    def project_keys_values(self, normed: Tensor) -> Tensor:
        """See `LayerLinears`."""
        return torch.cat([module(normed) for module in self.modules[2:4]], -1)

    def combine(self, joined: Tensor) -> Tensor:
        """See `LayerLinears`."""
        *_, dense, fc2 = self.modules
        attention, mlp = joined.split([dense.in_features, fc2.in_features], -1)
        return dense(attention).add_(fc2(mlp))


def pack_layers(phi: PhiBackbone) -> bool:
    """Choose how each layer computes, `layer.linears`, and return whether weights were moved."""
    moved = False
    for layer in cast("Sequence[PhiLayer]", phi.layers):
        if isinstance(layer.linears, PackedLinears) and layer.linears.is_current(layer):
            continue
        packable = _is_packable(layer)
        with torch.inference_mode(False), torch.no_grad():
            layer.linears = PackedLinears(layer) if packable else SeparateLinears(layer)
        moved |= packable
    return moved


def linear_modules(layer: PhiLayer) -> tuple[nn.Linear, ...]:
    """Return fc1, the projections of queries, keys and values, dense and fc2."""
    attention, mlp = layer.self_attn._modules, layer.mlp._modules  # `getattr` of each would take ten times as long
    names = (mlp["fc1"], attention["q_proj"], attention["k_proj"], attention["v_proj"], attention["dense"], mlp["fc2"])
    return cast("tuple[nn.Linear, ...]", names)


def _is_packable(layer: PhiLayer) -> bool:
    modules = linear_modules(layer)
    if layer.training or not all(type(module) in (nn.Linear, UpcastLinear) for module in modules):
        return False
    weights = [weight for module in modules for weight in (module.weight, module.bias)]
    return len({weight.dtype for weight in weights if weight is not None}) == 1 and all(
        type(weight) is nn.Parameter and weight.grad is None and not weight.is_inference() for weight in weights
    )


def _join(parameters: Sequence[Tensor], dim: int) -> Tensor:
    """Concatenate parameters and make them views of the result."""
    joined = torch.cat([parameter.detach() for parameter in parameters], dim)
    if dim == 1 and joined.numel() < _MIN_LARGE_WEIGHTS:
        joined = joined.t().contiguous().t()
    for parameter, view in zip(parameters, joined.split([one.shape[dim] for one in parameters], dim), strict=True):
        parameter.data = view
    return joined


def _addresses(modules: Sequence[nn.Module]) -> list[int]:
    return [weight.data_ptr() for module in modules for weight in module._parameters.values() if weight is not None]
