"""Halton order: settle positions that are far apart first (arXiv 2503.17076).

The published sampler settles the most confident codes first ("confidence", MaskGIT's order). Easy codes come first and
neighbours come together, so where a prompt leaves much open, codes of one object that do not fit each other may be
sampled in the same step. The Halton order avoids this at no cost.
"""

from functools import cache
from math import isqrt

import torch
from torch import Tensor

from showo_turbo.errors import InputError


@cache
def halton_ranks(num_codes: int) -> Tensor:
    """Return the rank of each position of a square grid in Halton order, long (num_codes,), row-major: 0 is first.

    The two-dimensional Halton sequence with bases 2 (rows) and 3 (columns) visits every cell of the grid; cells are
    ranked by their first visit.

    Raises:
        InputError: if the codes do not form a square.
    """
    side = isqrt(num_codes)
    if side * side != num_codes:
        raise InputError(f"order 'halton' needs a square grid, but there are {num_codes} codes: choose 'confidence'")
    ranks: dict[int, int] = {}
    visit = 1
    while len(ranks) < num_codes:
        cell = int(side * _radical_inverse(visit, 2)) * side + int(side * _radical_inverse(visit, 3))
        ranks.setdefault(cell, len(ranks))
        visit += 1
    return torch.tensor([ranks[cell] for cell in range(num_codes)])


@cache
def halton_priorities(num_codes: int) -> Tensor:
    """Return float32 (num_codes,), the higher the earlier a position settles; see `halton_ranks`."""
    return -halton_ranks(num_codes).float()


def _radical_inverse(index: int, base: int) -> float:
    """Mirror the digits of `index` in a base at the point: a number in [0, 1)."""
    result, weight = 0.0, 1.0 / base
    while index:
        index, digit = divmod(index, base)
        result, weight = result + digit * weight, weight / base
    return result
