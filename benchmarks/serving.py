"""Load on the HTTP server: batched by the engine, and one request at a time.

    python benchmarks/serving.py [--model NAME] [--requests COUNT] [--concurrency N ...] [--output FILE]

Two servers of the same model run side by side, of which one is idle at any time: one with the default limits, one with
`--max-sequences 1`. At each concurrency both get the same requests, in turns: streamed images with a preview, and
streamed answers, alternately. Clients are in this process and on the same CPUs.
"""

import asyncio
import base64
import json
import os
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any

import httpx
import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from showo_turbo import ShowoPipeline

PROMPTS = ["a red circle", "a blue star and a green square", "two yellow triangles", "a star"]
QUESTIONS = ["How many stars are there?", "Describe the image.", "Where is the star?"]
SERVERS = {"engine": [], "one at a time": ["--max-sequences", "1"]}


@dataclass(frozen=True)
class Load:
    """Hold the figures of one server at one concurrency; times in seconds.

    Attributes:
        server: name of the server.
        concurrency: requests at a time.
        requests: number of requests.
        per_second: requests per second.
        p50: median time of a request.
        p99: 99th percentile.
        first_preview: median time to the first preview of an image.
        first_token: median time to the first part of an answer.
    """

    server: str
    concurrency: int
    requests: int
    per_second: float
    p50: float
    p99: float
    first_preview: float
    first_token: float


def bodies(model: str, count: int) -> list[tuple[str, dict[str, Any]]]:
    """Return routes and bodies of requests, images and answers alternately."""
    image = ShowoPipeline.from_pretrained(model, device="cpu").text_to_image(PROMPTS[1], seed=0).images[0]
    buffer = BytesIO()
    image.save(buffer, "PNG")
    url = {"url": f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"}
    made: list[tuple[str, dict[str, Any]]] = []
    for number in range(count):
        if number % 2:
            parts = [
                {"type": "text", "text": QUESTIONS[number % len(QUESTIONS)]},
                {"type": "image_url", "image_url": url},
            ]
            messages = [{"role": "user", "content": parts}]
            made.append(("chat/completions", {"messages": messages, "stream": True, "seed": number}))
        else:
            draw = {"prompt": PROMPTS[number % len(PROMPTS)], "seed": number, "num_inference_steps": 8}
            draw |= {"guidance_scale": 0, "stream": True, "partial_images": 1}
            made.append(("images/generations", draw))
    return made


async def send(client: httpx.AsyncClient, route: str, body: dict[str, Any]) -> tuple[float, float]:
    """Send a request and return the times to its first preview or part, and to its end."""
    begin, first = time.perf_counter(), 0.0
    async with client.stream("POST", f"/v1/{route}", json=body) as response:
        response.raise_for_status()
        async for line in response.aiter_lines():
            if not first and ('"b64_json"' in line or '"delta": {"content"' in line):
                first = time.perf_counter() - begin
    end = time.perf_counter() - begin
    return first or end, end


async def run_load(url: str, requests: list[tuple[str, dict[str, Any]]], concurrency: int) -> tuple[float, np.ndarray]:
    """Run requests, so many at a time; return the seconds for all, and the times of each, (requests, 2)."""
    places = asyncio.Semaphore(concurrency)

    async def run(client: httpx.AsyncClient, route: str, body: dict[str, Any]) -> tuple[float, float]:
        async with places:
            return await send(client, route, body)

    limits = httpx.Limits(max_connections=concurrency)
    async with httpx.AsyncClient(base_url=url, timeout=600, limits=limits, trust_env=False) as client:
        begin = time.perf_counter()
        times = await asyncio.gather(*(run(client, *request) for request in requests))
        return time.perf_counter() - begin, np.array(times)


def start(model: str, options: list[str], stack: ExitStack) -> str:
    """Start a server that ends with a stack, and return its URL."""
    command = [sys.executable, "-m", "showo_turbo", "--quiet", "serve", "--model", model, "--port", "0", *options]
    environment = os.environ | {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    process = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment))
    stack.callback(process.terminate)
    assert process.stdout is not None
    return process.stdout.readline().split()[-1]


def measure(model: str, count: int, concurrencies: list[int]) -> list[Load]:
    """Measure both servers at every concurrency."""
    requests, loads = bodies(model, count), []
    with ExitStack() as stack:
        urls = {name: start(model, options, stack) for name, options in SERVERS.items()}
        for url in urls.values():
            asyncio.run(run_load(url, requests[:4], 2))
        for concurrency in concurrencies:
            for name, url in urls.items():
                seconds, times = asyncio.run(run_load(url, requests, concurrency))
                p50, p99 = np.percentile(times[:, 1], [50, 99])
                preview, token = np.median(times[0::2, 0]), np.median(times[1::2, 0])
                figures = [count / seconds, p50, p99, preview, token]
                loads.append(Load(name, concurrency, count, *(round(float(one), 4) for one in figures)))
    return loads


def main(
    model: Annotated[str, typer.Option(help="A shipped model, a folder or a hub name.")] = "tiny-turbo",
    requests: Annotated[int, typer.Option(help="Requests of each server at each concurrency.")] = 96,
    concurrency: Annotated[
        list[int] | None, typer.Option(help="Requests at a time; may be given several times; 1, 8 and 32 if left out.")
    ] = None,
    output: Annotated[Path | None, typer.Option(help="A JSON file for the figures.")] = None,
) -> None:
    """Print the figures of both servers."""
    loads = measure(model, requests, concurrency or [1, 8, 32])
    table = Table("server", "at a time", "requests/s", "p50, s", "p99, s", "first preview, s", "first token, s")
    for one in loads:
        figures = [one.per_second, one.p50, one.p99, one.first_preview, one.first_token]
        table.add_row(one.server, str(one.concurrency), *(f"{figure:.2f}" for figure in figures))
    Console().print(table)
    if output is not None:
        output.write_text(json.dumps([asdict(one) for one in loads], indent=1))


if __name__ == "__main__":
    typer.run(main)
