"""Orders of unmasking other than by confidence."""

import itertools
from collections.abc import Callable

import pytest
import torch

from showo_turbo.errors import InputError
from showo_turbo.generation.orders import bayer_ranks, halton_ranks, priorities
from showo_turbo.generation.scheduler import UnmaskingScheduler


@pytest.mark.parametrize("ranks_of", [halton_ranks, bayer_ranks])
def test_every_position_has_a_rank_and_early_positions_are_far_apart(
    ranks_of: Callable[[int], list[int]],
) -> None:
    ranks = ranks_of(8)
    assert sorted(ranks) == list(range(64))
    first = [divmod(ranks.index(rank), 8) for rank in range(4)]
    gaps = [abs(a[0] - b[0]) + abs(a[1] - b[1]) for a, b in itertools.pairwise(first)]
    assert min(gaps) >= 3


@pytest.mark.parametrize("side", [1, 2, 3, 6, 8, 12, 16, 32])
def test_the_bayer_order_settles_a_position_of_each_quarter_before_a_second_of_any(side: int) -> None:
    ranks = bayer_ranks(side)
    assert sorted(ranks) == list(range(side * side))
    if side % 4 == 0:
        half = side // 2
        quarters = [divmod(ranks.index(rank), side) for rank in range(side * side)]
        places = [(row // half, column // half) for row, column in quarters]
        assert all(len(set(places[start : start + 4])) == 4 for start in range(0, side * side, 4))
        center = half // 2
        assert quarters[:2] == [(center, center - 1), (center + half, center - 1 + half)]


@pytest.mark.parametrize("order", ["halton", "bayer"])
def test_positions_settle_in_that_order_and_known_codes_stay(order: str) -> None:
    scheduler = UnmaskingScheduler(codebook_size=8, order=order)
    scheduler.set_timesteps(4, num_codes=16)
    generator = torch.Generator().manual_seed(0)
    known = torch.zeros(2, 16, dtype=torch.bool)
    known[1, 3] = True
    codes, masked = torch.full((2, 16), 5), ~known
    given = priorities(order, 16)
    assert given is not None
    ranks = -given
    for step in range(4):
        logits = torch.randn(int(masked.sum()), 8, generator=generator)
        decided = scheduler.step(logits, step, codes, masked, generator)
        codes, masked = decided.candidates, decided.masked
        for row in range(2):
            waiting = ranks[masked[row]]
            settled = ranks[~masked[row] & ~known[row]]
            assert not len(settled) or settled.max() < waiting.min()
    assert codes[1, 3] == 5


def test_invalid_orders_raise() -> None:
    with pytest.raises(InputError, match="order is 'spiral': choose confidence, halton or bayer"):
        UnmaskingScheduler(codebook_size=8, order="spiral")
    for order in ("halton", "bayer"):
        with pytest.raises(InputError, match=f"{order}.*12 codes"):
            UnmaskingScheduler(codebook_size=8, order=order).set_timesteps(2, num_codes=12)
