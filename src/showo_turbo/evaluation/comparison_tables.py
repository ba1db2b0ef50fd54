"""Present a comparison as Markdown, in the layout of the paper's two tables (arXiv 2502.05415, section 5)."""

from collections.abc import Mapping

from showo_turbo.evaluation.comparison import ComparisonPlan
from showo_turbo.scenes.benchmark import TAGS


def text_to_image_table(plan: ComparisonPlan, cells: Mapping[tuple[int, str], dict]) -> str:
    """Return six categories, their mean with its 95 % interval, and seconds per image, for every number of steps.

    `cells` is the result of `Comparison.image_scores`.
    """
    names = [tag.replace("_", " ") for tag in TAGS]
    lines = [_row("steps", "model", *names, "average", "95 %", "s / image"), _row(*["---"] * (len(names) + 5))]
    for steps in plan.steps:
        for variant in plan.image_variants:
            cell = cells[steps, variant.title]
            scores, seconds = cell["scores"], cell["seconds_per_image"]
            categories = [_fraction(scores["by_tag"][tag]["value"]) if tag in scores["by_tag"] else "" for tag in TAGS]
            low, high = map(_fraction, scores["overall"]["interval"])
            overall = f"**{_fraction(scores['overall']['value'])}**"
            lines.append(_row(steps, variant.title, *categories, overall, f"{low} - {high}", f"{seconds:.3f}"))
    return "\n".join(lines)


def understanding_table(plan: ComparisonPlan, cells: Mapping[str, dict]) -> str:
    """Return speed and quality of every variant's answers; `cells` is the result of `Comparison.text_scores`."""
    names = ("tokens / pass", "of 20 and more", "tokens / s", "questions", "POPE F1", "facts true", "objects described")
    lines = [_row("model", *names), _row(*["---"] * (len(names) + 1))]
    for variant in plan.text_variants:
        cell = cells[variant.title]
        scores = cell["scores"]
        long = cell["tokens_per_pass_long"]
        speed = (f"{cell['tokens_per_pass']:.2f}", f"{long:.2f}" if long else "", f"{cell['tokens_per_second']:.0f}")
        quality = (
            scores["questions"]["value"],
            scores["pope"]["f1"],
            scores["facts"]["value"],
            scores["recall"]["value"],
        )
        lines.append(_row(variant.title, *speed, *map(_fraction, quality)))
    return "\n".join(lines)


def _row(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def _fraction(value: float) -> str:
    return f"{value:.3f}".removeprefix("0") if value < 1 else f"{value:.2f}"
