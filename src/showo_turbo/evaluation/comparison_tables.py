"""A study's cells as Markdown, in the layout of the paper's two tables (arXiv 2502.05415, section 5)."""

from collections.abc import Mapping

from showo_turbo.evaluation.comparison import StudyPlan
from showo_turbo.scenes.benchmark import TAGS


def text_to_image_table(plan: StudyPlan, cells: Mapping[tuple[int, str], dict]) -> str:
    """Six categories, their mean with its 95 % interval, and seconds per image, for every number of steps.

    `cells` are those of `Study.drawn`.
    """
    names = [tag.replace("_", " ") for tag in TAGS]
    lines = [_row("steps", "model", *names, "average", "95 %", "s / image"), _row(*["---"] * (len(names) + 5))]
    for steps in plan.steps:
        for one in plan.drawing:
            scores, seconds = cells[steps, one.title]["scores"], cells[steps, one.title]["seconds_per_image"]
            parts = [_share(scores["by_tag"][tag]["value"]) if tag in scores["by_tag"] else "" for tag in TAGS]
            low, high = map(_share, scores["overall"]["interval"])
            overall = f"**{_share(scores['overall']['value'])}**"
            lines.append(_row(steps, one.title, *parts, overall, f"{low} - {high}", f"{seconds:.3f}"))
    return "\n".join(lines)


def understanding_table(plan: StudyPlan, cells: Mapping[str, dict]) -> str:
    """Speed and quality of the answers of every contestant; `cells` are those of `Study.answered`."""
    names = ("tokens / pass", "of 20 and more", "tokens / s", "questions", "POPE F1", "facts true", "objects described")
    lines = [_row("model", *names), _row(*["---"] * (len(names) + 1))]
    for one in plan.answering:
        cell, scores = cells[one.title], cells[one.title]["scores"]
        long = cell["tokens_per_pass_long"]
        speed = (f"{cell['tokens_per_pass']:.2f}", f"{long:.2f}" if long else "", f"{cell['tokens_per_second']:.0f}")
        shares = (
            scores["questions"]["value"],
            scores["pope"]["f1"],
            scores["facts"]["value"],
            scores["recall"]["value"],
        )
        lines.append(_row(one.title, *speed, *map(_share, shares)))
    return "\n".join(lines)


def _row(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def _share(value: float) -> str:
    return f"{value:.3f}".removeprefix("0") if value < 1 else f"{value:.2f}"
