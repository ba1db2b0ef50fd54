"""Growth of the floating point operations at the published sizes, of this library and of the published code.

    python benchmarks/scaling.py [--output FILE] [--plot FILE]

The formulas are those of `flops`, so this takes no time; tests check that the library computes at most 5 % more than
the least. Plotted over steps (one image, no guidance), images of a prompt (4 steps), and ids of an answer, of which one
or four settle in a forward pass: one without distillation.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from math import ceil
from pathlib import Path
from typing import Annotated

import typer
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from flops import (
    PROMPT_TOKENS,
    Sizes,
    least_answer_flops,
    least_image_flops,
    published_answer_flops,
    published_image_flops,
)
from full_size import DOWNSAMPLING, PHI_1_5
from showo_turbo.configuration import ShowoConfig
from showo_turbo.generation.scheduler import UnmaskingScheduler

RESOLUTIONS = (256, 512)
STEPS = (1, 2, 4, 8, 16)
IMAGES = (1, 2, 4, 8, 16)
IDS = (16, 32, 64, 128, 256)
IDS_PER_PASS = (1, 4)
BLOCK_LENGTH = 16
QUESTION_TOKENS = 16

CONFIG = ShowoConfig()
SIZES = Sizes(PHI_1_5["num_hidden_layers"], PHI_1_5["hidden_size"], PHI_1_5["intermediate_size"], CONFIG.codebook_size)


@dataclass(frozen=True)
class Point:
    """Hold the teraflops of one setting.

    Attributes:
        line: name of the line that the point belongs to.
        over: value on the horizontal axis.
        here, published: operations of the library and of the published code.
    """

    line: str
    over: int
    here: float
    published: float

    @property
    def saved(self) -> float:
        """Operations of the published code as a multiple of the library's."""
        return self.published / self.here


def drawing(resolution: int, steps: int, images: int) -> tuple[float, float]:
    """Return the teraflops of images of one prompt without guidance, here and as published."""
    num_codes = (resolution // DOWNSAMPLING) ** 2
    scheduler = UnmaskingScheduler(CONFIG.codebook_size)
    scheduler.set_timesteps(steps, num_codes)
    masked = [num_codes, *scheduler.mask_counts[:-1]]
    here = least_image_flops(SIZES, [PROMPT_TOKENS], images, masked, num_codes, False)
    return here / 1e12, published_image_flops(SIZES, 1, images, steps, num_codes, False, CONFIG.vocab_size) / 1e12


def answering(resolution: int, ids: int, ids_per_pass: int) -> tuple[float, float]:
    """Return the teraflops of an answer in blocks, here and as published, where one more pass confirms each block."""
    image = (resolution // DOWNSAMPLING) ** 2 + 3
    ends = [(settled // BLOCK_LENGTH + 1) * BLOCK_LENGTH for settled in range(0, ids, ids_per_pass)]
    here = least_answer_flops(
        replace(SIZES, scored_ids=CONFIG.vocab_size),
        image,
        QUESTION_TOKENS,
        list(zip(range(0, ids, ids_per_pass), ends, strict=True)),
    )
    passes = ceil(BLOCK_LENGTH / ids_per_pass) + 1
    published_ends = [end for end in range(BLOCK_LENGTH, ids + 1, BLOCK_LENGTH) for _ in range(passes)]
    return here / 1e12, published_answer_flops(SIZES, image + QUESTION_TOKENS, published_ends, CONFIG.vocab_size) / 1e12


def panels() -> dict[str, list[Point]]:
    """Compute all points, by the name of their horizontal axis."""
    return {
        "steps": [Point(f"{r} px", n, *drawing(r, n, 1)) for r in RESOLUTIONS for n in STEPS],
        "images of a prompt": [Point(f"{r} px", n, *drawing(r, 4, n)) for r in RESOLUTIONS for n in IMAGES],
        "ids of an answer": [
            Point(f"{r} px, {p} a pass", n, *answering(r, n, p)) for r in RESOLUTIONS for p in IDS_PER_PASS for n in IDS
        ],
    }


def lines_of(points: Sequence[Point]) -> dict[str, list[Point]]:
    """Group points by the name of their line."""
    return {line: [point for point in points if point.line == line] for line in (point.line for point in points)}


def draw_panel(axes: Axes, over: str, points: Sequence[Point]) -> None:
    """Plot all lines of one panel."""
    for line, own in lines_of(points).items():
        axes.plot([point.over for point in own], [point.saved for point in own], marker="o", label=line)
    axes.set(xlabel=over, ylabel="times less work than the published code", xscale="log", yscale="log")
    axes.set_xticks(sorted({point.over for point in points}), labels=sorted({point.over for point in points}))
    axes.set_xticks([], minor=True)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("{x:g}")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)


def main(
    output: Annotated[Path | None, typer.Option(help="JSON file to write.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Image file of the plot.")] = None,
) -> None:
    """Compute, print and plot."""
    found = panels()
    for over, points in found.items():
        table = Table(title=f"TFLOP over {over}: published, here, saved")
        numbers = sorted({point.over for point in points})
        for name in ("", *map(str, numbers)):
            table.add_column(name, justify="right")
        for line, own in lines_of(points).items():
            table.add_row(line, *(f"{one.published:.2f}  {one.here:.2f}  {one.saved:.1f} x" for one in own))
        Console(width=140).print(table)
    if output is not None:
        everything = {over: [asdict(point) for point in points] for over, points in found.items()}
        output.write_text(json.dumps(everything, indent=2) + "\n")
    if plot is not None:
        figure = Figure(figsize=(13, 4), layout="constrained")
        for axes, (over, points) in zip(figure.subplots(1, len(found)), found.items(), strict=True):
            draw_panel(axes, over, points)
        figure.savefig(plot, dpi=110)


if __name__ == "__main__":
    typer.run(main)
