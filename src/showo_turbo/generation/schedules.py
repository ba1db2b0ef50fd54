"""Mask schedules: the fraction of an image that is still masked after a fraction of the steps (arXiv 2202.04200).

A schedule maps progress r in [0, 1], float32, to the masked fraction gamma(r), which falls from 1 to 0. The number of
codes that stay masked is the floor of the number of codes times gamma, so all arithmetic is float32, as published: at
r = 2/3 the last bit of the cosine decides between 31 and 32 of 64.
"""

import math
import re
from collections.abc import Callable

import torch
from torch import Tensor

from showo_turbo.errors import InputError

MaskSchedule = Callable[[Tensor], Tensor]

MIN_FRACTION = 1e-6


def cosine(progress: Tensor) -> Tensor:
    """Compute cos(pi r / 2), which is slow at first. Not clamped, so slightly below 0 at r = 1."""
    return torch.cos(progress * math.pi * 0.5)


def linear(progress: Tensor) -> Tensor:
    """Compute 1 - r."""
    return (1.0 - progress).clamp(MIN_FRACTION, 1.0)


def sigmoid(progress: Tensor) -> Tensor:
    """Compute a falling logistic curve over [-3, 3], scaled to run from 1 to 0."""
    first, last = torch.sigmoid(torch.tensor([-3.0, 3.0], device=progress.device))
    return ((last - torch.sigmoid(progress * 6.0 - 3.0)) / (last - first)).clamp(MIN_FRACTION, 1.0)


def power(exponent: float) -> MaskSchedule:
    """Return the schedule 1 - r ** exponent."""
    return lambda progress: (1.0 - progress**exponent).clamp(MIN_FRACTION, 1.0)


def mask_schedule(name: str) -> MaskSchedule:
    """Return the schedule called `name`: "cosine", "linear", "sigmoid" or "powX" with a number X > 0, as in "pow2".

    Raises:
        InputError: if there is none of that name.
    """
    named = {"cosine": cosine, "linear": linear, "sigmoid": sigmoid}
    if str(name) in named:
        return named[name]
    exponent = re.fullmatch(r"pow(\d+\.?\d*|\.\d+)", str(name))
    if exponent and float(exponent[1]) > 0:
        return power(float(exponent[1]))
    raise InputError(f"schedule {name!r} is unknown: use {', '.join(named)} or powX with a number X > 0, as in pow2")
