"""One pass of the transformer over some rows of a batch of sequences, whose other rows' keys and values are kept.

    part 1, prompts   p p p | p p            packed: p p p p p i i i i i i
    part 2, images    i i i | i i i          norms, projections, MLP: all rows at once, no padding
                                             attention: part by part, on a padded grid of sequences

Decisions:
- A part says where its rows stand and hands out the keys and values they look at; it keeps its own rows' as it likes.
- Of the last layer, rows nobody asks about need keys and values only: queries, projection and MLP run on asked rows.
- `Showo.forward` is the plain path (all rows, nothing kept), and what the tests compare this one with. PhiModel cannot
  do it: its forward computes every row in every layer. So the layers' modules are transformers', their order is here
  and, for what concerns each row by itself, in `row_math`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PhiModel

from showo_turbo.models.layer_ops import RowMath


class Grid:
    """Rows of several sequences, packed one sequence after the other, and the same rows as a padded grid.

    packed   a a a b c c        grid   a a a
                                       b . .
                                       c c .
    """

    def __init__(self, counts: Sequence[int], device: torch.device | str | None = None) -> None:
        """Lay out sequences of so many rows; 0 is allowed."""
        self.size = sum(counts)
        self.shape = (len(counts), max(counts, default=0))
        self.places = None
        if self.size != self.shape[0] * self.shape[1]:
            column = torch.arange(self.shape[1])
            filled = column < torch.tensor(counts)[:, None]
            self.places = filled.flatten().nonzero()[:, 0].to(device)

    def spread(self, packed: Tensor, empty: float | bool = 0) -> Tensor:
        """(rows, ...) -> (sequences, longest, ...), with `empty` where there is no row."""
        if self.places is None:
            return packed.unflatten(0, self.shape)
        grid = packed.new_full((self.shape[0] * self.shape[1], *packed.shape[1:]), empty)
        return grid.index_copy_(0, self.places, packed).unflatten(0, self.shape)

    def pack(self, grid: Tensor) -> Tensor:
        """(sequences, longest, ...) -> (rows, ...)."""
        flat = grid.flatten(0, 1)
        return flat if self.places is None else flat[self.places]


class KeyValues(Protocol):
    """What rows of a part look at."""

    @property
    def lasting(self) -> tuple[Tensor, ...]:
        """Rooms that outlast the pass, which reads and writes them where they are."""

    def update(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Take note of the rows' own keys and values in a layer, and hand out those they look at.

        Args:
            layer: its number.
            keys: (rows, heads, head size), rotated.
            values: (rows, heads, head size).

        Returns:
            Keys and values, each (sequences, columns, heads, head size).
        """


@dataclass(frozen=True)
class Part:
    """Rows that attend together.

    Attributes:
        grid: which sequences they belong to.
        positions: long (rows,), for the rotary embedding, which knows distances only.
        key_values: what they look at.
        mask: bool (sequences, 1, longest or 1, columns), True where a row may look; None if everywhere.
        asked: long, in ascending order, the rows whose hidden states are wanted.
        asked_grid: which sequences those belong to.
    """

    grid: Grid
    positions: Tensor
    key_values: KeyValues
    mask: Tensor | None
    asked: Tensor
    asked_grid: Grid

    def attend(self, queries: Tensor, seen: tuple[Tensor, Tensor], asked_only: bool, scale: float) -> Tensor:
        """Mix values: (rows, heads, head size) from queries of all rows or of the asked ones."""
        grid, mask = (self.asked_grid, self._asked_mask()) if asked_only else (self.grid, self.mask)
        if not grid.size:
            return queries
        spread, keys, values = (one.transpose(1, 2) for one in (grid.spread(queries), *seen))
        several = keys.shape[1] < spread.shape[1]
        mixed = F.scaled_dot_product_attention(spread, keys, values, mask, scale=scale, enable_gqa=several)
        return grid.pack(mixed.transpose(1, 2))

    def _asked_mask(self) -> Tensor | None:
        if self.mask is None or self.mask.shape[2] == 1:
            return self.mask
        rows = self.grid.pack(self.mask[:, 0])[self.asked]
        return self.asked_grid.spread(rows, empty=True)[:, None]


def run_pass(phi: PhiModel, math: RowMath, embeddings: Tensor, parts: Sequence[Part]) -> Tensor:
    """Hidden states (asked rows, hidden_size) after the final layer norm, part after part.

    Args:
        phi: the transformer.
        math: what computes its layers, but for attention.
        embeddings: (rows, hidden_size), of all parts.
        parts: whose rows they are, in order.
    """
    hidden = embeddings
    positions = torch.cat([part.positions for part in parts])
    rotary = tuple(table[0, :, None].chunk(2, -1)[0] for table in phi.rotary_emb(hidden, positions[None]))
    last = len(phi.layers) - 1
    for number, layer in enumerate(phi.layers):
        normed, keys, values = math.keys_values(layer, hidden, rotary)
        seen = _remember(number, keys, values, parts)
        if number == last:
            asked = _asked_rows(parts)
            hidden, normed, *rotary = (one[asked] for one in (hidden, normed, *rotary))
            if not len(hidden):
                return hidden
        queries = math.queries(layer, normed, tuple(rotary))
        mixed = _attend(queries, seen, parts, number == last, layer.self_attn.scaling)
        hidden = math.finish(layer, hidden, normed, mixed)
    return phi.final_layernorm(hidden)


def _remember(layer: int, keys: Tensor, values: Tensor, parts: Sequence[Part]) -> list[tuple[Tensor, Tensor]]:
    """Keys and values of all rows, handed to their parts; what each part looks at."""
    counts = [part.grid.size for part in parts]
    pieces = zip(parts, _pieces(keys, counts), _pieces(values, counts), strict=True)
    return [part.key_values.update(layer, *own) for part, *own in pieces]


def _attend(
    queries: Tensor, seen: Sequence[tuple[Tensor, Tensor]], parts: Sequence[Part], asked_only: bool, scale: float
) -> Tensor:
    """What attention mixes for the rows, (rows, hidden_size)."""
    counts = [(part.asked_grid if asked_only else part.grid).size for part in parts]
    mixed = [
        part.attend(own, columns, asked_only, scale)
        for part, own, columns in zip(parts, _pieces(queries, counts), seen, strict=True)
    ]
    return (torch.cat(mixed) if len(mixed) > 1 else mixed[0]).flatten(1)


def _pieces(rows: Tensor, counts: Sequence[int]) -> Sequence[Tensor]:
    """The rows of each part."""
    return rows.split(counts) if len(counts) > 1 else [rows]


def _asked_rows(parts: Sequence[Part]) -> Tensor:
    """Numbers of the asked rows among those of all parts."""
    first = accumulate((part.grid.size for part in parts), initial=0)
    return torch.cat([part.asked + offset for part, offset in zip(parts, first, strict=False)])
