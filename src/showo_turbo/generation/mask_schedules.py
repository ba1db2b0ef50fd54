"""Mask schedules: how many codes stay masked after each step of parallel unmasking (MaskGIT, arXiv 2202.04200).

A mask schedule maps progress r in [0, 1], float32, to the masked fraction gamma(r), which falls from 1 to 0. The number
of codes that stay masked is the floor of the number of codes times gamma, so all arithmetic is float32, as published:
at r = 2/3 the last bit of the cosine decides between 31 and 32 of 64.
"""

import math
from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

from showo_turbo.validation import schedule_exponent

MaskSchedule = Callable[[Tensor], Tensor]
"""Maps progress to the masked fraction."""

_MIN_FRACTION = 1e-6


def cosine(progress: Tensor) -> Tensor:
    """Compute cos(pi r / 2), which is slow at first. Not clamped, so slightly below 0 at r = 1."""
    return torch.cos(progress * math.pi * 0.5)


def linear(progress: Tensor) -> Tensor:
    """Compute 1 - r."""
    return (1.0 - progress).clamp(_MIN_FRACTION, 1.0)


def sigmoid(progress: Tensor) -> Tensor:
    """Compute a falling logistic curve over [-3, 3], scaled to run from 1 to 0."""
    first, last = torch.sigmoid(torch.tensor([-3.0, 3.0], dtype=progress.dtype, device=progress.device))
    return ((last - torch.sigmoid(progress * 6.0 - 3.0)) / (last - first)).clamp(_MIN_FRACTION, 1.0)


def power(exponent: float) -> MaskSchedule:
    """Return the schedule 1 - r ** exponent."""
    return lambda progress: (1.0 - progress**exponent).clamp(_MIN_FRACTION, 1.0)


@lru_cache
def mask_schedule(name: str) -> MaskSchedule:
    """Return the schedule called `name`: "cosine", "linear", "sigmoid" or "powX" with a number X > 0, as in "pow2".

    Raises:
        InputError: if there is none of that name.
    """
    exponent = schedule_exponent(name)
    if exponent is not None:
        return power(exponent)
    return {"cosine": cosine, "linear": linear, "sigmoid": sigmoid}[str(name)]


@lru_cache
def mask_counts(schedule: MaskSchedule, num_inference_steps: int, num_codes: int) -> list[int]:
    """Return how many codes stay masked after each step."""
    counts = []
    for step in range(num_inference_steps):
        fraction = schedule(torch.tensor((step + 1) / num_inference_steps, dtype=torch.float32))
        counts.append(int((num_codes * fraction).floor()))
    return counts
