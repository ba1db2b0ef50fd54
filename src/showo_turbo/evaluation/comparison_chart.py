"""Plot the scores of a comparison."""

from collections.abc import Mapping
from io import BytesIO

from showo_turbo.evaluation.comparison import ComparisonPlan
from showo_turbo.extras import require_module

_LINE_STYLES = ("-", "--", ":", "-.")


def score_chart(plan: ComparisonPlan, cells: Mapping[tuple[int, str], dict]) -> bytes:
    """Plot every variant's average in text to image over the steps, with 95 % intervals, as a PNG.

    Each model has a color, each of its variants a line style. `cells` is the result of `Comparison.image_scores`.

    Raises:
        InputError: if matplotlib is not installed.
    """
    plots = require_module("matplotlib.figure", "a plot of scores")
    figure = plots.Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    models = list(dict.fromkeys(variant.model for variant in plan.image_variants))
    for model in models:
        variants = [variant for variant in plan.image_variants if variant.model == model]
        for number, variant in enumerate(variants):
            scores = [cells[steps, variant.title]["scores"]["overall"] for steps in plan.steps]
            values = [score["value"] for score in scores]
            below = [score["value"] - score["interval"][0] for score in scores]
            above = [score["interval"][1] - score["value"] for score in scores]
            axes.errorbar(
                plan.steps,
                values,
                (below, above),
                label=variant.title,
                color=f"C{models.index(model)}",
                linestyle=_LINE_STYLES[number % len(_LINE_STYLES)],
                marker="o",
                markersize=4,
                elinewidth=0.5,
            )
    axes.set_xscale("log", base=2)
    axes.set_xticks(plan.steps, labels=map(str, plan.steps))
    axes.set(xlabel="steps", ylabel="average of six categories")
    axes.legend()
    axes.grid(alpha=0.3)
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()
