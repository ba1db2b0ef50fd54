"""Describe a benchmark: the same fields for all, so that one driver runs every one of them.

official data file --read--> items --driver--> images --write--> the files of the official scorer --score--> scores
                                           \\-> answers --export--> the files of the official scorer --score--> scores
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from showo_turbo.errors import InputError
from showo_turbo.evaluation.items import BenchmarkData, Item
from showo_turbo.evaluation.statistics import bootstrap, mean_of_groups, percentile_interval

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Score:
    """Hold a score in the unit of published tables.

    Attributes:
        value: the score.
        interval: its 95 % interval; None if a judge reports no scores of single items.
        resamples: float (resamples,), its values in resamples of the items, the same items for every model; see
            `statistics.bootstrap`. None if there is no interval.
        groups: number of groups of items that resamples are made of, such as the images that questions are about.
        by_item: score of each item by its id, of the main score only.
    """

    value: float
    interval: tuple[float, float] | None = None
    resamples: np.ndarray | None = field(default=None, repr=False, compare=False)
    groups: int = field(default=0, repr=False, compare=False)
    by_item: Mapping[str, float] | None = field(default=None, repr=False, compare=False)

    @classmethod
    def of_groups(
        cls, groups: Sequence[list[float]], scale: float = 1.0, by_item: Mapping[str, float] | None = None
    ) -> "Score":
        """Return the mean of the cases of all groups with Wilson's interval; see `mean_of_groups`.

        Args:
            groups: fractions.
            scale: unit of the score, such as 100 for percent.
            by_item: fraction of each item by its id.
        """
        estimate = mean_of_groups(list(groups))
        low, high = estimate.interval
        counts = np.array([[sum(group), len(group)] for group in groups], dtype=float)
        return cls(
            scale * estimate.value,
            (scale * low, scale * high),
            scale * bootstrap([counts], ratio_of_sums),
            len(counts),
            None if by_item is None else {name: scale * value for name, value in by_item.items()},
        )

    @classmethod
    def of_counts(
        cls,
        strata: Sequence[np.ndarray],
        statistic: Callable[[list[np.ndarray]], float],
        by_item: Mapping[str, float] | None = None,
    ) -> "Score":
        """Return a statistic of sums with its bootstrap interval; see `bootstrap`."""
        resamples = bootstrap(strata, statistic)
        value = statistic([counts.sum(axis=0) for counts in strata])
        return cls(value, percentile_interval(resamples), resamples, sum(map(len, strata)), by_item)


def ratio_of_sums(sums: list[np.ndarray]) -> float:
    """Return the mean of cases from the sums of one stratum, (total, number of cases)."""
    return float(sums[0][0] / sums[0][1])


@dataclass(frozen=True)
class DataPaths:
    """Hold where the data of a benchmark is.

    Attributes:
        data: the official file or folder.
        images: folder of images that questions are about.
        references: what outputs are compared with, where `data` does not hold it.
        split: part of the data.
    """

    data: Path
    images: Path | None = None
    references: Path | None = None
    split: str | None = None

    def require_references(self, what: str) -> Path:
        """Return the references.

        Raises:
            InputError: if they are not given.
        """
        if self.references is None:
            raise InputError(f"references are missing: give {what} as --references")
        return self.references


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """Describe a benchmark.

    Attributes:
        name: on the command line.
        title: as papers write it.
        measures: what a score says, in a sentence.
        data: what `--data` is, and where it is to be had.
        licence: of the data.
        judge: what scores the outputs.
        cost: number of images or questions of the full benchmark.
        read: reads the items; raises InputError with file and line.
    """

    name: str
    title: str
    measures: str
    data: str
    licence: str
    judge: str
    cost: str
    read: Callable[[DataPaths], BenchmarkData]


@dataclass(frozen=True, kw_only=True)
class QuestionBenchmark(Benchmark):
    """Describe a benchmark of understanding.

    Attributes:
        max_new_tokens: length of the longest answer.
        suffix: appended to every question, after a line end.
        export: writes answers as the official scorer reads them, into a folder.
        score: scores the answers, in the order of the items.
    """

    max_new_tokens: int
    suffix: str = ""
    export: Callable[[Path, Sequence[Item], Sequence[str]], None]
    score: Callable[[Sequence[Item], Sequence[str]], dict[str, Score]]


@dataclass(frozen=True)
class Judging:
    """Hold what images are scored with.

    Attributes:
        folder: holds the images and, by default, the judge's result.
        items: the prompts, in order.
        judge: result file of an external judge, or the model of one that runs here; None is the default.
        images_per_prompt: number of images of every prompt.
    """

    folder: Path
    items: Sequence[Item]
    judge: Path | None = None
    images_per_prompt: int = 1

    def result_file(self, name: str, readme: str) -> Path:
        """Return the result file of an external judge: the one that is given, or `name` in the folder.

        Raises:
            InputError: if there is none.
        """
        path = self.judge or self.folder / name
        if not path.is_file():
            raise InputError(
                f"the judge's result {str(path)!r} is missing: run the command of judges/{readme}/README.md, or give "
                "the file as --judge"
            )
        return path


@dataclass(frozen=True, kw_only=True)
class DrawingBenchmark(Benchmark):
    """Describe a benchmark of text to image.

    Attributes:
        images_per_prompt: number of images of every prompt.
        write: writes the images of an item where the official scorer reads them, atomically; returns the files.
        finish: writes what the scorer reads once for all images.
        result_name: file in the output folder that the external judge writes; None if scores are computed here.
        score: scores the images, or reads the judge's result.
    """

    images_per_prompt: int
    write: Callable[[Path, Item, Sequence["Image"]], list[Path]]
    finish: Callable[[Path, Sequence[Item]], None] = field(default=lambda folder, items: None)
    result_name: str | None = None
    score: Callable[[Judging], dict[str, Score]]


def in_order(results: Mapping[str, Mapping], items: Sequence[Item]) -> list[str]:
    """Return the answers of items in order."""
    return [results[item.id]["answer"] for item in items]
