"""Segments of a trajectory (Show-o Turbo, arXiv 2502.05415, section 3.2).

    states      0   1   2   3   4   5   6   7   8        8 steps
    4 segments  |-------|-------|-------|-------|        ends 2, 4, 6, 8
    target of   2   2   4   4   6   6   8   8   -        the end of the segment that holds the state

A trajectory with fewer steps than segments has one segment per step, so no segment is empty.
"""

from showo_turbo.errors import InputError


def segment_ends(length: int, segments: int) -> list[int]:
    """Return the ends of the segments of a trajectory of `length` steps, in order; the last one is `length`.

    Raises:
        InputError: if there is no step or no segment.
    """
    if length < 1 or segments < 1:
        raise InputError(f"a trajectory of {length} steps in {segments} segments: both are 1 or more")
    count = min(segments, length)
    return [length * number // count for number in range(1, count + 1)]


def segment_end(step: int, length: int, segments: int) -> int:
    """Return the end of the segment that holds state `step`, 0 to length - 1.

    Raises:
        InputError: as `segment_ends`, or if no segment holds the state.
    """
    if not 0 <= step < length:
        raise InputError(f"step is {step}: a trajectory of {length} steps starts from states 0 to {length - 1}")
    return next(end for end in segment_ends(length, segments) if end > step)
