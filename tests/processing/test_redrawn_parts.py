"""Parts of an image that editing tasks redraw, and the random masks of training within them."""

import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from showo_turbo.processing.redrawn_parts import draw_redrawn_part, draw_redrawn_parts
from showo_turbo.training.supervised_batches import random_masking


@given(side=st.integers(2, 32), seed=st.integers(0, 2**32))
def test_at_least_one_code_is_redrawn(side: int, seed: int) -> None:
    part = draw_redrawn_part(side, random.Random(seed))
    assert part.shape == (side, side)
    assert part.dtype == torch.bool
    assert part.any()


def test_the_parts_are_rectangles_halves_and_random_codes() -> None:
    parts = [draw_redrawn_part(8, random.Random(seed)) for seed in range(300)]
    sizes = [(int(part.any(1).sum()), int(part.any(0).sum()), int(part.sum())) for part in parts]
    assert 70 < sum(size in ((4, 8, 32), (8, 4, 32)) for size in sizes) < 130
    assert 170 < sum(height * width == count for height, width, count in sizes) < 240  # halves are rectangles


@pytest.mark.parametrize(("share", "rows"), [(0.0, range(1)), (0.5, range(20, 44)), (1.0, range(58, 65))])
def test_a_share_of_the_images_keeps_a_part(share: float, rows: range) -> None:
    parts = draw_redrawn_parts(64, 8, share, random.Random(0))
    assert int((~parts).any(1).sum()) in rows


def test_masks_follow_the_cosine_distribution_and_have_at_least_one_position() -> None:
    masked = random_masking(torch.ones(4000, 64, dtype=torch.bool), torch.Generator().manual_seed(0))
    assert masked.any(1).all()
    assert masked.float().mean() == pytest.approx(2 / torch.pi, abs=0.02)


@given(side=st.integers(2, 12), seed=st.integers(0, 2**32))
def test_masks_lie_within_the_redrawn_part(side: int, seed: int) -> None:
    redrawn = draw_redrawn_parts(4, side, 0.5, random.Random(seed))
    masked = random_masking(redrawn, torch.Generator().manual_seed(seed))
    assert masked.any(1).all()
    assert not (masked & ~redrawn).any()
