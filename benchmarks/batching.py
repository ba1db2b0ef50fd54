"""Throughput of many requests: batched by the engine, and one by one.

    python benchmarks/batching.py [--model NAME] [--requests COUNT] [--rounds COUNT] [--max-sequences N] [--output FILE]

Requests differ in prompt, steps, guidance, seed, block length and decoding. All are submitted at once; times exclude
the image tokenizer (images are requested as codes, and questions are about codes). Every round runs both in one
process, and the median of the ratios is reported. "same" is the number of requests with equal ids.
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table

from showo_turbo import ImageOutput, ImageRequest, ShowoPipeline, TextOutput, TextRequest

Request = ImageRequest | TextRequest
Output = ImageOutput | TextOutput

PROMPTS = ["a red circle", "a blue star and a green square", "two yellow triangles", "a star"]
QUESTIONS = ["How many stars are there?", "Describe the image.", "Where is the red circle?"]


@dataclass(frozen=True)
class ThroughputComparison:
    """Hold the times of one kind of requests.

    Attributes:
        kind: name of the kind.
        requests: number of requests.
        one_by_one: seconds for all, median of the rounds.
        engine: seconds for all, median of the rounds.
        ratio: speedup of the engine, median of the rounds.
        same: number of requests with equal ids.
    """

    kind: str
    requests: int
    one_by_one: float
    engine: float
    ratio: float
    same: int


def image_requests(count: int) -> list[ImageRequest]:
    """Build image requests of 4 to 16 steps, every other one with guidance."""
    return [
        ImageRequest(
            PROMPTS[number % len(PROMPTS)],
            num_inference_steps=(4, 8, 16)[number % 3],
            guidance_scale=float(number % 2),
            seed=number,
            output_type="latent",
        )
        for number in range(count)
    ]


def text_requests(pipe: ShowoPipeline, count: int) -> list[TextRequest]:
    """Build text requests about an image: three Jacobi ones of different block lengths to each autoregressive one."""
    codes = pipe.text_to_image(PROMPTS[1], seed=0, output_type="latent").codes
    return [
        TextRequest(
            codes=codes,
            prompt=QUESTIONS[number % len(QUESTIONS)],
            decoding="autoregressive" if number % 4 == 3 else "jacobi",
            block_length=(16, 8, 4, 1)[number % 4],
            seed=number,
        )
        for number in range(count)
    ]


def run_one_by_one(pipe: ShowoPipeline, requests: Sequence[Request]) -> list[Output]:
    """Run requests one after the other, by the methods of the pipeline."""
    return [
        (pipe.text_to_image if isinstance(request, ImageRequest) else pipe.image_to_text)(**vars(request))
        for request in requests
    ]


def run_engine(pipe: ShowoPipeline, requests: Sequence[Request], max_sequences: int) -> list[Output]:
    """Run all requests in an engine."""
    updates = pipe.engine(max_sequences).run(requests)
    outputs = {update.ticket: update.output() for update in updates if update.done}
    return [outputs[ticket] for ticket in range(len(requests))]


def ids(output: Output) -> list:
    """Return the ids of an output."""
    return output.codes.tolist() if isinstance(output, ImageOutput) else output.token_ids


def timed(function: Callable[[], list[Output]]) -> tuple[float, list[Output]]:
    """Return the wall time in seconds, and the outputs."""
    start = time.perf_counter()
    outputs = function()
    return time.perf_counter() - start, outputs


def compare(
    pipe: ShowoPipeline, kind: str, requests: Sequence[Request], rounds: int, max_sequences: int
) -> ThroughputComparison:
    """Run requests one by one and in an engine, alternating."""
    methods = {
        "one by one": lambda: run_one_by_one(pipe, requests),
        "engine": lambda: run_engine(pipe, requests, max_sequences),
    }
    times = {name: [] for name in methods}
    outputs = {}
    for _ in range(rounds):
        for name, function in methods.items():
            seconds, outputs[name] = timed(function)
            times[name].append(seconds)
    ratio = median(one_by_one / engine for one_by_one, engine in zip(*times.values(), strict=True))
    same = sum(ids(one) == ids(other) for one, other in zip(*outputs.values(), strict=True))
    return ThroughputComparison(kind, len(requests), *map(median, times.values()), ratio, same)


def main(
    model: Annotated[str, typer.Option(help="Name or folder.")] = "tiny",
    requests: Annotated[int, typer.Option(help="Requests of each kind.")] = 16,
    rounds: Annotated[int, typer.Option(help="Runs of each method.")] = 3,
    max_sequences: Annotated[int, typer.Option(help="The engine's limit.")] = 32,
    output: Annotated[Path | None, typer.Option(help="JSON file to write.")] = None,
) -> None:
    """Compare throughput for images, for answers, and for a mix."""
    pipe = ShowoPipeline.from_pretrained(model)
    images, texts = image_requests(requests), text_requests(pipe, requests)
    mixed = [one for pair in zip(images[::2], texts[::2], strict=True) for one in pair]
    kinds = {"images": images, "answers": texts, "half and half": mixed}
    run_one_by_one(pipe, mixed[:2])
    found = [compare(pipe, kind, chosen, rounds, max_sequences) for kind, chosen in kinds.items()]
    table = Table(caption=f"{model}, at most {max_sequences} sequences, threads: {torch.get_num_threads()}")
    for name in ("kind", "requests", "one by one, s", "engine, s", "times faster", "same"):
        table.add_column(name, justify="left" if name == "kind" else "right")
    for one in found:
        seconds = (f"{one.one_by_one:.2f}", f"{one.engine:.2f}", f"{one.ratio:.2f}")
        table.add_row(one.kind, str(one.requests), *seconds, str(one.same))
    Console(width=120).print(table)
    if output is not None:
        output.write_text(json.dumps([asdict(one) for one in found], indent=2))


if __name__ == "__main__":
    typer.run(main)
