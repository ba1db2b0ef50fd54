"""Loss curves as an image."""

from pathlib import Path

from showo_turbo.extras import require_module
from showo_turbo.files import atomic_file, read_json_lines

_NOT_LOSSES = ("step", "seconds", "gradient_norm", "samples_per_second", "passes_per_block")
_MAX_MARKED_LINES = 30
"""Number of lines of a log up to which their points are marked: a single point has no curve."""


def plot_curve(log: Path, image: Path) -> None:
    """Plot all losses of a `log.jsonl` over the steps, on a logarithmic scale, as a PNG; an empty log gives none.

    Losses of held-out samples, from `validation.jsonl` beside the log, are dashed.

    Raises:
        InputError: if matplotlib is not installed.
    """
    plots = require_module("matplotlib.figure", "a plot of losses")
    lines = read_json_lines(log)
    if not lines:
        return
    marker = "." if len(lines) <= _MAX_MARKED_LINES else None
    names = dict.fromkeys(name for line in lines for name in line if name not in _NOT_LOSSES)
    figure = plots.Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for name in names:
        points = [(line["step"], line[name]) for line in lines if name in line]
        axes.plot(*zip(*points, strict=True), label=name, linewidth=1, marker=marker)
    held_out = read_json_lines(log.with_name("validation.jsonl"))
    colors = {name: f"C{number}" for number, name in enumerate(names)}
    for name in dict.fromkeys(name for line in held_out for name in line if name in colors):
        points = [(line["step"], line[name]) for line in held_out if name in line]
        style = {"linestyle": "--", "marker": marker, "linewidth": 1}
        axes.plot(*zip(*points, strict=True), color=colors[name], label=f"{name}, held out", **style)
    axes.set(xlabel=f"step ({lines[-1]['seconds'] / 60:.0f} minutes in all)", ylabel="loss", yscale="log")
    axes.legend()
    axes.grid(alpha=0.3)
    with atomic_file(image) as file:
        figure.savefig(file, dpi=110, format="png")
