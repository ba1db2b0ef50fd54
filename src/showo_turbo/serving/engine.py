"""Continuous batching: every step is one forward pass over all requests that are running.

    step 1   a a a              two images of a, and its prompt
    step 2   a a b              b has been submitted: it joins at the next step
    step 3   a a b c c
    step 4       b c c d d d    a is done; d, which had to wait for a free place, joins

Decisions:
- A request is stepped by its decoder's own `step`, the one of the loops, with its own options and generator, so its
  states are those of the request alone. Rows share matrix products only, whose last bits may depend on the number of
  rows; images and texts share them too.
- Requests with the same options that start in the same step share a decoder (`batching.JobGroup`), so the overhead of a
  step does not grow with their number. Requests that sample from one common generator do not share a decoder.
- Running requests always continue. The places left are filled in an order of the waiting requests, from its first one
  on, as many as fit: none is skipped, so a large request gets its place. The default order is first come, first served.
- `virtual_finish` orders by the step of arrival plus the expected forward passes, so short requests overtake long ones.
  A request of n passes is overtaken only by requests that arrive in the n steps after it, so none waits forever.
- `max_sequences` bounds memory, since rows, logits and KV caches all belong to sequences. A waiting request has no KV
  cache yet, and the cache of a finished one is freed at the latest when the next step begins.
- A request that fails leaves with its error. If a shared pass fails (out of memory), each request runs by itself.
- One thread steps; others may submit and cancel meanwhile. A step beside a step or an unfinished `run` of another
  thread raises. It does not wait, since updates go to the thread that steps: two would take each other's.
- A cancelled request gets no further updates.
"""

import logging
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, count, takewhile
from threading import Lock, get_ident
from typing import Any, Generic, TypeVar

from showo_turbo.errors import InputError
from showo_turbo.generation.prefix_store import PrefixStore
from showo_turbo.generation.trajectory import State, run_batched
from showo_turbo.models.showo import Showo
from showo_turbo.serving.batching import Job, JobGroup
from showo_turbo.validation import check_integer

logger = logging.getLogger(__name__)

Request = TypeVar("Request")

_OTHER_THREAD = (
    "another thread steps this engine: let one thread step or run it, while others submit and cancel, or give each "
    "thread an engine of its own"
)


@dataclass(frozen=True)
class Update(Generic[Request]):
    """Hold the result of a step for one request.

    Attributes:
        ticket: number that `Engine.submit` returned for the request.
        request: the request.
        state: its newest state.
        error: the error that ended it, if it failed.
        make_output: turns a state into an output; see `output`.
    """

    ticket: int
    request: Request
    state: State
    error: Exception | None
    make_output: Callable[[State], Any]

    @property
    def done(self) -> bool:
        """Whether this is the last update of the request, which is finished or has failed."""
        return self.error is not None or self.state.done

    def output(self) -> Any:
        """Return the output of the request, or a preview made from its newest state.

        Raises:
            Exception: the `error`, if there is one.
        """
        if self.error is not None:
            raise self.error
        return self.make_output(self.state)


@dataclass
class _Admitted(Generic[Request]):
    """Hold a waiting request, or a running one with its group."""

    ticket: int
    request: Request
    job: Job
    state: State
    rank: float
    group: JobGroup[int] | None = None


@dataclass(eq=False)
class _Run:
    """Hold the thread of an unfinished `Engine.run`, and the tickets of its newest step that are not cancelled."""

    thread: int
    deliverable: set[int] = field(default_factory=set)


Order = Callable[[int, Job], float]
"""Returns the rank of a job from its step of arrival; waiting jobs start by rank, equal ones by arrival."""


def first_come(step: int, job: Job) -> float:
    """Rank jobs by arrival."""
    return 0


def virtual_finish(step: int, job: Job) -> float:
    """Rank jobs by the step in which they would finish if each had a place at once."""
    return step + job.passes


class Engine(Generic[Request]):
    """Run many requests at once. `ShowoPipeline.engine` returns one for `ImageRequest`, `TextRequest` and the like.

    Example:
        >>> engine = pipe.engine(max_sequences=16)
        >>> ticket = engine.submit(ImageRequest("a red circle", num_inference_steps=8, seed=0))
        >>> engine.step()[0].state.forward_passes
        1

    Attributes:
        steps: number of steps so far.
        occupied: number of sequences that have a place in the newest step.
        store: KV caches of pictures that requests share, with counts of hits; None if nothing is shared.
    """

    def __init__(
        self,
        model: Showo,
        prepare: Callable[[Request], Job],
        max_sequences: int = 32,
        order: Order = first_come,
        store: PrefixStore | None = None,
    ) -> None:
        """Start without requests.

        Args:
            model: the transformer.
            prepare: checks a request and builds its job; raises InputError for an invalid one.
            max_sequences: largest number of sequences in a forward pass. An answer is one sequence; an image is one,
                with guidance two.
            order: order in which waiting requests start: `first_come` or `virtual_finish`.
            store: where `prepare` lets answers look for KV caches of their pictures.

        Raises:
            InputError: if `max_sequences` is below 1.
        """
        check_integer("max_sequences", max_sequences, 1)
        self.model, self.max_sequences = model, max_sequences
        self.store = store
        self.steps = self.occupied = 0
        self._prepare, self._order, self._tickets = prepare, order, count()
        self._requests: dict[int, _Admitted[Request]] = {}
        self._stepping = Lock()
        self._runs: list[_Run] = []  # unfinished ones, the oldest first

    @property
    def pending(self) -> int:
        """Number of requests that are waiting or running."""
        return len(self._requests)

    def submit(self, request: Request) -> int:
        """Add a request, which starts at the next step, and return its ticket, the number that updates carry.

        Raises:
            InputError: if the request is invalid or needs more than `max_sequences`. No other request is affected.
        """
        return self._admit(request, self._checked(request))

    def cancel(self, ticket: int) -> None:
        """Cancel a request; without effect if it has left already."""
        self._requests.pop(ticket, None)
        for run in list(self._runs):
            run.deliverable.discard(ticket)

    def step(self) -> list[Update[Request]]:
        """Run one forward pass over all requests that have a place and return an update of each, the oldest first.

        Raises:
            InputError: if another thread is in a step, or its `run` is not finished. No request is affected.
        """
        return self._step(None)

    def _step(self, run: "_Run | None") -> list[Update[Request]]:
        """Run a step of `step` or of a run."""
        self._check_thread(run)
        if not self._stepping.acquire(blocking=False):
            raise InputError(_OTHER_THREAD)
        try:
            self.steps += 1
            admitted = sorted(self._requests.copy().values(), key=lambda one: (one.group is None, one.rank, one.ticket))
            ends = accumulate(one.job.decoder.sequences for one in admitted)
            admitted = [one for one, end in zip(admitted, ends, strict=True) if end <= self.max_sequences]
            admitted.sort(key=lambda one: one.ticket)
            self.occupied = sum(one.job.decoder.sequences for one in admitted)
            if run is not None:
                run.deliverable = {one.ticket for one in admitted}
            results = self._advance(_group(admitted))
            return [self._update(one, results[one.ticket]) for one in admitted if one.ticket in self._requests]
        finally:
            self._stepping.release()

    def run(self, requests: Iterable[Request] = ()) -> Iterator[Update[Request]]:
        """Submit requests and yield all updates until no request is left.

        Raises:
            InputError: if one of them is invalid, or as `step`; then none is submitted.
        """
        self._check_thread()
        for request, job in [(request, self._checked(request)) for request in requests]:
            self._admit(request, job)
        return self._drain()

    def _drain(self) -> Iterator[Update[Request]]:
        run = _Run(get_ident())
        self._runs.append(run)
        try:
            while self._requests:
                yield from (update for update in self._step(run) if update.ticket in run.deliverable)
        finally:
            self._runs.remove(run)

    def _check_thread(self, run: "_Run | None" = None) -> None:
        """Raise `InputError` if an unfinished run, older than `run`, is another thread's."""
        older = takewhile(lambda other: other is not run, list(self._runs))
        if any(other.thread != get_ident() for other in older):
            raise InputError(_OTHER_THREAD)

    def _checked(self, request: Request) -> Job:
        job = self._prepare(request)
        if job.decoder.sequences > self.max_sequences:
            raise InputError(
                f"the request takes {job.decoder.sequences} sequences at a time (an image is one, with guidance two), "
                f"but max_sequences is {self.max_sequences}: ask for less at once"
            )
        return job

    def _admit(self, request: Request, job: Job) -> int:
        ticket = next(self._tickets)
        self._requests[ticket] = _Admitted(ticket, request, job, job.start, self._order(self.steps, job))
        return ticket

    def _advance(self, groups: Sequence[JobGroup[int]]) -> dict[int, State | Exception]:
        """Step groups and return the result of each member by ticket."""
        results: dict[int, State | Exception] = {}
        for group, result in zip(groups, run_batched(self.model, [group.step() for group in groups]), strict=True):
            if isinstance(result, Exception) and len(group.sizes) > 1:
                logger.warning("a step of %d requests failed, so each runs by itself: %s", len(group.sizes), result)
                group.restore_generators()
                singles = [group.select([ticket]) for ticket in group.sizes]
                _assign([one for ticket in group.sizes if (one := self._requests.get(ticket))], singles)
                for single in singles:
                    results |= self._advance([single])
            else:
                results |= group.results(result)
        return results

    def _update(self, one: _Admitted[Request], result: State | Exception) -> Update[Request]:
        """Store the result of a request and remove it if it is done."""
        error = result if isinstance(result, Exception) else None
        one.state = one.state if isinstance(result, Exception) else result
        update = Update(one.ticket, one.request, one.state, error, one.job.output)
        if update.done:
            self._requests.pop(one.ticket, None)  # another thread may have cancelled it just now
        return update


def _group(admitted: Sequence[_Admitted]) -> list[JobGroup[int]]:
    """Return the groups of a step: the running ones without members that have left, and new ones by batch key."""
    running: dict[JobGroup[int], list[int]] = {}
    starting: dict[Hashable, dict[int, Job]] = {}
    for one in admitted:
        if one.group is not None:
            running.setdefault(one.group, []).append(one.ticket)
        else:
            key = one.ticket if one.job.batch_key is None else (one.job.batch_key,)
            starting.setdefault(key, {})[one.ticket] = one.job
    groups = [
        *(group.select(tickets) for group, tickets in running.items()),
        *(JobGroup.from_jobs(jobs) for jobs in starting.values()),
    ]
    _assign(admitted, groups)
    return groups


def _assign(admitted: Iterable[_Admitted], groups: Sequence[JobGroup[int]]) -> None:
    """Set the group of each request; groups hold tickets, so that a group is referenced by its members only."""
    group_of = {ticket: group for group in groups for ticket in group.sizes}
    for one in admitted:
        one.group = group_of[one.ticket]
