"""Compute means of binary cases with confidence intervals."""

import math
from dataclasses import dataclass

_Z95 = 1.959964


@dataclass(frozen=True)
class Estimate:
    """Hold a mean between 0 and 1 with its 95 % interval.

    Attributes:
        value: the mean.
        interval: lower and upper end.
    """

    value: float
    interval: tuple[float, float]


def mean_of_groups(groups: list[list[float]]) -> Estimate:
    """Return the mean of all cases; groups (the images of one prompt) are independent, cases of a group are not.

    The variance is the ratio estimator's over groups. It is converted to the number of independent cases of the same
    variance, at least the number of groups and at most the number of cases, and the interval is Wilson's for that
    number; so a fraction of 100 % has an interval too.
    """
    cases = sum(map(len, groups))
    value = sum(map(sum, groups)) / cases
    residuals = [sum(group) - value * len(group) for group in groups]
    variance = sum(r * r for r in residuals) / cases**2
    filled = sum(1 for group in groups if group)
    independent = min(cases, max(filled, value * (1 - value) / variance)) if variance else filled
    return Estimate(value, _wilson(value, independent))


def mean_of_estimates(estimates: list[Estimate]) -> Estimate:
    """Return the unweighted mean of independent estimates, as GenEval's overall score is of its categories."""
    count = len(estimates)
    value = sum(one.value for one in estimates) / count
    below = math.hypot(*(one.value - one.interval[0] for one in estimates)) / count
    above = math.hypot(*(one.interval[1] - one.value for one in estimates)) / count
    return Estimate(value, (value - below, value + above))


def _wilson(fraction: float, n: float) -> tuple[float, float]:
    center = (fraction + _Z95**2 / (2 * n)) / (1 + _Z95**2 / n)
    half = _Z95 / (1 + _Z95**2 / n) * math.sqrt(fraction * (1 - fraction) / n + _Z95**2 / (4 * n * n))
    return max(0.0, center - half), min(1.0, center + half)
