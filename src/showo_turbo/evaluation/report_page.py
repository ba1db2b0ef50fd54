"""The report as one HTML file: tables, plots, images by number of steps, and the hardest prompts.

Decisions:
- The file needs nothing else: images and plots are data URLs, and there is no script.
- Prompts, answers and names come from files of others. The template escapes all of them, and images are decoded and
  encoded anew, so nothing but pixels passes.
- The images of a sheet are those of the same prompts for every result, spread over the benchmark.
"""

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from statistics import fmean
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from showo_turbo.evaluation.benchmark_results import ScoredItem
from showo_turbo.evaluation.benchmarks.definition import Score
from showo_turbo.evaluation.report_charts import seconds_chart, steps_chart
from showo_turbo.evaluation.report_tables import (
    NOISE_LINE,
    conditions_line,
    difference_table,
    score_cell,
    score_table_of,
    summary_tables,
    unlike_line,
)
from showo_turbo.evaluation.result_groups import ResultGroup
from showo_turbo.processing.image_files import load_image

_SIDE = 192
"""Longest side of an image in the file, in pixels."""


@dataclass(frozen=True)
class SheetCell:
    """Hold the output of one result for one item.

    Attributes:
        image: data URL of its first image; empty if there is none.
        text: its answer, or its score.
    """

    image: str
    text: str


@dataclass(frozen=True)
class SheetRow:
    """Hold the outputs for one item.

    Attributes:
        text: the prompt or question.
        note: its mean score; empty if there is none.
        cells: a cell for each result.
    """

    text: str
    note: str
    cells: Sequence[SheetCell]


def html_report(groups: Sequence[ResultGroup], num_prompts: int) -> str:
    """Return a report as HTML.

    Args:
        groups: the results.
        num_prompts: number of prompts on each sheet of images.

    Raises:
        InputError: if matplotlib is not installed, or an image cannot be read.
    """
    environment = Environment(
        loader=PackageLoader("showo_turbo.evaluation", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.jinja").render(
        summaries=summary_tables(groups),
        groups=[_section(group, num_prompts) for group in groups],
        noise_line=NOISE_LINE,
    )


def _section(group: ResultGroup, num_prompts: int) -> dict[str, Any]:
    """Return what the template shows of a group."""
    tables = [score_table_of(group)] + ([difference_table(group)] if len(group.results) > 1 else [])
    charts = [("steps", steps_chart(group)), ("seconds", seconds_chart(group))]
    titles = [group.label(result) for result in group.results]
    return {
        "title": group.title,
        "lines": [conditions_line(group), *([unlike_line(group)] if group.unlike else [])],
        "tables": tables,
        "charts": [(f"{group.scores[0]} over {name}", data_url(svg, "svg+xml")) for name, svg in charts if svg],
        "columns": titles,
        "sheets": [
            ("Outputs side by side" if not group.draws else "Images by number of steps", _spread(group, num_prompts)),
            (f"Hardest {'prompts' if group.draws else 'questions'}", _hardest(group, num_prompts)),
        ],
    }


def shared_items(group: ResultGroup) -> list[str]:
    """Return the ids of the items that all results have stored, in order."""
    return [name for name in group.reference.items if all(name in result.items for result in group.results)]


def mean_scores(group: ResultGroup) -> dict[str, float]:
    """Return the mean score of each item over all results, lowest first; items without a score are left out."""
    means = {}
    for name in shared_items(group):
        scores = [result.items[name].score for result in group.results]
        if all(score is not None for score in scores):
            means[name] = fmean(score for score in scores if score is not None)
    return dict(sorted(means.items(), key=lambda item: item[1]))


def _spread(group: ResultGroup, count: int) -> list[SheetRow]:
    """Return rows of items that are spread over the benchmark."""
    names = shared_items(group)
    count = min(count, len(names))
    return [_row(group, names[number * len(names) // count]) for number in range(count)]


def _hardest(group: ResultGroup, count: int) -> list[SheetRow]:
    """Return rows of the items with the lowest mean scores."""
    means = mean_scores(group)
    return [_row(group, name, f"mean {score_cell(Score(means[name])).text}") for name in list(means)[:count]]


def _row(group: ResultGroup, name: str, note: str = "") -> SheetRow:
    items = [result.items[name] for result in group.results]
    return SheetRow(items[0].text, note, [_cell(item) for item in items])


def _cell(item: ScoredItem) -> SheetCell:
    score = "" if item.score is None else score_cell(Score(item.score)).text
    image = thumbnail(item.images[0]) if item.images else ""
    return SheetCell(image, " · ".join(filter(None, [item.answer, score])))


def thumbnail(file: Path) -> str:
    """Return an image as a data URL, scaled down to at most `_SIDE` pixels.

    Raises:
        InputError: if it cannot be read.
    """
    image = load_image(file)
    image.thumbnail((_SIDE, _SIDE))
    buffer = BytesIO()
    image.save(buffer, format="PNG")
    return data_url(buffer.getvalue(), "png")


def data_url(content: bytes, kind: str) -> str:
    """Return an image file as a data URL; `kind` is its media type after "image/"."""
    return f"data:image/{kind};base64,{b64encode(content).decode()}"
