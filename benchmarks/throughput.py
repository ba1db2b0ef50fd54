"""Throughput of the engine with 1, 8 and 32 requests at a time, and beside the same requests one by one.

    python benchmarks/throughput.py [--model NAME] [--requests COUNT] [--rounds COUNT] [--output FILE]

Closed: as many requests as given are in the engine at all times; the next one is submitted when one is done. Every
round runs the engine and the same requests one by one, in one process, and medians are reported. Times are CPU times,
which exclude other processes of the machine.

Poisson: requests arrive at random between steps, `--load` times as many as would keep all places taken. Steps are the
unit of time, so the figures are the same on every machine: how many places a pass fills while requests wait.

Images differ in prompt, answers are about a few pictures, and all of them leave the image tokenizer out.
"""

import json
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, median
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table

from batching import PROMPTS, QUESTIONS, Output, Request, ids, run_one_by_one
from measuring import cpu_seconds
from showo_turbo import ImageRequest, ShowoPipeline, TextRequest
from showo_turbo.serving.engine import Engine

PICTURES = 4
KINDS = ("images", "answers", "mixed")


@dataclass(frozen=True)
class Throughput:
    """Hold the figures of one kind of requests with so many at a time.

    Attributes:
        kind: name of the kind.
        concurrency: requests at a time.
        requests_per_second: finished requests per second of CPU time.
        passes_per_second: forward passes per second of CPU time.
        rows_per_pass: mean rows of a forward pass.
        ratio: time of the requests one by one over that of the engine.
        shared: fraction of pictures whose KV cache was found, None without answers.
        same: number of requests with equal ids, one by one and in the engine.
    """

    kind: str
    concurrency: int
    requests_per_second: float
    passes_per_second: float
    rows_per_pass: float
    ratio: float
    shared: float | None
    same: int


@dataclass(frozen=True)
class Arrivals:
    """Hold the figures of requests that arrive at random.

    Attributes:
        kind: name of the kind.
        load: arrivals over what the places can take.
        occupied: mean fraction of places that are taken, over all steps.
        occupied_while_waiting: the same over steps after which a request still waits; None if there is none.
        rows_per_pass: mean rows of a forward pass.
    """

    kind: str
    load: float
    occupied: float
    occupied_while_waiting: float | None
    rows_per_pass: float


def make_requests(pipe: ShowoPipeline, kind: str, count: int) -> list[Request]:
    """Return requests of a kind, of 4 steps or up to 20 ids."""
    codes = pipe.text_to_image(PROMPTS[1], seed=0, num_images_per_prompt=PICTURES, output_type="latent").codes
    made: list[Request] = []
    for number in range(count):
        if kind == "images" or (kind == "mixed" and number % 2):
            prompt = PROMPTS[number % len(PROMPTS)]
            made.append(ImageRequest(prompt, num_inference_steps=4, seed=number, output_type="latent"))
        else:
            question = QUESTIONS[number % len(QUESTIONS)]
            made.append(TextRequest(codes=codes[number % PICTURES], prompt=question, max_new_tokens=20, seed=number))
    return made


def record_rows(pipe: ShowoPipeline) -> list[int]:
    """Return a list to which every forward pass adds its number of rows from now on."""
    rows, run = [], type(pipe.model).packed_forward.__get__(pipe.model)

    def packed_forward(embeddings: torch.Tensor, groups: Sequence) -> torch.Tensor:
        rows.append(len(embeddings))
        return run(embeddings, groups)

    pipe.model.packed_forward = packed_forward
    return rows


def run_closed(engine: Engine, requests: Sequence[Request], concurrency: int) -> list[Output]:
    """Run requests, so many at a time, and return their outputs in order."""
    waiting, outputs = list(enumerate(requests))[::-1], {}
    numbers: dict[int, int] = {}
    while waiting or engine.pending:
        while waiting and engine.pending < concurrency:
            number, request = waiting.pop()
            numbers[engine.submit(request)] = number
        outputs |= {numbers[update.ticket]: update.output() for update in engine.step() if update.done}
    return [outputs[number] for number in range(len(requests))]


def measure(
    pipe: ShowoPipeline, kind: str, count: int, concurrency: int, rounds: int, prefix_cache_size: int
) -> Throughput:
    """Measure one kind at one concurrency."""
    requests, rows = make_requests(pipe, kind, count), record_rows(pipe)
    outputs: dict[str, list[Output]] = {}
    engines: list[Engine] = []

    def run_engine() -> None:
        engines.append(pipe.engine(max(concurrency, 2), prefix_cache_size))
        outputs["engine"] = run_closed(engines[-1], requests, concurrency)

    def run_each() -> None:
        outputs["one by one"] = run_one_by_one(pipe, requests)

    run_each()
    times = []
    for _ in range(rounds):
        rows.clear()
        engine_seconds = cpu_seconds(run_engine)
        passes, total = len(rows), sum(rows)
        times.append((engine_seconds, cpu_seconds(run_each)))
    seconds = median(one for one, _ in times)
    store = engines[-1].store
    return Throughput(
        kind,
        concurrency,
        count / seconds,
        passes / seconds,
        total / passes,
        median(each / engine for engine, each in times),
        store.hits / store.lookups if store is not None and store.lookups else None,
        sum(ids(one) == ids(other) for one, other in zip(*outputs.values(), strict=True)),
    )


def measure_arrivals(pipe: ShowoPipeline, kind: str, count: int, places: int, load: float) -> Arrivals:
    """Let requests arrive at random between steps until all are done."""
    requests, rows, source = make_requests(pipe, kind, count), record_rows(pipe), random.Random(0)
    engine = pipe.engine(places)
    run_closed(engine, requests, places)
    steps_each = engine.steps * places / count  # steps that a request occupies a place for
    rows.clear()
    first, occupied, while_waiting = engine.steps, [], []
    arrival, arrivals = 0.0, []
    for _ in requests:
        arrival += source.expovariate(load * places / steps_each)
        arrivals.append(arrival)
    left = list(zip(arrivals, requests, strict=True))[::-1]
    while left or engine.pending:
        while left and left[-1][0] <= engine.steps - first:
            engine.submit(left.pop()[1])
        before = engine.pending
        engine.step()
        if left:  # the last ones leave places empty in any case
            occupied.append(engine.occupied / places)
            while_waiting += [engine.occupied / places] * (before > engine.occupied)
    return Arrivals(kind, load, mean(occupied), mean(while_waiting) if while_waiting else None, mean(rows))


def show(title: str, results: Sequence[Throughput | Arrivals]) -> None:
    """Print results as a table."""
    table = Table(*asdict(results[0]), caption=title)
    for one in results:
        table.add_row(*(f"{value:.2f}" if isinstance(value, float) else str(value) for value in asdict(one).values()))
    Console(width=140).print(table)


def main(
    model: Annotated[str, typer.Option(help="Name or folder.")] = "tiny-turbo",
    requests: Annotated[int, typer.Option(help="Requests of each kind.")] = 64,
    rounds: Annotated[int, typer.Option(help="Runs of the engine and of requests one by one.")] = 3,
    concurrency: Annotated[list[int] | None, typer.Option(help="Requests at a time; 1, 8 and 32 if left out.")] = None,
    load: Annotated[list[float] | None, typer.Option(help="Loads of random arrivals; .7 and 1.2 if left out.")] = None,
    prefix_cache_size: Annotated[int, typer.Option(help="MiB for KV caches of pictures; 0 shares none.")] = 256,
    output: Annotated[Path | None, typer.Option(help="JSON file to write.")] = None,
) -> None:
    """Print throughput, and how full passes are."""
    pipe = ShowoPipeline.from_pretrained(model)
    closed = [
        measure(pipe, kind, requests, number, rounds, prefix_cache_size)
        for kind in KINDS
        for number in concurrency or (1, 8, 32)
    ]
    show(f"{model}, threads: {torch.get_num_threads()}", closed)
    random_arrivals = [measure_arrivals(pipe, kind, requests, 8, one) for kind in KINDS for one in load or (0.7, 1.2)]
    show(f"{model}, arrivals at random, 8 places", random_arrivals)
    if output is not None:
        output.write_text(json.dumps([asdict(one) for one in [*closed, *random_arrivals]], indent=2))


if __name__ == "__main__":
    typer.run(main)
