"""A study's scores as a picture."""

from collections.abc import Mapping
from io import BytesIO

from matplotlib.figure import Figure

from showo_turbo.evaluation.comparison import StudyPlan

_DASHES = ("-", "--", ":", "-.")


def score_chart(plan: StudyPlan, cells: Mapping[tuple[int, str], dict]) -> bytes:
    """Every contestant's average in text to image over the steps, with 95 % intervals, as a PNG.

    Each model has a colour, each of its ways to draw a dash. `cells` are those of `Study.drawn`.
    """
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    models = list(dict.fromkeys(one.model for one in plan.drawing))
    for model in models:
        ways = [one for one in plan.drawing if one.model == model]
        for number, one in enumerate(ways):
            scores = [cells[steps, one.title]["scores"]["overall"] for steps in plan.steps]
            values = [score["value"] for score in scores]
            below = [score["value"] - score["interval"][0] for score in scores]
            above = [score["interval"][1] - score["value"] for score in scores]
            axes.errorbar(
                plan.steps,
                values,
                (below, above),
                label=one.title,
                color=f"C{models.index(model)}",
                linestyle=_DASHES[number % len(_DASHES)],
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
