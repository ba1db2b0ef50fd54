"""Scores as a table to read and as a JSON file that says everything about how they came about."""

import dataclasses
import json
import time
from pathlib import Path

from rich.table import Table

from showo_turbo.evaluation.run import TextToImageResult, UnderstandingResult
from showo_turbo.evaluation.statistics import Estimate


def text_to_image_table(title: str, result: TextToImageResult) -> Table:
    """One row per GenEval category, with 95 % intervals."""
    return _table(title, result.scores.by_tag | {"overall": result.scores.overall})


def understanding_table(title: str, result: UnderstandingResult) -> Table:
    """One row per kind of question, then all questions and the descriptions."""
    scores = result.scores
    rows = {f"question: {kind}": estimate for kind, estimate in scores.by_kind.items()}
    rows |= {"questions": scores.questions, "facts true": scores.facts, "objects described": scores.recall}
    return _table(title, rows)


def _table(title: str, rows: dict[str, Estimate]) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("category")
    table.add_column("score", justify="right")
    table.add_column("95 % interval", justify="right")
    for name, estimate in rows.items():
        low, high = estimate.interval
        table.add_row(name, f"{estimate.value:.3f}", f"{low:.3f} - {high:.3f}", end_section=name == list(rows)[-2])
    return table


def as_json(stamp: dict, **results: object) -> str:
    """A stamp (what was evaluated and how) and results, data classes allowed, as indented JSON."""
    values = {"stamp": stamp | {"finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}}
    values |= {name: dataclasses.asdict(result) for name, result in results.items() if result is not None}
    return json.dumps(values, indent=2) + "\n"


def write_json(path: Path, text: str) -> None:
    """Write a result file; the folder must exist."""
    path.write_text(text)
