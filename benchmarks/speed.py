"""Speed at full size, with random weights, beside the published loops and transformers' `generate`.

    python benchmarks/speed.py --resolution 256 --steps 4 --output speed.json --plot speed.png
    python benchmarks/speed.py --small --resolution 64     # a small model, in seconds: does it run?

Options that are given several times run in all combinations. `comparisons` has the tasks and `baselines` the baselines;
`overhead` measures the time that a shipped model spends on anything but matrix products.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from comparisons import SpeedComparison, decoder, text_to_image, understanding
from full_size import DOWNSAMPLING, random_pipeline, set_resolution, weight_bytes
from measuring import GIB, describe_machine, matmul_rate
from overhead import Overhead, overhead
from showo_turbo.device import parse_device, parse_dtype
from showo_turbo.pipelines.pipeline import ShowoPipeline

TASKS = ("text-to-image", "decoder", "understanding", "overhead")


def run_comparisons(pipe: ShowoPipeline, settings: dict[str, Any], rate: float) -> Iterator[SpeedComparison]:
    """Run the selected comparisons of a model of the published sizes, one resolution after the other."""
    tasks, arguments = settings["what"], (rate, settings["repeats"], settings["seed"])
    for resolution in settings["resolution"]:
        set_resolution(pipe, resolution)
        if "text-to-image" in tasks:
            for steps, scale, images in product(*(settings[name] for name in ("steps", "guidance_scale", "images"))):
                yield text_to_image(pipe, steps, scale, images, *arguments)
        if "decoder" in tasks:
            for images in settings["images"]:
                yield decoder(pipe, images, *arguments)
        if "understanding" in tasks:
            for length in settings["max_new_tokens"]:
                yield from understanding(pipe, length, *arguments)


def run_overheads(settings: dict[str, Any]) -> Iterator[Overhead]:
    """Measure the overhead of the shipped model, if it is selected."""
    if "overhead" in settings["what"]:
        names = ("steps", "guidance_scale", "images", "requests")
        for values in product(*(settings[name] for name in names)):
            yield overhead(settings["model"], *values, settings["repeats"])


def as_table(found: list[SpeedComparison], rate: float, dtype: str) -> Table:
    """Return a table with one row per comparison."""
    table = Table(title=f"Medians; {dtype} matrix products run at {rate / 1e9:.0f} GFLOP/s here")
    for name in (
        "what",
        "beside",
        "ratio",
        "least",
        "most",
        "TFLOP",
        "beside",
        "of the rate",
        "peak GiB",
        "beside",
        "the same",
    ):
        table.add_column(name, justify="left" if name == "what" else "right")
    for one in found:
        ratios = (f"{ratio:.2f} x" for ratio in (one.ratio, min(one.ratios), max(one.ratios)))
        teraflops = (f"{one.tflop:.3f}", f"{one.other_tflop:.3f}", f"{one.roofline:.0%}")
        table.add_row(
            one.name, one.other, *ratios, *teraflops, f"{one.peak:.2f}", f"{one.other_peak:.2f}", f"{one.agreement:.0%}"
        )
    return table


def plot_ratios(found: list[SpeedComparison], file: Path) -> None:
    """Plot median ratios as bars, their ranges as lines, and the fraction of the roofline."""
    figure = Figure(figsize=(9, 1.2 + 0.5 * len(found)), layout="constrained")
    axes = figure.subplots()
    positions = range(len(found))
    axes.barh(positions, [one.ratio for one in found], color="tab:blue", alpha=0.7)
    axes.hlines(positions, [min(one.ratios) for one in found], [max(one.ratios) for one in found], color="black")
    for position, one in zip(positions, found, strict=True):
        note = f"  {one.ratio:.2f} x, at {one.roofline:.0%} of the matmul rate"
        axes.text(max(one.ratios), position, note, verticalalignment="center")
    axes.margins(x=0.6)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_yticks(positions, [f"{one.name}\nbeside {one.other}" for one in found], fontsize=8)
    axes.set(xlabel="times as fast", xscale="log")
    axes.invert_yaxis()
    figure.savefig(file, dpi=110)


def check(settings: dict[str, Any]) -> None:
    """Raise if a task is unknown or a resolution is invalid, before any model is built."""
    if unknown := set(settings["what"]) - set(TASKS):
        raise typer.BadParameter(f"{', '.join(sorted(unknown))}: choose any of {', '.join(TASKS)}", param_hint="--what")
    for resolution in settings["resolution"]:
        if resolution < DOWNSAMPLING or resolution % DOWNSAMPLING:
            raise typer.BadParameter(f"{resolution}: choose a multiple of {DOWNSAMPLING}", param_hint="--resolution")


def main(
    what: Annotated[list[str], typer.Option(help=f"Any of {', '.join(TASKS)}.")] = list(TASKS),  # noqa: B006
    resolution: Annotated[list[int], typer.Option(help="Side of the images in pixels.")] = [256],  # noqa: B006
    steps: Annotated[list[int], typer.Option(min=1, help="Steps of text to image.")] = [4],  # noqa: B006
    guidance_scale: Annotated[list[float], typer.Option(min=0, help="0 is none.")] = [0.0],  # noqa: B006
    images: Annotated[list[int], typer.Option(min=1, help="Images of the prompt.")] = [1],  # noqa: B006
    requests: Annotated[list[int], typer.Option(min=1, help="Batched requests of the overhead.")] = [1],  # noqa: B006
    max_new_tokens: Annotated[list[int], typer.Option(min=1, help="Ids of an answer.")] = [32],  # noqa: B006
    repeats: Annotated[int, typer.Option(min=1, help="Pairs of runs.")] = 3,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of torch; its default if left out.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of weights and sampling.")] = 0,
    device: Annotated[str, typer.Option(help="Device, such as cpu or cuda.")] = "cpu",
    dtype: Annotated[
        str, typer.Option(help="Precision of the transformer at full size: float32, bfloat16, float16.")
    ] = "float32",
    mode: Annotated[str | None, typer.Option("--compile", help="Compile it first: `torch.compile`'s mode.")] = None,
    cuda_graphs: Annotated[
        bool, typer.Option("--cuda-graphs", help="Record and replay forward passes as CUDA graphs.")
    ] = False,
    model: Annotated[str, typer.Option(help="Shipped model of the overhead.")] = "tiny-turbo",
    small: Annotated[bool, typer.Option("--small", help="A small model instead of the full size.")] = False,
    output: Annotated[Path | None, typer.Option(help="JSON file, written after every comparison.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Image file of the plot of the ratios.")] = None,
) -> None:
    """Compare the speed of the library with baselines that give the same result."""
    settings = dict(locals())
    check(settings)
    if threads is not None:
        torch.set_num_threads(threads)
    target, precision = parse_device(device), parse_dtype(dtype)
    facts, rate = describe_machine(target, precision), matmul_rate(target, precision)
    report = {"settings": settings, "machine": facts, "matmul_gflops": rate / 1e9, "comparisons": [], "overheads": []}
    found = []

    def add(kind: str, one: SpeedComparison | Overhead) -> None:
        report[kind].append(asdict(one))
        if output is not None:
            output.write_text(json.dumps(report, indent=2, default=str) + "\n")

    if set(what) != {"overhead"}:
        pipe = random_pipeline(seed, small).to(target)
        pipe.model.to(precision)
        if mode is not None:
            pipe.compile(mode)
        if cuda_graphs:
            pipe.use_cuda_graphs()
        report["weights_gib"] = weight_bytes(pipe) / GIB
        for comparison in run_comparisons(pipe, settings, rate):
            found.append(comparison)
            add("comparisons", comparison)
    for one in run_overheads(settings):
        add("overheads", one)
        task = (
            f"{one.model}, {one.requests} requests of {one.images} x {one.steps} steps, guidance {one.guidance_scale:g}"
        )
        print(f"{task}: {one.step_ms:.1f} ms of CPU time per step, {one.share:.0%} not matrix products")
    if found:
        Console(width=160).print(as_table(found, rate, dtype))
    if plot is not None and found:
        plot_ratios(found, plot)


if __name__ == "__main__":
    typer.run(main)
