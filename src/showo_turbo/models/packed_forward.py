"""Run the transformer on packed rows of several sequences, with a KV cache for all other rows.

    prompts   p p p | p p            packed: p p p p p i i i i i i
    images    i i i | i i i          norms, projections, MLP: all rows at once, no padding
                                     attention: one group of sequences at a time, on a padded batch

One layer:

    hidden --project_keys_values--> keys, values ---> KV cache --+
       |                                                         +--attention--> mixed --mlp_and_residual--> hidden
       +-----> normed ----------project_queries--> queries ------+

Decisions:
- A group of sequences says where its rows stand and which KV cache they use; the cache decides what it stores.
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
from torch import Tensor
from torch.nn import functional as F

from showo_turbo.models.phi import PhiBackbone, PhiLayer, PhiRotaryEmbedding

Rotary = tuple[Tensor, Tensor]
"""Cosines and sines, each (rows, 1, half of the rotated part of a head)."""


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
            return packed.unflatten(0, self.shape)
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

    def update(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store keys and values of new rows in a layer and return all that the rows attend to.

        Args:
            layer: index of the layer.
            keys: (rows, heads, head size), rotated.
            values: (rows, heads, head size).

        Returns:
            Keys and values, each (sequences, columns, heads, head size).
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

    def attend(self, queries: Tensor, attended: tuple[Tensor, Tensor], scored_only: bool, scale: float) -> Tensor:
        """Compute attention, (rows, heads, head size), from the queries of all rows or of the scored ones."""
        layout, mask = self.layout, self.mask
        if scored_only:
            layout = self.scored_layout
            if mask is not None and mask.shape[2] > 1:
                rows = self.layout.unpad(mask[:, 0])[self.scored_rows]
                mask = layout.pad(rows, fill=True)[:, None]
        if not layout.size:
            return queries
        padded, keys, values = (one.transpose(1, 2) for one in (layout.pad(queries), *attended))
        grouped = keys.shape[1] < padded.shape[1]
        mixed = F.scaled_dot_product_attention(padded, keys, values, mask, scale=scale, enable_gqa=grouped)
        return layout.unpad(mixed.transpose(1, 2))


def project_keys_values(layer: PhiLayer, hidden: Tensor, rotary: Rotary) -> tuple[Tensor, Tensor, Tensor]:
    """Return rows after the layer norm (rows, hidden_size), rotated keys and values, each (rows, heads, head size)."""
    attention, normed = layer.self_attn, layer.input_layernorm(hidden)
    keys = attention.k_proj(normed).unflatten(-1, (-1, attention.head_dim))
    values = attention.v_proj(normed).unflatten(-1, (-1, attention.head_dim))
    return normed, _rotate(attention.k_layernorm(keys) if attention.qk_layernorm else keys, rotary), values


def project_queries(layer: PhiLayer, normed: Tensor, rotary: Rotary) -> Tensor:
    """Return rotated queries, (rows, heads, head size)."""
    attention = layer.self_attn
    queries = attention.q_proj(normed).unflatten(-1, (-1, attention.head_dim))
    return _rotate(attention.q_layernorm(queries) if attention.qk_layernorm else queries, rotary)


def mlp_and_residual(layer: PhiLayer, hidden: Tensor, normed: Tensor, mixed: Tensor) -> Tensor:
    """Return the output of a layer from its input, the normed input and attention, all (rows, hidden_size)."""
    return layer.self_attn.dense(mixed).add_(layer.mlp(normed)).add_(hidden)


def _rotate(states: Tensor, rotary: Rotary) -> Tensor:
    """Apply the rotary embedding to the first part of each head, (rows, heads, head size), in place."""
    cosines, sines = rotary
    half = cosines.shape[-1]
    first, second = states[..., :half], states[..., half : 2 * half]
    turned = first * sines
    first.mul_(cosines).addcmul_(second, sines, value=-1)
    second.mul_(cosines).add_(turned)
    return states


@dataclass(frozen=True)
class LayerOps:
    """Hold the position-wise functions of a layer, plain or compiled."""

    project_keys_values: Callable[[PhiLayer, Tensor, Rotary], tuple[Tensor, Tensor, Tensor]] = project_keys_values
    project_queries: Callable[[PhiLayer, Tensor, Rotary], Tensor] = project_queries
    mlp_and_residual: Callable[[PhiLayer, Tensor, Tensor, Tensor], Tensor] = mlp_and_residual


def rotary_embedding(phi: PhiBackbone, positions: Tensor, hidden: Tensor) -> Rotary:
    """Return cosines and sines of positions, long (rows,), in the dtype of `hidden`."""
    if isinstance(phi.rotary_emb, PhiRotaryEmbedding):
        angles = positions[:, None, None].float() * phi.rotary_emb.inv_freq.to(positions.device, torch.float)
        return angles.cos().to(hidden.dtype), angles.sin().to(hidden.dtype)
    cosines, sines = phi.rotary_emb(hidden, positions[None])
    return cosines[0, :, None].chunk(2, -1)[0], sines[0, :, None].chunk(2, -1)[0]


def packed_forward(phi: PhiBackbone, ops: LayerOps, embeddings: Tensor, groups: Sequence[PackedSequences]) -> Tensor:
    """Return hidden states (scored rows, hidden_size) after the final layer norm, group after group.

    Args:
        phi: the transformer.
        ops: position-wise functions of its layers.
        embeddings: (rows, hidden_size), of all groups.
        groups: the sequences that the rows belong to, in order.
    """
    hidden = embeddings
    positions = torch.cat([group.positions for group in groups])
    rotary = rotary_embedding(phi, positions, hidden)
    counts = [group.layout.size for group in groups]
    layers = cast("Sequence[PhiLayer]", phi.layers)
    for number, layer in enumerate(layers):
        last = number == len(layers) - 1
        normed, keys, values = ops.project_keys_values(layer, hidden, rotary)
        attended = [
            group.cache.update(number, *own)
            for group, *own in zip(groups, keys.split(counts), values.split(counts), strict=True)
        ]
        if last:
            first_rows = accumulate(counts, initial=0)
            scored = torch.cat([group.scored_rows + first for group, first in zip(groups, first_rows, strict=False)])
            hidden, normed, rotary = hidden[scored], normed[scored], (rotary[0][scored], rotary[1][scored])
            if not len(hidden):
                return hidden
            counts = [group.scored_layout.size for group in groups]
        queries = ops.project_queries(layer, normed, rotary)
        mixed = [
            group.attend(own, columns, last, layer.self_attn.scaling)
            for group, own, columns in zip(groups, queries.split(counts), attended, strict=True)
        ]
        joined = torch.cat(mixed) if len(mixed) > 1 else mixed[0]
        hidden = ops.mlp_and_residual(layer, hidden, normed, joined.flatten(1))
    return phi.final_layernorm(hidden)
