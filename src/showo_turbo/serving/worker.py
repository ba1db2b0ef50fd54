"""One thread that owns the models and steps their engines, and requests that come from an event loop.

    event loop                                        thread
    submit ---- Submission --------- inbox ---------> prepare, Engine.submit
    async for event in task  <------ events --------- Engine.step, report(update): pixels, text
    task.cancel ---------------------inbox ---------> Engine.cancel, before the next step

Decisions:
- Everything that computes with a model runs in the thread, so a model is used by one thread at a time.
- Models take turns, one step each.
- A request that has been accepted ends in exactly one way: with its last event, an error, or a cancellation by its
  reader. Errors of preparing, stepping or reporting end that request only.
- A request waits until its first step. `max_queue` bounds the number of those that wait.
- Deadlines are the reader's: it stops waiting, and cancels.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from queue import SimpleQueue
from threading import Thread
from typing import Any, Protocol

from showo_turbo.generation.prefix_store import PrefixStore
from showo_turbo.pipelines.pipeline import ShowoPipeline
from showo_turbo.serving.dialogues import ChatRequest, DialogueCache, prepare_dialogue
from showo_turbo.serving.engine import Engine, Update, virtual_finish
from showo_turbo.serving.limits import LimitOptions
from showo_turbo.serving.requests import prepare_request
from showo_turbo.serving.submissions import DrainingError, Event, QueueFullError, Report, Request, Submission

logger = logging.getLogger(__name__)


class Observer(Protocol):
    """Receive measurements, from both threads."""

    def prepared(self, model: str, seconds: float) -> None:
        """Receive the time that a request took to be checked and encoded."""

    def started(self, model: str, seconds: float) -> None:
        """Receive the time that a request waited for its first step."""

    def stepped(self, model: str, requests: int, sequences: int, seconds: float) -> None:
        """Receive the size and duration of a step."""

    def reported(self, model: str, seconds: float) -> None:
        """Receive the time that an event took to be made."""

    def finished(self, model: str, seconds: float, passes: int) -> None:
        """Receive the time from a request's first step to its last event."""


@dataclass
class _Model:
    """Hold a model with its engine and the tasks that are in it, by ticket."""

    engine: Engine[Request]
    cache: DialogueCache
    tasks: dict[int, Submission] = field(default_factory=dict)


class Worker:
    """Run the requests of an event loop in one thread.

    Example:
        >>> worker = Worker({"tiny": pipe}, LimitOptions())
        >>> worker.start()
        >>> async for event in worker.submit("tiny", ImageRequest("a red circle", seed=0), report):
    """

    def __init__(
        self, pipes: Mapping[str, ShowoPipeline], limits: LimitOptions, observer: Observer | None = None
    ) -> None:
        """Build an engine for each model; the thread is started by `start`."""
        self.pipes, self.limits, self.observer = dict(pipes), limits, observer
        self.draining = False
        self._inbox: SimpleQueue[Callable[[], object]] = SimpleQueue()
        self._open: set[Submission] = set()  # accepted and not ended
        self._models = {name: _build(pipe, limits) for name, pipe in pipes.items()}
        self._thread = Thread(target=self._run, name="showo-turbo worker", daemon=True)
        self._stopped = False
        self._seconds_per_request, self._last_end = 1.0, time.monotonic()

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    @property
    def pending(self) -> int:
        """Number of requests that are waiting or running."""
        return len(self._open)

    @property
    def waiting(self) -> int:
        """Number of requests that wait for their first step."""
        return sum(task.started is None for task in self._open.copy())

    def count_ahead(self, task: Submission) -> int:
        """Return the number of waiting requests that were accepted before this one."""
        return sum(other.started is None and other.accepted < task.accepted for other in self._open.copy())

    @property
    def caches(self) -> dict[str, DialogueCache]:
        """Caches of dialogues, by model."""
        return {name: model.cache for name, model in self._models.items()}

    @property
    def stores(self) -> dict[str, PrefixStore]:
        """Stored KV caches of pictures, by model."""
        return {name: model.engine.store for name, model in self._models.items() if model.engine.store is not None}

    def submit(self, model: str, request: Request, report: Report) -> Submission:
        """Accept a request; called in the event loop.

        Raises:
            QueueFullError: if too many requests wait.
            DrainingError: if the server is about to stop.
        """
        if self.draining or self._stopped:
            raise DrainingError
        waiting = self.waiting
        if waiting >= self.limits.max_queue:
            raise QueueFullError(waiting, max(1, min(60, round(waiting * self._seconds_per_request))))
        deadline = asyncio.get_running_loop().time() + self.limits.request_timeout
        task = Submission(model, request, report, self.cancel, deadline)
        self._open.add(task)
        self._inbox.put(lambda: self._prepare(task))
        return task

    def cancel(self, task: Submission) -> None:
        """Give up a request before the next step."""
        if task in self._open:
            self._open.discard(task)
            self._inbox.put(lambda: self._remove(task))

    async def drain(self, seconds: float) -> None:
        """Refuse new requests, and wait until those that are accepted have ended; after `seconds`, end them."""
        self.draining = True
        deadline = time.monotonic() + seconds
        while self._open and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        self._inbox.put(self._end_all)
        while self._open and self.alive:
            await asyncio.sleep(0.02)

    def stop(self) -> None:
        """Stop the thread after its current step."""
        self._stopped = True
        self._inbox.put(lambda: None)
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        """Take messages and step, until stopped; without requests, wait for a message."""
        while not self._stopped:
            if not any(model.engine.pending for model in self._models.values()):
                self._inbox.get()()
            while not self._inbox.empty():
                self._inbox.get()()
            for name, model in self._models.items():
                if model.engine.pending:
                    self._step(name, model)

    def _prepare(self, task: Submission) -> None:
        if task not in self._open:
            return
        model, begin = self._models[task.model], time.monotonic()
        try:
            task.ticket = model.engine.submit(task.request)
        except Exception as error:
            self._end(task, error)
            return
        model.tasks[task.ticket] = task
        self._send(task, None)
        if self.observer is not None:
            self.observer.prepared(task.model, time.monotonic() - begin)

    def _step(self, name: str, model: _Model) -> None:
        begin = time.monotonic()
        try:
            updates = model.engine.step()
        except Exception as error:  # not an error of one request: none can go on
            logger.exception("a step of model %s failed, and with it its %d requests", name, len(model.tasks))
            for task in list(model.tasks.values()):
                self._end(task, error)
            return
        now = time.monotonic()
        tasks = [model.tasks[update.ticket] for update in updates if update.ticket in model.tasks]
        for task in tasks:
            if task.started is None:
                task.started = begin
                if self.observer is not None:
                    self.observer.started(name, begin - task.accepted)
        if self.observer is not None:
            self.observer.stepped(name, len(updates), model.engine.occupied, now - begin)
        for update in updates:
            if update.ticket in model.tasks:
                self._deliver(model.tasks[update.ticket], update)

    def _deliver(self, task: Submission, update: Update) -> None:
        """Send the event of an update, if there is one, to the reader."""
        begin = time.monotonic()
        try:
            event = task.report(update)
        except Exception as error:
            self._end(task, error)
            return
        if event is None:
            return
        now = time.monotonic()
        if self.observer is not None:
            self.observer.reported(task.model, now - begin)
        if event.done:
            interval = now - max(self._last_end, task.accepted)
            self._last_end, self._seconds_per_request = now, 0.9 * self._seconds_per_request + 0.1 * interval
            if self.observer is not None:
                self.observer.finished(task.model, now - (task.started or now), update.state.forward_passes)
            self._end(task, event)
        else:
            self._send(task, event)

    def _end(self, task: Submission, last: Event | Exception) -> None:
        """Send the last event or an error, and free the place."""
        self._remove(task)
        self._send(task, last)
        self._open.discard(task)

    def _end_all(self) -> None:
        for task in self._open.copy():
            self._end(task, DrainingError())

    def _remove(self, task: Submission) -> None:
        if task.ticket is not None:
            model = self._models[task.model]
            model.engine.cancel(task.ticket)
            model.tasks.pop(task.ticket, None)

    def _send(self, task: Submission, event: Event | Exception | None) -> None:
        try:
            task.loop.call_soon_threadsafe(task.events.put_nowait, event)
        except RuntimeError:  # the loop is closed, and with it the reader
            logger.debug("a reader is gone")


def _build(pipe: ShowoPipeline, limits: LimitOptions) -> _Model:
    cache, size = DialogueCache(limits.cache_size << 20), limits.prefix_cache_size << 20
    store = PrefixStore(pipe.model, size) if size else None

    def prepare(request: Request) -> Any:
        if isinstance(request, ChatRequest):
            return prepare_dialogue(pipe, cache, request, store)
        return prepare_request(pipe, request, store)

    return _Model(Engine(pipe.model, prepare, limits.max_sequences, virtual_finish, store), cache)
