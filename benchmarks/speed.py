"""Speed at full size, with random weights, beside the published way and beside what one would use instead.

    python benchmarks/speed.py --resolution 256 --steps 4 --output speed.json --plot speed.png
    python benchmarks/speed.py --small --resolution 64     # a small model, in seconds: does it run?

Options that are given several times are run in all combinations. `contests` says what is compared, `baselines` with
what, `overhead` what a shipped model spends on other things than matrix products.
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

from comparisons import Contest, decoder, text_to_image, understanding
from full_size import DOWNSAMPLING, random_pipeline, set_resolution, weight_bytes
from measuring import GIB, machine, matmul_rate
from overhead import Overhead, overhead
from showo_turbo.device import parse_device, parse_dtype
from showo_turbo.pipelines.pipeline import ShowoPipeline

PARTS = ("text-to-image", "decoder", "understanding", "overhead")


def contests(pipe: ShowoPipeline, settings: dict[str, Any], rate: float) -> Iterator[Contest]:
    """All that is asked for of a model of published sizes, one resolution after the other."""
    what, how = settings["what"], (rate, settings["repeats"], settings["seed"])
    for resolution in settings["resolution"]:
        set_resolution(pipe, resolution)
        if "text-to-image" in what:
            for steps, scale, images in product(*(settings[name] for name in ("steps", "guidance_scale", "images"))):
                yield text_to_image(pipe, steps, scale, images, *how)
        if "decoder" in what:
            for images in settings["images"]:
                yield decoder(pipe, images, *how)
        if "understanding" in what:
            for length in settings["max_new_tokens"]:
                yield from understanding(pipe, length, *how)


def overheads(settings: dict[str, Any]) -> Iterator[Overhead]:
    """Of the shipped model."""
    if "overhead" in settings["what"]:
        names = ("steps", "guidance_scale", "images", "requests")
        for each in product(*(settings[name] for name in names)):
            yield overhead(settings["model"], *each, settings["repeats"])


def as_table(found: list[Contest], rate: float, dtype: str) -> Table:
    """One row a contest."""
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
        work = (f"{one.tflop:.3f}", f"{one.other_tflop:.3f}", f"{one.roofline:.0%}")
        table.add_row(
            one.name, one.other, *ratios, *work, f"{one.peak:.2f}", f"{one.other_peak:.2f}", f"{one.agreement:.0%}"
        )
    return table


def draw(found: list[Contest], picture: Path) -> None:
    """Median ratios as bars, all from the least to the most as lines, and the share of the roofline reached."""
    figure = Figure(figsize=(9, 1.2 + 0.5 * len(found)), layout="constrained")
    axes = figure.subplots()
    places = range(len(found))
    axes.barh(places, [one.ratio for one in found], color="tab:blue", alpha=0.7)
    axes.hlines(places, [min(one.ratios) for one in found], [max(one.ratios) for one in found], color="black")
    for place, one in zip(places, found, strict=True):
        note = f"  {one.ratio:.2f} x, at {one.roofline:.0%} of the matmul rate"
        axes.text(max(one.ratios), place, note, verticalalignment="center")
    axes.margins(x=0.6)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_yticks(places, [f"{one.name}\nbeside {one.other}" for one in found], fontsize=8)
    axes.set(xlabel="times as fast", xscale="log")
    axes.invert_yaxis()
    figure.savefig(picture, dpi=110)


def check(settings: dict[str, Any]) -> None:
    """Refuse what cannot be run, before anything is built."""
    if unknown := set(settings["what"]) - set(PARTS):
        raise typer.BadParameter(f"{', '.join(sorted(unknown))}: choose any of {', '.join(PARTS)}", param_hint="--what")
    for resolution in settings["resolution"]:
        if resolution < DOWNSAMPLING or resolution % DOWNSAMPLING:
            raise typer.BadParameter(f"{resolution}: choose a multiple of {DOWNSAMPLING}", param_hint="--resolution")


def main(
    what: Annotated[list[str], typer.Option(help=f"Any of {', '.join(PARTS)}.")] = list(PARTS),  # noqa: B006
    resolution: Annotated[list[int], typer.Option(help="Side of the images in pixels.")] = [256],  # noqa: B006
    steps: Annotated[list[int], typer.Option(min=1, help="Steps of text to image.")] = [4],  # noqa: B006
    guidance_scale: Annotated[list[float], typer.Option(min=0, help="0 is none.")] = [0.0],  # noqa: B006
    images: Annotated[list[int], typer.Option(min=1, help="Images of the prompt.")] = [1],  # noqa: B006
    requests: Annotated[list[int], typer.Option(min=1, help="At once, in overhead's engine.")] = [1],  # noqa: B006
    max_new_tokens: Annotated[list[int], typer.Option(min=1, help="Ids of an answer.")] = [32],  # noqa: B006
    repeats: Annotated[int, typer.Option(min=1, help="Pairs of runs.")] = 3,
    threads: Annotated[int | None, typer.Option(min=1, help="Of torch; its own choice if left out.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of weights and draws.")] = 0,
    device: Annotated[str, typer.Option(help="Where to compute, such as cpu or cuda.")] = "cpu",
    dtype: Annotated[
        str, typer.Option(help="Of the transformer at full size: float32, bfloat16, float16.")
    ] = "float32",
    mode: Annotated[str | None, typer.Option("--compile", help="Compile it first: `torch.compile`'s mode.")] = None,
    cuda_graphs: Annotated[bool, typer.Option("--cuda-graphs", help="Record and replay its passes.")] = False,
    model: Annotated[str, typer.Option(help="The shipped model whose overhead is measured.")] = "tiny-turbo",
    small: Annotated[bool, typer.Option("--small", help="A small model instead of the full size.")] = False,
    output: Annotated[Path | None, typer.Option(help="A JSON file, written after every contest.")] = None,
    plot: Annotated[Path | None, typer.Option(help="A picture of the ratios.")] = None,
) -> None:
    """Measure how much faster the library is than others that give the same."""
    settings = dict(locals())
    check(settings)
    if threads is not None:
        torch.set_num_threads(threads)
    place, precision = parse_device(device), parse_dtype(dtype)
    facts, rate = machine(place, precision), matmul_rate(place, precision)
    report = {"settings": settings, "machine": facts, "matmul_gflops": rate / 1e9, "contests": [], "overheads": []}
    found = []

    def note(kind: str, one: Contest | Overhead) -> None:
        report[kind].append(asdict(one))
        if output is not None:
            output.write_text(json.dumps(report, indent=2, default=str) + "\n")

    if set(what) != {"overhead"}:
        pipe = random_pipeline(seed, small).to(place)
        pipe.model.to(precision)
        if mode is not None:
            pipe.compile(mode)
        if cuda_graphs:
            pipe.use_cuda_graphs()
        report["weights_gib"] = weight_bytes(pipe) / GIB
        for contest in contests(pipe, settings, rate):
            found.append(contest)
            note("contests", contest)
    for one in overheads(settings):
        note("overheads", one)
        task = (
            f"{one.model}, {one.requests} requests of {one.images} x {one.steps} steps, guidance {one.guidance_scale:g}"
        )
        print(f"{task}: {one.step_ms:.1f} ms of the processor a step, {one.share:.0%} not matrix products")
    if found:
        Console(width=160).print(as_table(found, rate, dtype))
    if plot is not None and found:
        draw(found, plot)


if __name__ == "__main__":
    typer.run(main)
