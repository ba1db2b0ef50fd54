"""What all routes share: worker, limits, metrics, keys, and the checks that need them."""

import asyncio
import secrets
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Request
from fastapi.security import HTTPBearer

from showo_turbo.pipelines.pipeline import ShowoPipeline
from showo_turbo.serving.http.bodies import ignored_fields
from showo_turbo.serving.http.error_bodies import ApiError, invalid
from showo_turbo.serving.http.keys import ApiKeys
from showo_turbo.serving.http.metrics import Metrics
from showo_turbo.serving.limits import LimitOptions
from showo_turbo.serving.requests import ImageRequest
from showo_turbo.serving.worker import Worker

T = TypeVar("T")

Sidecar = Callable[[str, ImageRequest], dict[str, Any]]
"""Returns the content of the sidecar file of an image, from the name of the model and the request."""

_ERROR = {
    "type": "object",
    "required": ["message", "type", "param", "code"],
    "properties": {
        "message": {"type": "string"},
        "type": {"type": "string"},
        "param": {"type": ["string", "null"]},
        "code": {"type": "string"},
    },
}
ERRORS: dict[int | str, dict[str, Any]] = {
    "default": {
        "description": "An error.",
        "content": {"application/json": {"schema": {"type": "object", "properties": {"error": _ERROR}}}},
    }
}
"""Errors of all routes, for the documentation."""

BEARER = Depends(HTTPBearer(auto_error=False))
"""Documents that a route takes a key, which the gate has checked."""

_IMAGE_THREADS = 2


@dataclass
class Server:
    """Hold what all routes share.

    Attributes:
        worker: runs the models.
        limits: limits of the server.
        metrics: measurements.
        keys: keys that let in.
        allow_remote_images: fetch images that clients name by address.
        origins: origins of web pages that may send requests.
        only_loopback: serve loopback names only.
        logs: print a line for each request.
        log_prompts: print prompts and questions too.
        sidecar: makes sidecar files for the page, which is served if it is given.
        images: threads that decode and encode image files.
        started: time of the start, in seconds since 1970.
    """

    worker: Worker
    limits: LimitOptions
    metrics: Metrics
    keys: ApiKeys = field(default_factory=ApiKeys)
    allow_remote_images: bool = False
    origins: Sequence[str] = ()
    only_loopback: bool = False
    logs: bool = True
    log_prompts: bool = False
    sidecar: Sidecar | None = None
    images: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(_IMAGE_THREADS, thread_name_prefix="showo-turbo images")
    )
    started: int = field(default_factory=lambda: int(time.time()))

    def __post_init__(self) -> None:
        """Report queue and caches of the worker with the measurements."""
        self.metrics.watch(self.worker)

    def pipe(self, model: str | None) -> tuple[str, ShowoPipeline]:
        """Return name and pipeline of a model, of the first one if None.

        Raises:
            ApiError: if there is no such model.
        """
        pipes = self.worker.pipes
        name = next(iter(pipes)) if model is None else model
        if name not in pipes:
            known = ", ".join(pipes)
            raise ApiError(404, f"model {name[:60]!r} is unknown: choose {known}", "model_not_found", "model")
        return name, pipes[name]

    async def in_image_thread(self, function: Callable[..., T], *arguments: object) -> T:
        """Run a function that works on image files outside of the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self.images, partial(function, *arguments))

    def warnings(self, pipe: ShowoPipeline, body: Any, kind: str, texts: Sequence[str]) -> list[str]:
        """Return warnings for a client: fields without effect, words that the model has never seen."""
        unknown = pipe.known_world and pipe.known_world.note(texts, kind)  # type: ignore[arg-type]
        return [*ignored_fields(body), *([unknown] if unknown else [])]

    def check_prompt(self, prompt: str, param: str = "prompt") -> None:
        """Check the length of a text, and print it if prompts are logged.

        Raises:
            ApiError: if it is too long.
        """
        if len(prompt) > self.limits.max_prompt:
            raise invalid(param, f"{param} has {len(prompt):,} characters: give at most {self.limits.max_prompt:,}")
        if self.log_prompts:
            print(f"{param}: {prompt!r}", file=sys.stderr, flush=True)


async def _server_of(request: Request) -> Server:
    return request.app.state.server


RequestServer = Annotated[Server, Depends(_server_of)]
"""The server, as an argument of a route."""


def choose_seed(seed: int | None) -> int:
    """Return a seed, a random one if None."""
    return secrets.randbelow(2**32) if seed is None else seed


def now() -> int:
    """Return the time in seconds, as OpenAI's API has it."""
    return int(time.time())
