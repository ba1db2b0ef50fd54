"""A server in a process of its own, as users start it."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import openai
import pytest

from showo_turbo import ShowoPipeline

KEYS = ("first-test-key", "second-test-key")
MODEL = "tiny-turbo"


@dataclass
class ServerProcess:
    """Hold a running server."""

    process: subprocess.Popen
    url: str
    log: Path
    clients: ExitStack = field(default_factory=ExitStack)

    def client(self, key: str = KEYS[0]) -> openai.OpenAI:
        client = openai.OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0, timeout=60)
        return self.clients.enter_context(client)

    def async_client(self, key: str = KEYS[0]) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0, timeout=120)

    def http(self, key: str | None = KEYS[0]) -> httpx.Client:
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        client = httpx.Client(base_url=self.url, headers=headers, timeout=60, trust_env=False)
        return self.clients.enter_context(client)

    def metric(self, name: str) -> float:
        """Return the sum of all samples of a metric."""
        text = self.http().get("/metrics").text
        return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if re.match(rf"{name}[{{ ]", line))

    def stop(self, number: int = signal.SIGTERM, timeout: float = 60) -> int:
        """Send a signal and return the exit status."""
        self.process.send_signal(number)
        self.clients.close()
        with self.process:
            return self.process.wait(timeout)


def start_server(folder: Path, *options: str, keys: bool = True) -> ServerProcess:
    """Start a server on a free port."""
    (folder / "keys.txt").write_text("# keys of the tests\n" + "\n".join(KEYS) + "\n")
    log = folder / "server.log"
    command = [sys.executable, "-m", "showo_turbo", "serve", "--port", "0", "--device", "cpu", *options]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with log.open("w") as errors:
        process = subprocess.Popen(
            [*command, *(["--api-keys-file", str(folder / "keys.txt")] if keys else [])],
            stdout=subprocess.PIPE, stderr=errors, text=True, env=environment, cwd=folder,
        )  # fmt: skip
    line = process.stdout.readline()
    assert "http://" in line, log.read_text()
    return ServerProcess(process, line.split()[-1], log)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, random_checkpoint: Path) -> Iterator[ServerProcess]:
    """Serve two models with two keys and small limits."""
    limits = "--max-queue 24 --max-sequences 8 --max-body 1 --max-pixels 0.5 --max-prompt 2000 --max-streams 48"
    models = ["--model", MODEL, "--model", str(random_checkpoint)]
    one = start_server(tmp_path_factory.mktemp("server"), *limits.split(), *models)
    yield one
    one.stop(signal.SIGKILL)
    assert "Traceback" not in one.log.read_text()


@pytest.fixture(scope="session")
def tiny_turbo() -> ShowoPipeline:
    """The model that is served, in this process."""
    return ShowoPipeline.from_pretrained(MODEL, device="cpu")
