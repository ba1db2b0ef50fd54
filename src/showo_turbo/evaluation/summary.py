"""Summarize result folders of benchmarks as one JSON file of lm-eval's format, which its readers and plotters take.

    results/pope/scores.json --+
                               +--> {"results": {"pope": {"accuracy,none": 83.2, "accuracy_stderr,none": 0.6}}, ..}
    results/mme/scores.json ---+

Decisions:
- Values keep the unit of published tables. A standard error is the width of the 95 % interval over 3.92, that of a
  normal distribution.
- lm-eval's file is of one model in one setting. Folders of unlike models, dtypes or versions are refused, as are two
  folders of one benchmark.
- Settings of a benchmark are under `configs`, with everything that its stamp has.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from showo_turbo.errors import InputError
from showo_turbo.files import read_json

_SHARED = ("model", "weights_sha256", "dtype", "quantization", "device", "showo_turbo", "torch")
_STANDARD_ERRORS_IN_INTERVAL = 2 * 1.959964
_LOWER_IS_BETTER = {"fid"}
_NEITHER_IS_BETTER = {"yes_ratio"}
_FILTER = "none"


def summarize(folders: Sequence[Path]) -> dict[str, Any]:
    """Return the scores of result folders as lm-eval writes those of tasks.

    Raises:
        InputError: if a folder has no complete scores, or two of them do not belong together.
    """
    by_task: dict[str, dict[str, Any]] = {}
    first: dict[str, Any] = {}
    for folder in folders:
        scores = _read_scores(folder)
        name, shared = scores["benchmark"], {key: scores["stamp"].get(key) for key in _SHARED}
        if name in by_task:
            raise InputError(f"result folder {str(folder)!r} is the second one of {name}: give one of each benchmark")
        first = first or shared
        for key, value in shared.items():
            if value != first[key]:
                raise InputError(
                    f"result folder {str(folder)!r} has another {key} than {str(folders[0])!r}: give folders of one "
                    "model in one setting"
                )
        by_task[name] = scores
    return _summary(first, by_task)


def _read_scores(folder: Path) -> dict[str, Any]:
    file = folder / "scores.json"
    if not file.is_file():
        raise InputError(f"result folder {str(folder)!r} has no scores.json: give a folder that evaluate has scored")
    content = read_json(file)
    scores = content.get("scores")
    if not (isinstance(content.get("benchmark"), str) and isinstance(content.get("stamp"), dict)) or not (
        isinstance(scores, dict)
        and all(isinstance(one, dict) and _is_number(one.get("value")) for one in scores.values())
    ):
        raise InputError(f"{str(file)!r} holds no scores of a benchmark: give a folder that evaluate has scored")
    return content


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _summary(shared: Mapping[str, Any], by_task: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    model = str(shared["model"])
    counts = {name: one["stamp"].get("items") for name, one in by_task.items()}
    return {
        "results": {name: {"alias": name, **_metrics(one["scores"])} for name, one in by_task.items()},
        "group_subtasks": {name: [] for name in by_task},
        "configs": {name: {"task": name, "num_fewshot": 0, **one["stamp"]} for name, one in by_task.items()},
        "versions": {name: one["stamp"].get("showo_turbo") for name, one in by_task.items()},
        "n-shot": dict.fromkeys(by_task, 0),
        "higher_is_better": {
            name: {
                _metric(metric): name not in _LOWER_IS_BETTER
                for metric in one["scores"]
                if metric not in _NEITHER_IS_BETTER
            }
            for name, one in by_task.items()
        },
        "n-samples": {name: {"original": count, "effective": count} for name, count in counts.items()},
        "config": {"model": "showo_turbo", "model_args": f"pretrained={model}", **shared},
        "date": max(str(one["stamp"].get("finished", "")) for one in by_task.values()),
        "model_source": "showo_turbo",
        "model_name": model,
        "model_name_sanitized": re.sub(r"[^A-Za-z0-9._-]", "_", model),
    }


def _metrics(scores: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return values and standard errors under lm-eval's names, `metric,filter` and `metric_stderr,filter`."""
    found: dict[str, Any] = {}
    for name, score in scores.items():
        interval = score.get("interval")
        error = "N/A" if interval is None else (interval[1] - interval[0]) / _STANDARD_ERRORS_IN_INTERVAL
        found |= {f"{_metric(name)},{_FILTER}": score["value"], f"{_metric(name)}_stderr,{_FILTER}": error}
    return found


def _metric(name: str) -> str:
    """Return the name of a score without commas, which separate metric and filter."""
    return name.replace(",", "")
