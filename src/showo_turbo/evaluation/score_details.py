"""Store what comparing two results takes: the scores of single items, and scores in resamples of the items.

FOLDER/score_details.json    {"items": [{"id": .., "text": .., "score": .., "files": [..] or "answer": ..}, ..],
                              "resamples": {SCORE: [..]}, "groups": {SCORE: ..}}
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from showo_turbo.evaluation.benchmarks.definition import Score
from showo_turbo.evaluation.items import Item
from showo_turbo.files import write_json

DETAILS = "score_details.json"

_DIGITS = 6
"""Significant digits of stored resamples, which keeps the file small."""


def write_details(
    folder: Path, items: Sequence[Item], results: Mapping[str, Mapping[str, Any]], scores: Mapping[str, Score]
) -> None:
    """Write the details of scores.

    Args:
        folder: output folder of a benchmark.
        items: the items that are scored.
        results: of `ItemStore.results`.
        scores: the scores; the first is the main one.
    """
    by_item = next(iter(scores.values())).by_item or {}
    outputs = [{key: results[item.id][key] for key in ("files", "answer") if key in results[item.id]} for item in items]
    records = [
        {"id": item.id, "text": item.text, "score": by_item.get(item.id), **output}
        for item, output in zip(items, outputs, strict=True)
    ]
    resamples = {
        name: [float(f"{value:.{_DIGITS}g}") for value in score.resamples]
        for name, score in scores.items()
        if score.resamples is not None
    }
    groups = {name: scores[name].groups for name in resamples}
    write_json(folder / DETAILS, {"items": records, "resamples": resamples, "groups": groups})
