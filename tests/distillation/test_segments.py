"""Segments: every step is in one, none is empty, and the ends are in order, for all lengths and counts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from showo_turbo.distillation.segments import segment_end, segment_ends
from showo_turbo.errors import InputError


@given(st.integers(1, 70), st.integers(1, 70))
def test_ends_increase_to_the_last_state(length: int, segments: int) -> None:
    ends = segment_ends(length, segments)
    assert len(ends) == min(length, segments)
    assert ends[-1] == length
    assert all(before < after for before, after in zip([0, *ends], ends, strict=False))
    sizes = [after - before for before, after in zip([0, *ends], ends, strict=False)]
    assert max(sizes) - min(sizes) <= 1


@given(st.integers(1, 70), st.integers(1, 70), st.data())
def test_a_target_is_a_later_state_of_the_same_segment(length: int, segments: int, data: st.DataObject) -> None:
    step = data.draw(st.integers(0, length - 1))
    end = segment_end(step, length, segments)
    assert step < end <= length
    assert not any(step < other < end for other in segment_ends(length, segments))


@pytest.mark.parametrize("case", ["c0_pick3_seg1", "c3_pick0_seg1", "c3_pick5_seg4"])
def test_ends_equal_the_published_ones_for_divisible_lengths(recorded: dict[str, np.ndarray], case: str) -> None:
    steps = len(recorded[f"mmu_{case}/trajectory"]) - 1
    pick, segments, end = (int(recorded[f"mmu_{case}/{name}"]) for name in ("pick", "segments", "end_index"))
    assert segment_end(pick, steps, segments) == end


@pytest.mark.parametrize(("step", "length", "segments"), [(0, 0, 1), (0, 4, 0), (4, 4, 1), (-1, 4, 1)])
def test_invalid_arguments_are_refused(step: int, length: int, segments: int) -> None:
    with pytest.raises(InputError, match=r"trajectory of \d+ steps"):
        segment_end(step, length, segments)
