"""Many mixed requests at once, with clients that leave or read slowly: every answer is that of its solo run."""

import asyncio
import base64
import random
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
from PIL import Image
from server_process import ServerProcess, start_server

from showo_turbo import ShowoPipeline

AT_ONCE = 16
IMAGES = [Image.fromarray(np.random.default_rng(n).integers(0, 256, (32, 32, 3), dtype=np.uint8)) for n in range(4)]
MASK = Image.new("L", (32, 32))
MASK.paste(255, (0, 0, 16, 32))


def png(image: Image.Image) -> bytes:
    buffer = BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


FILES = [png(image) for image in IMAGES]
URLS = [f"data:image/png;base64,{base64.b64encode(file).decode()}" for file in FILES]


def made(number: int) -> tuple[str, dict[str, Any]]:
    """Return kind and arguments of a request."""
    dice = random.Random(number)
    kind = dice.choice(
        ["draw", "draw", "wide", "vary", "inpaint", "extend", "ask", "ask", "chat", "stream", "previews"]
    )
    return kind, {"seed": number % 40, "image": dice.randrange(4), "steps": dice.choice([1, 3, 8])}


def alone(pipe: ShowoPipeline, number: int) -> bytes | str:
    """Return what a request gives by itself."""
    kind, own = made(number)
    image, options = IMAGES[own["image"]], {"num_inference_steps": own["steps"], "seed": own["seed"]}
    if kind in ("ask", "stream"):
        return pipe.image_to_text(image, f"What {own['seed']}?", max_new_tokens=12).texts[0]
    if kind == "chat":
        chat = pipe.chat(image)
        return chat.ask("What is it?", max_new_tokens=6).texts[0]
    draw: dict[str, Callable[[], Any]] = {
        "draw": lambda: pipe.text_to_image("a dog", guidance_scale=1.0, **options),
        "previews": lambda: pipe.text_to_image("a dog", **options),
        "wide": lambda: pipe.text_to_image("a cow", width=48, **options),
        "vary": lambda: pipe.vary(image, "a cat", 0.5, **options),
        "inpaint": lambda: pipe.inpaint(image, MASK, "a cat", **options),
        "extend": lambda: pipe.extrapolate(image, "a cat", "left", **options),
    }
    return png(draw[kind]().images[0])


async def run_one(client: openai.AsyncOpenAI, number: int, slow: bool) -> bytes | str:
    """Send a request and return its result; a slow reader pauses between events."""
    kind, own = made(number)
    extra = {"num_inference_steps": own["steps"], "seed": own["seed"]}

    async def pause() -> None:
        if slow:
            await asyncio.sleep(0.05)

    if kind in ("ask", "stream", "chat"):
        question = "What is it?" if kind == "chat" else f"What {own['seed']}?"
        parts = [{"type": "text", "text": question}, {"type": "image_url", "image_url": {"url": URLS[own["image"]]}}]
        messages: Any = [{"role": "user", "content": parts}]
        length = 6 if kind == "chat" else 12
        if kind == "stream":
            text = ""
            async for chunk in await client.chat.completions.create(
                model="random", messages=messages, max_tokens=length, stream=True
            ):
                text += (chunk.choices[0].delta.content or "") if chunk.choices else ""
                await pause()
            return text
        answer = await client.chat.completions.create(model="random", messages=messages, max_tokens=length)
        return str(answer.choices[0].message.content)
    if kind == "previews":
        file = ""
        async for event in await client.images.generate(
            prompt="a dog", model="random", stream=True, partial_images=2, extra_body=extra
        ):
            file = event.b64_json
            await pause()
        return base64.b64decode(file)
    if kind in ("draw", "wide"):
        wide = {"size": "48x32", "prompt": "a cow"} if kind == "wide" else {"prompt": "a dog"}
        guided = {"guidance_scale": 1.0} if kind == "draw" else {}
        result = await client.images.generate(model="random", extra_body=extra | guided, **wide)
    else:
        edit = {"vary": {"strength": 0.5}, "inpaint": {}, "extend": {"direction": "left"}}[kind]
        mask: Any = ("mask.png", png(MASK)) if kind == "inpaint" else openai.omit
        image = ("image.png", FILES[own["image"]])
        result = await client.images.edit(
            model="random", image=image, mask=mask, prompt="a cat", extra_body=extra | edit
        )
    return base64.b64decode(result.data[0].b64_json)


async def run_many(
    server: ServerProcess, count: int, on_done: Callable[[int], Awaitable[None]] | None = None
) -> dict[int, bytes | str | Exception]:
    """Run requests, `AT_ONCE` at a time; one in eight leaves early, one in four reads slowly."""
    results: dict[int, bytes | str | Exception] = {}
    places = asyncio.Semaphore(AT_ONCE)

    async def run(client: openai.AsyncOpenAI, number: int) -> None:
        dice = random.Random(-number)
        async with places:
            try:
                one = run_one(client, number, slow=dice.random() < 0.25)
                if dice.random() < 0.125:
                    results[number] = await asyncio.wait_for(one, dice.uniform(0.001, 0.1))
                else:
                    results[number] = await one
            except Exception as error:
                results[number] = error
            if on_done is not None:
                await on_done(len(results))

    async with server.async_client() as client:
        await asyncio.gather(*(run(client, number) for number in range(count)))
    return results


def resident_mib(server: ServerProcess) -> float:
    for line in Path(f"/proc/{server.process.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0.0


def assert_solo_results(pipe: ShowoPipeline, results: dict[int, bytes | str | Exception], count: int) -> Counter:
    kinds: Counter = Counter()
    assert len(results) == count
    for number, result in results.items():
        if isinstance(result, TimeoutError):
            kinds["left"] += 1
            continue
        assert not isinstance(result, Exception), f"request {number}, {made(number)}: {result!r}"
        assert result == alone(pipe, number), f"request {number}, {made(number)}"
        kinds[made(number)[0]] += 1
    return kinds


def test_forty_mixed_requests(server: ServerProcess, random_pipe: ShowoPipeline) -> None:
    kinds = assert_solo_results(random_pipe, asyncio.run(run_many(server, 40)), 40)
    assert len(kinds) > 6
    assert server.metric("showo_turbo_requests_running") == server.metric("showo_turbo_requests_waiting") == 0


@pytest.mark.slow
def test_five_hundred_mixed_requests(tmp_path: Path, random_checkpoint: Path, random_pipe: ShowoPipeline) -> None:
    """No answer is lost or differs, and the memory is flat."""
    server = start_server(tmp_path, "--model", str(random_checkpoint), "--cache-size", "1", "--prefix-cache-size", "1")
    asyncio.run(run_many(server, 150))
    memory: list[float] = []

    async def measure(done: int) -> None:
        if done % 50 == 0:
            memory.append(resident_mib(server))

    results = asyncio.run(run_many(server, 500, measure))
    slope = float(np.polyfit(np.arange(len(memory)) * 50, memory, 1)[0]) * 100
    print(f"resident MiB: {[round(one) for one in memory]}, slope {slope:.2f} MiB per 100 requests")
    print(assert_solo_results(random_pipe, results, 500))
    assert server.stop() == 0
    assert "Traceback" not in server.log.read_text()
    assert slope < 4


@pytest.mark.slow
def test_a_signal_in_the_middle_loses_no_accepted_request(
    tmp_path: Path, random_checkpoint: Path, random_pipe: ShowoPipeline
) -> None:
    """Every request is answered as alone, or refused with 503, or finds the server gone."""
    server = start_server(tmp_path, "--model", str(random_checkpoint), "--drain-seconds", "60")

    async def stop(done: int) -> None:
        if done == 60:
            server.process.send_signal(signal.SIGTERM)

    results = asyncio.run(run_many(server, 150, stop))
    kinds: Counter = Counter()
    for number, result in results.items():
        if isinstance(result, openai.APIStatusError):
            assert result.status_code == 503
            kinds["refused"] += 1
        elif isinstance(result, openai.APIConnectionError):
            kinds["gone"] += 1
        elif not isinstance(result, TimeoutError):
            assert result == alone(random_pipe, number)
            kinds["answered"] += 1
    print(kinds)
    assert kinds["answered"] >= 50
    assert kinds["refused"] + kinds["gone"] > 0
    server.clients.close()
    with server.process:
        assert server.process.wait(60) == 0
    assert "Traceback" not in server.log.read_text()
