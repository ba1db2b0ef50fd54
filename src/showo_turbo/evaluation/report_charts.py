"""Plots of a report: the main score over steps and over seconds, as SVG."""

from collections.abc import Callable, Sequence
from io import BytesIO

from showo_turbo.evaluation.benchmark_results import BenchmarkResult
from showo_turbo.evaluation.result_groups import ResultGroup
from showo_turbo.extras import require_module

_SIZE = (6.4, 4.0)


def steps_chart(group: ResultGroup) -> bytes | None:
    """Return a plot of the main score over the steps; None if there is one number of steps only."""
    steps = sorted({result.steps for result in group.results if result.steps is not None})
    if len(steps) < 2:
        return None
    return _chart(group, "steps", lambda result: float(result.steps or 0), [float(one) for one in steps])


def seconds_chart(group: ResultGroup) -> bytes | None:
    """Return a plot of the main score over seconds per image or answer; None if there is one result only."""
    if len(group.results) < 2 or any(result.seconds <= 0 for result in group.results):
        return None
    return _chart(group, f"seconds per {'image' if group.draws else 'answer'}", lambda result: result.seconds)


def _chart(
    group: ResultGroup, xlabel: str, x: Callable[[BenchmarkResult], float], ticks: Sequence[float] = ()
) -> bytes:
    """Draw a line for each series, the results that differ in steps only, with 95 % intervals.

    Raises:
        InputError: if matplotlib is not installed.
    """
    matplotlib = require_module("matplotlib", "a report with plots", extra="evaluate")
    figures = require_module("matplotlib.figure", "a report with plots", extra="evaluate")
    series: dict[str, list[BenchmarkResult]] = {}
    for result in group.results:
        series.setdefault(group.label(result, without=["steps"]), []).append(result)
    with matplotlib.rc_context({"svg.hashsalt": "report", "text.parse_math": False}):
        figure = figures.Figure(figsize=_SIZE, layout="constrained")
        axes = figure.subplots()
        for label, results in series.items():
            ordered = sorted(results, key=lambda result: (result.steps or 0, result.seconds))
            values = [result.main[1].value for result in ordered]
            ends = [result.main[1].interval or (result.main[1].value,) * 2 for result in ordered]
            below = [max(0.0, value - low) for value, (low, _) in zip(values, ends, strict=True)]
            above = [max(0.0, high - value) for value, (_, high) in zip(values, ends, strict=True)]
            axes.errorbar(
                [x(result) for result in ordered],
                values,
                (below, above),
                label=f" {label}",  # labels that begin with "_" are left out of legends
                marker="o",
                markersize=4,
                elinewidth=0.8,
                capsize=2,
            )
        if ticks:
            axes.set_xscale("log", base=2)
            axes.set_xticks(ticks, labels=[f"{tick:g}" for tick in ticks])
            axes.minorticks_off()
        else:
            axes.set_xlim(0, 1.08 * max(map(x, group.results)))
        axes.set(xlabel=xlabel, ylabel=f"{group.reference.benchmark.title}: {group.scores[0]}")
        axes.grid(alpha=0.3)
        axes.legend()
        buffer = BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()
