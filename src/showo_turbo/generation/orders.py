"""Fixed orders of unmasking: settle positions that are far apart first.

The published sampler settles the most confident codes first ("confidence", MaskGIT's order). Easy codes come first and
neighbours come together, so where a prompt leaves much open, codes of one object that do not fit each other may be
sampled in the same step. A fixed order avoids this at no cost.

    halton   rows by the radical inverse in base 2, columns in base 3 (arXiv 2503.17076)
    bayer    the centers of the four quarters, then those of the sixteenths, and so on, as in ordered dithering

On a grid of 4 x 4, from the first position (0) to the last:

    bayer  15  7 13  5
            0  8  2 10
           12  4 14  6
            3 11  1  9
"""

from functools import cache
from math import isqrt

import torch
from torch import Tensor

from showo_turbo.errors import InputError


def halton_ranks(side: int) -> list[int]:
    """Rank the positions of a square grid, row-major: 0 is first.

    The two-dimensional Halton sequence with bases 2 (rows) and 3 (columns) visits every cell of the grid; cells are
    ranked by their first visit.
    """
    ranks: dict[int, int] = {}
    visit = 1
    while len(ranks) < side * side:
        cell = int(side * _radical_inverse(visit, 2)) * side + int(side * _radical_inverse(visit, 3))
        ranks.setdefault(cell, len(ranks))
        visit += 1
    return [ranks[cell] for cell in range(side * side)]


def bayer_ranks(side: int) -> list[int]:
    """Rank the positions of a square grid, row-major, by a Bayer matrix: 0 is first.

    The first position is the lower left one of the four cells around the center of the first quarter.
    A side that is no power of two ranks by the matrix of the next one.
    """
    digits = (side - 1).bit_length()

    def shift(first: int) -> list[int]:
        return [(index - first) % side * 2**digits // side for index in range(side)]

    rows, columns = shift(side // 4), shift((side - 1) // 4)
    entries = [_bayer_entry(row, column, digits) for row in rows for column in columns]
    ranks = {entry: rank for rank, entry in enumerate(sorted(entries))}
    return [ranks[entry] for entry in entries]


_RANKS = {"halton": halton_ranks, "bayer": bayer_ranks}


@cache
def priorities(order: str, num_codes: int) -> Tensor | None:
    """Return float32 (num_codes,), the higher the earlier a position settles; None for the order "confidence".

    Raises:
        InputError: if the order needs a square grid and the codes do not form one.
    """
    if order not in _RANKS:
        return None
    side = isqrt(num_codes)
    if side * side != num_codes:
        raise InputError(f"order {order!r} needs a square grid, but there are {num_codes} codes: choose 'confidence'")
    return -torch.tensor(_RANKS[order](side), dtype=torch.float32)


def _radical_inverse(index: int, base: int) -> float:
    """Mirror the digits of `index` in a base at the point: a number in [0, 1)."""
    result, weight = 0.0, 1.0 / base
    while index:
        index, digit = divmod(index, base)
        result, weight = result + digit * weight, weight / base
    return result


def _bayer_entry(row: int, column: int, digits: int) -> int:
    """Return an entry of the Bayer matrix of side 2 ** digits: its quarters come in the order 0 2 / 3 1, at all scales.

    The halves of the whole grid, which the highest digits of row and column tell, count least.
    """
    entry = 0
    for digit in range(digits):
        low, right = row >> digit & 1, column >> digit & 1
        entry = entry * 4 + (0, 2, 3, 1)[2 * low + right]
    return entry
