"""All aims on a GPU in one report, with random weights of the published sizes; at most eight minutes on a card.

    python benchmarks/gpu_report.py --output gpu.json       # bfloat16, CUDA graphs, 256 px
    python benchmarks/gpu_report.py --quantization float8
    python benchmarks/gpu_report.py --device cpu --small    # a small model, in seconds: does it run?

Each task runs twice, so that its passes are recorded as CUDA graphs, and then until its share of the time is used up.
Medians of wall times are printed beside the aims, with kernels a layer as torch's profiler counts them, the time of an
answer over that of reading the weights, and the fraction of pixels within 1 of 255 levels of a float32 decoder's.
"""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from full_size import random_pipeline, set_resolution, weight_bytes
from measuring import GIB, describe_machine, synchronize
from showo_turbo.backends.quantization import quantized_layers, use_quantized_linear
from showo_turbo.device import check_float8, parse_device, parse_dtype
from showo_turbo.models.magvit_v2 import MagvitV2
from showo_turbo.pipelines.pipeline import ShowoPipeline
from showo_turbo.validation import check_quantization

PROMPT = "a red circle."
NUM_IDS = 64
AIMS = {
    "a pass of one image": 2.5,
    "one image, 4 steps, decoded": 14.0,
    "16 images, 4 steps, decoded": 60.0,
}
"""Milliseconds on one H200 in bfloat16."""

MAX_LAYER_KERNELS = 8
MAX_ANSWER_RATIO = 1.5


@dataclass(frozen=True)
class Row:
    """Hold a measurement, the aim for it if there is one, and the unit of both."""

    name: str
    value: float
    aim: float | None = None
    unit: str = "ms"


def milliseconds(task: Callable[[], object], budget: float) -> float:
    """Return the median wall time of a task, after two runs, from as many runs as fit in the budget in seconds."""
    task()
    task()
    times, end = [], time.perf_counter() + budget
    while not times or time.perf_counter() < end:
        synchronize()
        start = time.perf_counter()
        task()
        synchronize()
        times.append((time.perf_counter() - start) * 1000)
    return median(times)


def bandwidth(device: torch.device, budget: float) -> float:
    """Return bytes per second of reading memory: a sum over a tensor that no cache holds."""
    large = torch.ones(2**28 if device.type == "cuda" else 2**22, device=device)
    return large.nbytes / milliseconds(large.sum, budget) * 1000


def draw(pipe: ShowoPipeline, images: int, steps: int, output_type: str) -> Any:
    """Draw images of one prompt by a generator on the device."""
    options = {"num_images_per_prompt": images, "num_inference_steps": steps, "output_type": output_type}
    return pipe.text_to_image(PROMPT, generator=torch.Generator(pipe.device).manual_seed(0), **options)


def layer_kernels(pipe: ShowoPipeline) -> float:
    """Return the kernels of a layer in a pass: the difference of two depths, eagerly, as CUDA graphs would record."""
    graphs, pipe.model.cuda_graphs = pipe.model.cuda_graphs, None
    layers, counts = pipe.model.showo.model.layers, []
    for depth in (len(layers) // 2, len(layers)):
        pipe.model.showo.model.layers = layers[len(layers) - depth :]
        with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiled:
            draw(pipe, 1, 2, "latent")
        counts.append(sum(one.device_type == torch.autograd.DeviceType.CUDA for one in profiled.events()))
    pipe.model.showo.model.layers, pipe.model.cuda_graphs = layers, graphs
    return (counts[1] - counts[0]) / 2 / (len(layers) - len(layers) // 2)


@torch.no_grad()
def decoder_rows(tokenizer: MagvitV2, codes: Tensor, budget: float) -> list[Row]:
    """Time the decoder in float32 and in float16, each in both memory layouts, and compare pixels."""
    rows = []
    for dtype in (torch.float32, torch.float16):
        for layout in (torch.contiguous_format, torch.channels_last):
            tokenizer.decoder.to(memory_format=layout)
            name = f"decoder, {len(codes)} images, {str(dtype)[6:]}, {str(layout)[6:]}"
            rows.append(Row(name, milliseconds(lambda dtype=dtype: tokenizer.decode_codes(codes, dtype=dtype), budget)))
    tokenizer.decoder.to(memory_format=torch.contiguous_format)
    half, full = (tokenizer.decode_codes(codes, dtype=dtype).clamp(-1, 1) for dtype in (torch.float16, torch.float32))
    close = ((half - full).abs() * 255 / 2 <= 1).double().mean().item()
    return [*rows, Row("pixels of float16 within a level", 100 * close, 99.9, "%")]


def measure(pipe: ShowoPipeline, budget: float, batch: int = 16) -> list[Row]:
    """Measure everything, each task for `budget` seconds, and some with a batch of images."""
    one_step, five_steps = (milliseconds(lambda n=n: draw(pipe, 1, n, "latent"), budget) for n in (1, 5))
    times = {
        "a pass of one image": (five_steps - one_step) / 4,
        "one image, 4 steps, decoded": milliseconds(lambda: draw(pipe, 1, 4, "pt"), budget),
        f"{batch} images, 4 steps, decoded": milliseconds(lambda: draw(pipe, batch, 4, "pt"), budget),
    }
    rows = [Row(name, value, AIMS.get(name)) for name, value in times.items()]
    if pipe.device.type == "cuda":
        rows.append(Row("kernels a layer", layer_kernels(pipe), MAX_LAYER_KERNELS, ""))

    codes = draw(pipe, 1, 1, "latent").codes
    options = {"prompt": "What is this?", "codes": codes, "max_new_tokens": NUM_IDS, "seed": 0}
    passes = pipe.image_to_text(**options).forward_passes
    answer = milliseconds(lambda: pipe.image_to_text(**options), budget)
    layers = (
        sum(weight.nbytes for weight in pipe.model.showo.parameters())
        - pipe.model.showo.model.embed_tokens.weight.nbytes
    )
    least = passes * layers / bandwidth(pipe.device, budget) * 1000
    rows.append(Row(f"an answer of {NUM_IDS} ids, {passes} passes", answer))
    rows.append(Row("that answer over reading the weights", answer / least, MAX_ANSWER_RATIO, "x"))
    for images in (1, batch):
        rows += decoder_rows(pipe.image_tokenizer, codes.to(pipe.device).repeat(images, 1), budget)
    return rows


def quantize_layers(model: nn.Module, quantization: str) -> None:
    """Quantize the weights of a loaded model in place."""
    use_quantized_linear(model.showo.model.layers, quantization)
    for layer in quantized_layers(model).values():
        layer.weight = nn.Parameter(layer.quantize(layer.weight.detach()), requires_grad=False)


def main(
    device: Annotated[str, typer.Option(help="Device, such as cuda or cpu.")] = "cuda",
    dtype: Annotated[str, typer.Option(help="Precision: float32, bfloat16, float16.")] = "bfloat16",
    quantization: Annotated[str | None, typer.Option(help="int8 or float8.")] = None,
    compiled: Annotated[bool, typer.Option("--compile", help="Compile the layers first.")] = False,
    budget: Annotated[float, typer.Option(help="Seconds per task.")] = 10.0,
    small: Annotated[bool, typer.Option("--small", help="A small model instead of the full size.")] = False,
    output: Annotated[Path | None, typer.Option(help="JSON file to write.")] = None,
) -> None:
    """Print every aim beside what is measured."""
    pipe = random_pipeline(small=small).to(parse_device(device))
    set_resolution(pipe, 64 if small else 256)
    pipe.model.to(parse_dtype(dtype))
    if quantization is not None:
        check_quantization(quantization)
        if quantization == "float8":
            check_float8(pipe.device)
        quantize_layers(pipe.model, quantization)
    if compiled:
        pipe.compile()
    if pipe.device.type == "cuda":
        pipe.use_cuda_graphs()
    rows = measure(pipe, budget, batch=2) if small else measure(pipe, budget)
    machine = describe_machine(pipe.device, pipe.model.dtype)
    table = Table(title=f"{machine['device']}, {dtype}, {weight_bytes(pipe) / GIB:.2f} GiB of weights")
    for name in ("", "measured", "aim", "unit"):
        table.add_column(name, justify="left" if name in ("", "unit") else "right")
    for row in rows:
        table.add_row(row.name, f"{row.value:.2f}", "" if row.aim is None else f"{row.aim:g}", row.unit)
    Console(width=120).print(table)
    if output is not None:
        output.write_text(json.dumps({"machine": machine, "rows": [asdict(row) for row in rows]}, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
