"""Segments of a trajectory (Show-o Turbo, arXiv 2502.05415, section 3.2).

    states      0   1   2   3   4   5   6   7   8        8 steps
    4 segments  |-------|-------|-------|-------|        ends 2, 4, 6, 8
    target of   2   2   4   4   6   6   8   8   -        the end of the segment that a state lies in

A trajectory shorter than its segments are many has one segment a step, so no segment is ever empty.
"""

from showo_turbo.errors import InputError


def segment_ends(length: int, segments: int) -> list[int]:
    """Where the segments of a trajectory of `length` steps end, in order; the last one is `length`.

    Raises:
        InputError: when there is no step or no segment.
    """
    if length < 1 or segments < 1:
        raise InputError(f"a trajectory of {length} steps in {segments} segments: both are 1 or more")
    count = min(segments, length)
    return [length * number // count for number in range(1, count + 1)]


def segment_end(step: int, length: int, segments: int) -> int:
    """The end of the segment in which state `step`, 0 to length - 1, lies.

    Raises:
        InputError: as `segment_ends`, or when no segment begins at or after the step.
    """
    if not 0 <= step < length:
        raise InputError(f"step is {step}: a trajectory of {length} steps is left from states 0 to {length - 1}")
    return next(end for end in segment_ends(length, segments) if end > step)
