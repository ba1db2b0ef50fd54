"""Orders of unmasking other than by confidence."""

import itertools

import pytest
import torch

from showo_turbo.errors import InputError
from showo_turbo.generation.orders import halton_ranks
from showo_turbo.generation.scheduler import UnmaskingScheduler


def test_every_position_has_a_rank_and_early_positions_are_far_apart() -> None:
    ranks = halton_ranks(64)
    assert ranks.sort().values.tolist() == list(range(64))
    first = [divmod(position, 8) for position in ranks.argsort()[:4].tolist()]
    gaps = [abs(a[0] - b[0]) + abs(a[1] - b[1]) for a, b in itertools.pairwise(first)]
    assert min(gaps) >= 3


def test_positions_settle_in_that_order_and_known_codes_stay() -> None:
    scheduler = UnmaskingScheduler(codebook_size=8, order="halton")
    scheduler.set_timesteps(4, num_codes=16)
    generator = torch.Generator().manual_seed(0)
    known = torch.zeros(2, 16, dtype=torch.bool)
    known[1, 3] = True
    codes, masked = torch.full((2, 16), 5), ~known
    ranks = halton_ranks(16)
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
    with pytest.raises(InputError, match="order is 'spiral': choose confidence or halton"):
        UnmaskingScheduler(codebook_size=8, order="spiral")
    with pytest.raises(InputError, match="12 codes"):
        UnmaskingScheduler(codebook_size=8, order="halton").set_timesteps(2, num_codes=12)
