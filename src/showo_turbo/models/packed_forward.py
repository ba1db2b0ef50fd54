"""Run the transformer on packed rows of several sequences, with a KV cache for all other rows.

    prompts   p p p | p p            packed: p p p p p i i i i i i
    images    i i i | i i i          norms, projections, MLP: all rows at once, no padding
                                     attention: one group of sequences at a time, on a padded batch

One layer:

             +--> keys, values --> KV cache --+
    hidden --project--> queries --------------+--attention--> mixed --+--combine, MLP--> hidden
             +--> normalised rows ------------------------------------+

Decisions:
- A group of sequences says where its rows stand and which KV cache they use; the cache decides what it stores.
- How a layer multiplies by its weights is chosen once (`backends.linear.pack_layers`): queries, keys and values in one
  product, and small weights stored transposed.
- Queries and keys are rotated where the product has written them, together, and keys and values go from there to the KV
  cache in one copy. `slice`s of the three parts are what a layer computes: the last one needs keys and values of all
  rows, and queries of some.
- The MLP comes after attention, so that queries, keys and values are still in the CPU's cache there.
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

from showo_turbo.backends.linear import tanh_gelu_
from showo_turbo.models.phi import PhiAttention, PhiBackbone, PhiLayer, PhiRotaryEmbedding

_ALL, _QUERIES, _KEYS_VALUES = slice(None), slice(-2), slice(-2, None)

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
    """Return rows after the layer norm (rows, hidden_size), queries (rows, heads, head size), and keys and values.

    Queries and keys are rotated. Keys and values are one tensor, (2, rows, heads, head size).
    """
    attention, normed = layer.self_attn, layer.input_layernorm(hidden)
    states = _split_heads(layer.linears.attention(normed, _ALL), attention)
    queries, keys = states[_QUERIES], states[-2]
    if attention.qk_layernorm:
        queries.copy_(attention.q_layernorm(queries))
        keys.copy_(attention.k_layernorm(keys))
    _rotate(states[:-1], rotary)
    return normed, queries.transpose(0, 1).flatten(1, 2), states[_KEYS_VALUES]


def project_keys_values(layer: PhiLayer, hidden: Tensor, rotary: Rotary) -> tuple[Tensor, Tensor]:
    """Return rows after the layer norm (rows, hidden_size), and keys and values (2, rows, heads, head size)."""
    attention, normed = layer.self_attn, layer.input_layernorm(hidden)
    states = _split_heads(layer.linears.attention(normed, _KEYS_VALUES), attention)
    keys = states[0]
    if attention.qk_layernorm:
        keys.copy_(attention.k_layernorm(keys))
    _rotate(keys, rotary)
    return normed, states


def project_queries(layer: PhiLayer, normed: Tensor, rotary: Rotary) -> Tensor:
    """Return rotated queries (rows, heads, head size)."""
    attention = layer.self_attn
    queries = _split_heads(layer.linears.attention(normed, _QUERIES), attention)
    if attention.qk_layernorm:
        queries.copy_(attention.q_layernorm(queries))
    _rotate(queries, rotary)
    return queries.transpose(0, 1).flatten(1, 2)


def combine(layer: PhiLayer, hidden: Tensor, normed: Tensor, mixed: Tensor) -> Tensor:
    """Return the output of a layer from its input, the normalised input and attention, all (rows, ...)."""
    dense, mlp = layer.self_attn.dense, layer.mlp
    if not layer.linears.is_transposed:
        return dense(mixed).add_(mlp(normed)).add_(hidden)
    first, fc2 = cast(nn.Linear, mlp.fc1)(normed), cast(nn.Linear, mlp.fc2)
    activation = cast(nn.Module, mlp.activation_fn)
    is_tanh_gelu = isinstance(activation, nn.GELU) and activation.approximate == "tanh"
    activated = tanh_gelu_(first) if is_tanh_gelu else activation(first)
    total = hidden.add(dense.bias).add_(fc2.bias)
    return torch.addmm(torch.addmm(total, mixed, dense.weight.t()), activated, fc2.weight.t())


def _split_heads(states: Tensor, attention: PhiAttention) -> Tensor:
    """Split (parts, rows, kv heads * head size) into (parts, rows, kv heads, head size)."""
    return states.unflatten(-1, (attention.kv_heads, attention.head_dim))


def _rotate(states: Tensor, rotary: Rotary) -> None:
    """Apply the rotary embedding to the first part of each head, (..., rows, heads, head size), in place."""
    cosines, sines = rotary
    turned = states[..., : cosines.shape[-1]]
    swapped = turned.roll(cosines.shape[-1] // 2, -1)
    turned.mul_(cosines).addcmul_(swapped, sines)


def rotary_embedding(phi: PhiBackbone, positions: Tensor, hidden: Tensor) -> Rotary:
    """Return factors of positions, long (rows,), in the dtype of `hidden`."""
    if isinstance(phi.rotary_emb, PhiRotaryEmbedding):
        angles = positions[:, None, None].float() * phi.rotary_emb.inv_freq.to(positions.device, torch.float)
        cosines, sines = angles.cos(), angles.sin()
    else:
        both = phi.rotary_emb(hidden, positions[None])
        cosines, sines = (one[0, :, None].chunk(2, -1)[0] for one in both)
    return torch.cat((cosines, cosines), -1).to(hidden.dtype), torch.cat((-sines, sines), -1).to(hidden.dtype)


@dataclass(frozen=True)
class LayerOps:
    """Hold the position-wise functions of a layer, plain or compiled."""

    project: Callable[[PhiLayer, Tensor, Rotary], tuple[Tensor, Tensor, Tensor]] = project
    project_keys_values: Callable[[PhiLayer, Tensor, Rotary], tuple[Tensor, Tensor]] = project_keys_values
    project_queries: Callable[[PhiLayer, Tensor, Rotary], Tensor] = project_queries
    combine: Callable[[PhiLayer, Tensor, Tensor, Tensor], Tensor] = combine
    rotary_embedding: Callable[[PhiBackbone, Tensor, Tensor], Rotary] = rotary_embedding


def packed_forward(phi: PhiBackbone, ops: LayerOps, embeddings: Tensor, groups: Sequence[PackedSequences]) -> Tensor:
    """Return hidden states (scored rows, hidden_size) after the final layer norm, group after group.

    Args:
        phi: the transformer, whose layers `backends.linear.pack_layers` has prepared.
        ops: position-wise functions of its layers.
        embeddings: (rows, hidden_size), of all groups.
        groups: the sequences that the rows belong to, in order.
    """
    hidden = embeddings
    rotary = ops.rotary_embedding(phi, torch.cat([group.positions for group in groups]), hidden)
    counts = [group.layout.size for group in groups]
    *layers, last = cast("Sequence[PhiLayer]", phi.layers)
    for number, layer in enumerate(layers):
        normed, queries, keys_values = ops.project(layer, hidden, rotary)
        attended = _update(groups, number, keys_values.split(counts, 1))
        mixed = _attend(groups, layer, queries.split(counts), attended, scored_only=False)
        hidden = ops.combine(layer, hidden, normed, mixed)

    normed, keys_values = ops.project_keys_values(last, hidden, rotary)
    attended = _update(groups, len(layers), keys_values.split(counts, 1))
    first_rows = accumulate(counts, initial=0)
    scored = torch.cat([group.scored_rows + first for group, first in zip(groups, first_rows, strict=False)])
    if not scored.shape[0]:
        return hidden[scored]
    hidden, normed = hidden[scored], normed[scored]
    queries = ops.project_queries(last, normed, (rotary[0][scored], rotary[1][scored]))
    counts = [group.scored_layout.size for group in groups]
    mixed = _attend(groups, last, queries.split(counts), attended, scored_only=True)
    return phi.final_layernorm(ops.combine(last, hidden, normed, mixed))


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
