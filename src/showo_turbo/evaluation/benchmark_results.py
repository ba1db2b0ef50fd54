"""Read the folders that `showo-turbo evaluate BENCHMARK` has written, as a report compares them.

Decisions:
- Folders may come from others, so every value that is used is checked, and images are read within their folder only.
- A folder from before details were stored is read too; its differences then have no intervals.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from showo_turbo.errors import InputError, errors_in
from showo_turbo.evaluation.benchmarks.definition import DrawingBenchmark, QuestionBenchmark, Score
from showo_turbo.evaluation.benchmarks.registry import find_benchmark
from showo_turbo.evaluation.item_store import ItemStore
from showo_turbo.evaluation.items import get
from showo_turbo.evaluation.score_details import DETAILS
from showo_turbo.files import read_json
from showo_turbo.validation import check_integer, check_number, shown

SCORES = "scores.json"

_IMAGE_ENDINGS = (".png", ".jpg")
_NAMES = {"num_inference_steps": "steps", "guidance_scale": "guidance", "top_k": "top-k", "showo_turbo": "version"}
_CONDITIONS = ("split", "items", "data_sha256", "images_per_prompt", "suffix", "shorten")
"""Settings in which results of one table agree: they tell which items are scored, and on how many outputs."""


@dataclass(frozen=True)
class ScoredItem:
    """Hold a prompt or question with its score.

    Attributes:
        text: the prompt or question.
        score: its score, in the unit of the main score; None if there is none.
        images: files of its images.
        answer: its answer.
    """

    text: str
    score: float | None
    images: Sequence[Path]
    answer: str | None


@dataclass(frozen=True)
class BenchmarkResult:
    """Hold the scores of one model and setting.

    Attributes:
        folder: where they were read.
        benchmark: the benchmark.
        scores: by name; the first is the main one.
        settings: everything that results of one table may differ in, as texts by name.
        conditions: everything that results of one table agree in, as texts by name.
        steps: number of steps of an image; None for answers.
        seconds: wall time of an image or answer.
        tokens_per_second: of answers; None if it is not known.
        tokens_per_pass: of answers; None if it is not known.
        published: published scores by name.
        items: prompts or questions by id; empty if they were not stored.
    """

    folder: Path
    benchmark: DrawingBenchmark | QuestionBenchmark
    scores: Mapping[str, Score]
    settings: Mapping[str, str]
    conditions: dict[str, str]
    steps: int | None
    seconds: float
    tokens_per_second: float | None
    tokens_per_pass: float | None
    published: Mapping[str, float]
    items: Mapping[str, ScoredItem]

    @property
    def main(self) -> tuple[str, Score]:
        """Name and value of the main score."""
        return next(iter(self.scores.items()))


def read_result(folder: Path) -> BenchmarkResult:
    """Read the result of a benchmark.

    Raises:
        InputError: if the folder holds none, or a file in it is damaged.
    """
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise InputError(f"result {str(folder)!r} {what}: give the output folder of showo-turbo evaluate BENCHMARK")
    if not (folder / SCORES).is_file():
        raise InputError(f"result folder {str(folder)!r} has no {SCORES}: score it first, with --only score")
    where = repr(str(folder / SCORES))
    values = read_json(folder / SCORES)
    benchmark = find_benchmark(get(values, "benchmark", str, where))
    stamp, judge = _object(values, "stamp", where), _object(values, "judge", where)
    details = read_json(folder / DETAILS) if (folder / DETAILS).is_file() else {}
    resamples, groups = (
        _object(details, name, repr(str(folder / DETAILS))) if details else {} for name in ("resamples", "groups")
    )
    published = _object(values, "published", where) if values.get("published") else {}
    with errors_in(folder / SCORES):
        scores = {
            name: _score(name, score, resamples.get(name), groups.get(name))
            for name, score in _object(values, "scores", where).items()
        }
        check_number("wall_seconds", stamp.get("wall_seconds"), 0)
        check_integer("items", stamp.get("items"), 1)
        per_item = stamp.get("images_per_prompt", 1)
        check_integer("images_per_prompt", per_item, 1)
        steps = None
        if isinstance(benchmark, DrawingBenchmark):
            steps = _object(stamp, "sampling", "stamp").get("num_inference_steps")
            check_integer("num_inference_steps", steps, 1)
    if not scores:
        raise InputError(f"{where} has no scores: score the folder again, with --only score")
    tokens, passes = (None, None) if isinstance(benchmark, DrawingBenchmark) else _count_tokens(folder)
    seconds = stamp["wall_seconds"]
    return BenchmarkResult(
        folder=folder,
        benchmark=benchmark,
        scores=scores,
        settings=_settings(stamp),
        conditions=_conditions(benchmark, stamp, judge) | {"main score": next(iter(scores))},
        steps=steps,
        seconds=seconds / (stamp["items"] * per_item),
        tokens_per_second=tokens / seconds if tokens and seconds else None,
        tokens_per_pass=tokens / passes if tokens and passes else None,
        published={key: value for key, value in published.items() if isinstance(value, float)},
        items=_items(folder, details),
    )


def _object(values: Mapping[str, Any], key: str, where: str) -> dict[str, Any]:
    value = values.get(key)
    if not isinstance(value, dict):
        raise InputError(f"{where}: {key} is {shown(value)}: expected an object, as showo-turbo evaluate writes it")
    return value


def _score(name: str, value: Any, resamples: Any, groups: Any) -> Score:
    """Return a score of `scores.json`, with its values in resamples if these are complete."""
    if not isinstance(value, dict):
        raise InputError(f"score {name!r} is {shown(value)}: expected an object")
    check_number(name, value.get("value"))
    interval = value.get("interval")
    if interval is not None:
        if not isinstance(interval, list) or len(interval) != 2:
            raise InputError(f"interval of {name!r} is {shown(interval)}: expected two numbers")
        for end in interval:
            check_number(f"interval of {name!r}", end)
    if not isinstance(resamples, list) or not all(isinstance(one, int | float) for one in resamples):
        resamples = None
    return Score(
        value["value"],
        None if interval is None else (interval[0], interval[1]),
        None if resamples is None else np.array(resamples),
        groups if type(groups) is int else 0,
    )


def _settings(stamp: Mapping[str, Any]) -> dict[str, str]:
    """Return model, sampling or decoding options, seed, precision, device and versions, as texts."""
    weights, sampling, decoding = (
        value if isinstance(value := stamp.get(name), dict) else {}
        for name in ("weights_sha256", "sampling", "decoding")
    )
    hashes, options = " ".join(str(one)[:8] for one in weights.values()), sampling | decoding
    others = {name: stamp.get(name) for name in ("seed", "dtype", "quantization", "device", "showo_turbo", "torch")}
    texts = {"model": str(stamp.get("model")), "weights": hashes}
    return texts | {
        _NAMES.get(name, name.replace("_", " ")): _text(value) for name, value in (options | others).items()
    }


def _conditions(
    benchmark: DrawingBenchmark | QuestionBenchmark, stamp: Mapping[str, Any], judge: Mapping[str, Any]
) -> dict[str, str]:
    """Return what is scored and the judge: its version, or those of the libraries that score here."""
    version, libraries = judge.get("version"), judge.get("libraries")
    is_external = isinstance(benchmark, DrawingBenchmark) and benchmark.result_name is not None
    if version is None and not is_external and isinstance(libraries, dict):
        version = " ".join(f"{name} {number}" for name, number in libraries.items())
    return {name.replace("_", " "): _text(stamp.get(name)) for name in _CONDITIONS} | {"judge": _text(version)}


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return "none" if value is None else str(value)


def _count_tokens(folder: Path) -> tuple[int, int]:
    """Return the tokens and forward passes of all answers."""
    answers = list(ItemStore(folder).results().values())
    tokens, passes = ([one.get(name) for one in answers] for name in ("tokens", "forward_passes"))
    return sum(one for one in tokens if type(one) is int), sum(one for one in passes if type(one) is int)


def _items(folder: Path, details: Mapping[str, Any]) -> dict[str, ScoredItem]:
    """Return the items of a file of details, by id."""
    items = {}
    for number, record in enumerate(get(details, "items", list, repr(str(folder / DETAILS))) if details else []):
        where = f"{str(folder / DETAILS)!r}, items[{number}]"
        if not isinstance(record, dict):
            raise InputError(f"{where} is {shown(record)}: expected an object")
        score = record.get("score")
        if score is not None:
            check_number(f"{where}, score", score)
        names = get(record, "files", list, where) if "files" in record else []
        images = [_file_in(folder, name, where) for name in names if str(name).endswith(_IMAGE_ENDINGS)]
        answer = None
        if "answer" in record:
            answer = get(record, "answer", str, where) if record["answer"] != "" else "(empty)"
        items[get(record, "id", str, where)] = ScoredItem(get(record, "text", str, where), score, images, answer)
    return items


def _file_in(folder: Path, name: Any, where: str) -> Path:
    if not isinstance(name, str) or Path(name).is_absolute() or ".." in Path(name).parts:
        raise InputError(f"{where}: file is {shown(name)}: expected a name within the folder")
    return folder / name
