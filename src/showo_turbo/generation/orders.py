"""Which codes to settle first: the most confident ones, or an order of places fixed in advance.

`confidence` is MaskGIT's and the published sampler's. Easy codes come first and neighbours come together, so where a
prompt leaves much open, several codes of one object may be drawn in one step that do not fit each other. `halton`
settles places far apart first (arXiv 2503.17076), which avoids just that, and costs nothing.
"""

from functools import cache
from math import isqrt

import torch
from torch import Tensor

from showo_turbo.errors import InputError

ORDERS = ("confidence", "halton")


def check_order(name: str) -> str:
    """The name, if it is one of ORDERS.

    Raises:
        InputError: otherwise.
    """
    if name not in ORDERS:
        raise InputError(f"order is {name!r}: choose {' or '.join(ORDERS)}")
    return name


@cache
def halton_ranks(num_codes: int) -> Tensor:
    """When each place of a square grid has its turn, long (num_codes,), row-major: 0 first.

    The two-dimensional Halton sequence with bases 2 (rows) and 3 (columns) visits every cell of the grid; a cell's
    turn is its first visit.

    Raises:
        InputError: when the codes make no square.
    """
    side = isqrt(num_codes)
    if side * side != num_codes:
        raise InputError(f"order 'halton' needs a square grid, but there are {num_codes} codes: choose 'confidence'")
    turns: dict[int, int] = {}
    visit = 1
    while len(turns) < num_codes:
        cell = int(side * _radical_inverse(visit, 2)) * side + int(side * _radical_inverse(visit, 3))
        turns.setdefault(cell, len(turns))
        visit += 1
    return torch.tensor([turns[cell] for cell in range(num_codes)])


def _radical_inverse(index: int, base: int) -> float:
    """The digits of `index` in a base, mirrored at the point: a number in [0, 1)."""
    result, weight = 0.0, 1.0 / base
    while index:
        index, digit = divmod(index, base)
        result, weight = result + digit * weight, weight / base
    return result
