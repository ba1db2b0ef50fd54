"""Compute means of cases, and other statistics of counts, with confidence intervals."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

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


def bootstrap_interval(
    strata: Sequence[np.ndarray],
    statistic: Callable[[list[np.ndarray]], float],
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """Return the 95 % percentile interval of a statistic of sums; see `bootstrap`."""
    return percentile_interval(bootstrap(strata, statistic, resamples, seed))


def percentile_interval(values: np.ndarray) -> tuple[float, float]:
    """Return the interval of the middle 95 % of values of resamples, float (resamples,)."""
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def bootstrap(
    strata: Sequence[np.ndarray],
    statistic: Callable[[list[np.ndarray]], float],
    resamples: int = 1000,
    seed: int = 0,
) -> np.ndarray:
    """Return a statistic of sums in resamples of the groups, float (resamples,).

    Groups (the questions about one image) are drawn with replacement within each stratum (a task). A statistic of sums
    is a ratio of counts, an F1 score and the like; sums of all resamples are one matrix product.

    Which groups a resample holds depends on the numbers of groups, `resamples` and `seed` only. So with the same groups
    in the same order, resample i of two models has the same groups, and differences of their values are paired.

    Args:
        strata: float (groups, counts) of each stratum: the counts of its groups.
        statistic: maps the summed counts of each stratum, float (counts,), to the score.
        resamples: number of resamples.
        seed: seed of the choice.
    """
    rng = np.random.default_rng(seed)
    sums = []
    for counts in strata:
        groups = len(counts)
        chunk = max(1, 10**7 // groups)  # of resamples, so that the multiplicities of a chunk are in memory
        parts = [
            rng.multinomial(groups, np.full(groups, 1 / groups), size=min(chunk, resamples - start)) @ counts
            for start in range(0, resamples, chunk)
        ]
        sums.append(np.concatenate(parts))
    return np.array([statistic([of_stratum[number] for of_stratum in sums]) for number in range(resamples)])
