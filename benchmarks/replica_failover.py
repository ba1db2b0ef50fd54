"""Kill a replica of Ray Serve under load, and count what its clients see.

    serve run integrations.ray_serve:app models=tiny-turbo min_replicas=2 max_replicas=2 &
    python benchmarks/replica_failover.py --requests 100 --concurrency 16 --retries 0

Two runs of the same seeded requests, the second with SIGKILL to one replica's process after a fifth of the answers.
Reported: answers, errors by status, errors of requests that were not running at the kill (there should be none),
whether all images are those of the first run, and the seconds until as many replicas run again. Replicas run on this
machine.
"""

import asyncio
import os
import signal
import subprocess
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Annotated

import openai
import typer


@dataclass
class Run:
    """Hold what the clients of a run saw.

    Attributes:
        images: base64 of the image of each answered seed.
        errors: class and status of the error of each failed seed.
        running: seeds without an answer yet that have been sent.
        killed: seeds that were running at the kill.
        kill_time: time of the kill, of `time.monotonic`.
    """

    images: dict[int, str] = field(default_factory=dict)
    errors: dict[int, tuple[str, int | None]] = field(default_factory=dict)
    running: set[int] = field(default_factory=set)
    killed: set[int] | None = None
    kill_time: float = 0.0


def replica_processes() -> list[int]:
    """Return the process ids of the replicas on this machine."""
    found = subprocess.run(["pgrep", "-f", "^ray::ServeReplica"], capture_output=True, text=True, check=False)
    return [int(line) for line in found.stdout.split()]


async def send_all(url: str, requests: int, concurrency: int, retries: int, kills: bool) -> Run:
    """Send seeded requests, and kill a replica on the way if `kills`."""
    client = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=retries, timeout=300)
    run, places = Run(), asyncio.Semaphore(concurrency)

    async def send(seed: int) -> None:
        async with places:
            run.running.add(seed)
            try:
                answer = await client.images.generate(
                    prompt="two yellow stars", extra_body={"seed": seed, "num_inference_steps": 16}
                )
                run.images[seed] = answer.data[0].b64_json
            except openai.OpenAIError as error:
                run.errors[seed] = (type(error).__name__, getattr(error, "status_code", None))
            run.running.discard(seed)
            if kills and run.killed is None and len(run.images) >= requests // 5:
                run.killed, run.kill_time = set(run.running), time.monotonic()
                os.kill(replica_processes()[0], signal.SIGKILL)

    await asyncio.gather(*map(send, range(requests)))
    return run


def main(
    url: Annotated[str, typer.Option(help="Address of the proxy.")] = "http://127.0.0.1:8000",
    requests: Annotated[int, typer.Option(help="Requests of a run.")] = 100,
    concurrency: Annotated[int, typer.Option(help="Requests at once.")] = 16,
    retries: Annotated[int, typer.Option(help="Times that the client sends a failed request again.")] = 0,
) -> None:
    """Run without and with a kill, and print the counts."""
    before = len(replica_processes())
    calm = asyncio.run(send_all(url, requests, concurrency, retries, kills=False))
    run = asyncio.run(send_all(url, requests, concurrency, retries, kills=True))
    killed = run.killed or set()
    print(f"without a kill: {len(calm.images)} answers, errors {dict(Counter(calm.errors.values()))}")
    print(f"with a kill: {len(run.images)} answers, errors {dict(Counter(run.errors.values()))}")
    print(f"running at the kill: {len(killed)}, failed though not running then: {sorted(set(run.errors) - killed)}")
    same = all(image == calm.images.get(seed) for seed, image in run.images.items())
    print(f"images as without a kill: {same}")
    while len(replica_processes()) < before:
        time.sleep(1)
    print(f"{before} replicas again within {time.monotonic() - run.kill_time:.0f} s of the kill")


if __name__ == "__main__":
    typer.run(main)
