"""Group results that can be compared, and tell differences from noise.

Decisions:
- Results are in one group if they score the same items by the same judge. Groups are never merged.
- Whatever else the results of a group differ in (model, sampling, precision, versions) is named in its rows.
- Differences are against the first result of a group, by the paired bootstrap: both are computed in the same resamples
  of the items, so what is hard for all models cancels. One is inside the noise if its 95 % interval has 0 in it, or if
  there are too few items for an interval.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from showo_turbo.errors import InputError
from showo_turbo.evaluation.benchmark_results import BenchmarkResult
from showo_turbo.evaluation.statistics import percentile_interval

FEWEST_GROUPS = 10
"""Number of groups of items below which a bootstrap interval is too narrow: two prompts often agree by chance."""


@dataclass(frozen=True)
class Difference:
    """Hold the difference of a score from the reference.

    Attributes:
        value: score less reference.
        interval: its paired 95 % interval; None if the scores have no resamples.
        groups: number of groups of items that it is computed from.
    """

    value: float
    interval: tuple[float, float] | None
    groups: int

    @property
    def has_enough_items(self) -> bool:
        """Whether there are enough groups for the interval to mean something."""
        return self.groups >= FEWEST_GROUPS

    @property
    def is_noise(self) -> bool:
        """Whether 0 is in the interval, or there are too few items to tell."""
        if self.interval is None:
            return False
        return not self.has_enough_items or self.interval[0] <= 0 <= self.interval[1]


@dataclass(frozen=True)
class ResultGroup:
    """Hold results that can be compared.

    Attributes:
        title: name of the benchmark, with a number if it has several groups.
        results: in the order of the rows, by falling number of steps.
        reference: what others are compared with.
        unlike: names of the conditions in which it differs from other groups of its benchmark.
        names: names of the settings in which its results differ, the model always.
    """

    title: str
    results: Sequence[BenchmarkResult]
    reference: BenchmarkResult
    unlike: Sequence[str]
    names: Sequence[str]

    @property
    def draws(self) -> bool:
        """Whether the outputs are images."""
        return self.reference.steps is not None

    @property
    def scores(self) -> list[str]:
        """Names of the scores, the main one first."""
        return list(dict.fromkeys(name for result in self.results for name in result.scores))

    def difference(self, result: BenchmarkResult, name: str) -> Difference | None:
        """Return the difference of a score from the reference's; None if one of them has no such score."""
        if name not in result.scores or name not in self.reference.scores:
            return None
        ours, theirs = result.scores[name], self.reference.scores[name]
        interval = None
        if ours.resamples is not None and theirs.resamples is not None and len(ours.resamples) == len(theirs.resamples):
            interval = percentile_interval(ours.resamples - theirs.resamples)
        return Difference(ours.value - theirs.value, interval, ours.groups)

    def label(self, result: BenchmarkResult, without: Sequence[str] = ()) -> str:
        """Return model and steps of a result, other settings or its folder where these do not tell results apart."""
        names = [name for name in ("model", "steps") if name in self.names]
        for name in self.names:
            kinds = len({tuple(one.settings.get(known) for known in names) for one in self.results})
            split = len({tuple(one.settings.get(known) for known in [*names, name]) for one in self.results})
            names += [name] if split > kinds else []
        words = []
        for name in names:
            text = result.settings.get(name, "none")
            own = {"model": text, "steps": f"{text} step{'s' * (text != '1')}"}
            words += [] if name in without else [own.get(name, f"{name} {text}")]
        is_alone = sum(one.settings == result.settings for one in self.results) == 1
        return ", ".join(words) + ("" if is_alone else f" ({result.folder.name})")


def group_results(results: Sequence[BenchmarkResult]) -> list[ResultGroup]:
    """Group results by benchmark and conditions, in the order in which they are given.

    Raises:
        InputError: if a folder is given twice.
    """
    folders = [result.folder.resolve() for result in results]
    for folder, result in zip(folders, results, strict=True):
        if folders.count(folder) > 1:
            raise InputError(f"result {str(result.folder)!r} is given twice: give each folder once")
    by_benchmark: dict[str, dict[tuple, list[BenchmarkResult]]] = {}
    for result in results:
        groups = by_benchmark.setdefault(result.benchmark.name, {})
        groups.setdefault(tuple(result.conditions.items()), []).append(result)
    found = []
    for groups in by_benchmark.values():
        conditions = [dict(key) for key in groups]
        unlike = [name for name in conditions[0] if len({one[name] for one in conditions}) > 1]
        for number, group in enumerate(groups.values(), 1):
            title = group[0].benchmark.title + (f" [{number}]" if len(groups) > 1 else "")
            ordered = sorted(group, key=lambda result: -(result.steps or 0))
            found.append(ResultGroup(title, ordered, group[0], unlike, differing_settings(group)))
    return found


def differing_settings(results: Sequence[BenchmarkResult]) -> list[str]:
    """Return the names of the settings in which results differ; the model and the steps of images always.

    Weights are named where models of one name have different ones.
    """
    names = list(dict.fromkeys(name for result in results for name in result.settings))
    weights: dict[str, set[str]] = {}
    for result in results:
        weights.setdefault(result.settings["model"], set()).add(result.settings["weights"])
    chosen = []
    for name in names:
        if name == "weights":
            differs = any(len(hashes) > 1 for hashes in weights.values())
        else:
            differs = name in ("model", "steps") or len({result.settings.get(name) for result in results}) > 1
        if differs:
            chosen.append(name)
    return chosen
