"""Accepted requests, as their readers see them: events up to a result, an error or a deadline."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Protocol

from showo_turbo.serving.dialogues import ChatRequest
from showo_turbo.serving.engine import Update
from showo_turbo.serving.requests import PipelineRequest

Request = PipelineRequest | ChatRequest


class QueueFullError(Exception):
    """Report that too many requests wait.

    Attributes:
        retry_after: seconds after which a place is expected to be free.
    """

    def __init__(self, waiting: int, retry_after: int) -> None:
        super().__init__(f"{waiting} requests are waiting: try again in {retry_after} s")
        self.retry_after = retry_after


class DrainingError(Exception):
    """Report that the server is about to stop and takes no new requests."""

    def __init__(self) -> None:
        super().__init__("the server is stopping and takes no new requests: try another one, or later")


class Event(Protocol):
    """Hold what a reader gets: a preview, a part of a text, or the result."""

    @property
    def done(self) -> bool:
        """Whether this is the last event of the request."""


Report = Callable[[Update], Event | None]
"""Turns an update into an event, or None if the reader is not interested in it; runs in the thread."""


@dataclass(eq=False)
class Submission:
    """Hold an accepted request. Iterate over it once for its events.

    Attributes:
        model: name of the model.
        request: the request.
        report: turns updates into events.
        give_up: removes it from the worker.
        deadline: time up to which events are awaited, of the event loop.
        accepted: time of acceptance, of `time.monotonic`.
        started: time of its first step.
        ticket: its ticket in the engine.
    """

    model: str
    request: Request
    report: Report
    give_up: Callable[["Submission"], None]
    deadline: float
    accepted: float = field(default_factory=time.monotonic)
    started: float | None = None
    ticket: int | None = None
    events: asyncio.Queue[Event | Exception | None] = field(default_factory=asyncio.Queue)
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)

    async def checked(self) -> None:
        """Wait until the request has been checked; called once, before the events are read.

        Raises:
            TimeoutError: if the deadline passes.
            Exception: the error of a request that is invalid.
        """
        async with asyncio.timeout_at(self.deadline):
            event = await self.events.get()
        if isinstance(event, Exception):
            raise event

    async def __aiter__(self) -> AsyncIterator[Event]:
        """Yield events up to the last one; leaving earlier cancels the request.

        Raises:
            TimeoutError: if the deadline passes.
            Exception: the error that ended the request.
        """
        done = False
        try:
            while not done:
                async with asyncio.timeout_at(self.deadline):
                    event = await self.events.get()
                if isinstance(event, Exception):
                    done = True
                    raise event
                if event is not None:
                    done = event.done
                    yield event
        finally:
            if not done:
                self.cancel()

    def cancel(self) -> None:
        """Give up the request; without effect if it has ended."""
        self.give_up(self)
