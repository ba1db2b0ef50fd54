"""Many requests together: every step is one pass of the transformer over all that are under way.

    step 1   a a a              two images of a, and its prompt
    step 2   a a b              b has been submitted: it joins at the next step
    step 3   a a b c c
    step 4       b c c d d d    a is done; d, which had to wait for its place, joins

Decisions:
- A request advances by its decoder's own step, the one of the loops (`scoring`), with its own options and generator, so
  its states are the ones it has alone. Rows share matrix products only, whose last bits may depend on how many rows
  there are; images and texts share them too.
- Requests that start in the same step with the same options share a decoder (`jobs.Group`), so what a step costs
  besides the products does not grow with their number. Not those that draw ids at random, all from one generator.
- First come, first served: a step takes the oldest requests, as many as fit. Nobody overtakes, so nobody waits forever,
  and who is under way always goes on: those that leave make the others older.
- `max_sequences` bounds the memory, since rows, scores, keys and values all belong to sequences. A request that waits
  has no room for keys and values yet, and what was kept for one is forgotten at the latest when the next step begins.
- A request that fails leaves with its error. If what they share fails (no memory), each request tries it by itself.
- One thread steps; others may submit and cancel meanwhile. A cancelled request is heard of no more.
"""

import logging
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, count
from typing import Any, Generic, TypeVar

from showo_turbo.errors import InputError
from showo_turbo.generation.scoring import together
from showo_turbo.generation.trajectory import State
from showo_turbo.models.showo import Showo
from showo_turbo.serving.batching import Group, Job
from showo_turbo.validation import check_integer

logger = logging.getLogger(__name__)

Request = TypeVar("Request")


@dataclass(frozen=True)
class Update(Generic[Request]):
    """What a step has made of one request.

    Attributes:
        ticket: the number that `Engine.submit` gave it.
        request: the request itself.
        state: its newest state.
        error: why it left before it was done, if it did.
        unpack: its output, given a state; see `output`.
    """

    ticket: int
    request: Request
    state: State
    error: Exception | None
    unpack: Callable[[State], Any]

    @property
    def done(self) -> bool:
        """Whether this is the last update of the request, which is finished or has failed."""
        return self.error is not None or self.state.done

    def output(self) -> Any:
        """The request's output, or a preview of it: what its newest state shows.

        Raises:
            Exception: the `error`, if there is one.
        """
        if self.error is not None:
            raise self.error
        return self.unpack(self.state)


@dataclass
class _Admitted(Generic[Request]):
    """A request that waits or is under way, which it is as a member of a group."""

    ticket: int
    request: Request
    job: Job
    state: State
    group: Group[int] | None = None


class Engine(Generic[Request]):
    """Advances many requests at once. `ShowoPipeline.engine` makes one for `ImageRequest` and `TextRequest`.

    Example:
        >>> engine = pipe.engine(max_sequences=16)
        >>> ticket = engine.submit(ImageRequest("a red circle", num_inference_steps=8, seed=0))
        >>> engine.step()[0].state.forward_passes
        1
    """

    def __init__(self, model: Showo, prepare: Callable[[Request], Job], max_sequences: int = 32) -> None:
        """No requests yet.

        Args:
            model: the transformer.
            prepare: checks a request and lays it out; it raises InputError for one that cannot be.
            max_sequences: how many sequences a pass may read. An answer is one; an image is one, with guidance two.

        Raises:
            InputError: when `max_sequences` is below 1.
        """
        check_integer("max_sequences", max_sequences, 1)
        self.model, self.max_sequences = model, max_sequences
        self._prepare, self._tickets = prepare, count()
        self._requests: dict[int, _Admitted[Request]] = {}
        self._unheard: set[int] = set()  # tickets of the newest step that have not been cancelled since

    @property
    def pending(self) -> int:
        """How many requests wait or are under way."""
        return len(self._requests)

    def submit(self, request: Request) -> int:
        """Take in a request, and give it the number by which it is called in updates. It starts at the next step.

        Raises:
            InputError: when the request cannot be, or needs more than `max_sequences`. No other request is affected.
        """
        return self._admit(request, self._checked(request))

    def cancel(self, ticket: int) -> None:
        """Forget a request; without effect if it has left already."""
        self._requests.pop(ticket, None)
        self._unheard.discard(ticket)

    def step(self) -> list[Update[Request]]:
        """One pass over the oldest requests: an update of each, the oldest first; none if nothing is pending."""
        admitted = self._oldest()
        self._unheard = {one.ticket for one in admitted}
        outcomes = self._advance(_grouped(admitted))
        return [self._update(one, outcomes[one.ticket]) for one in admitted if one.ticket in self._requests]

    def run(self, requests: Iterable[Request] = ()) -> Iterator[Update[Request]]:
        """Submit requests, and step until none is left: all updates, as they come.

        Raises:
            InputError: when one of them cannot be; then none is submitted.
        """
        for request, job in [(request, self._checked(request)) for request in requests]:
            self._admit(request, job)
        return self._drain()

    def _drain(self) -> Iterator[Update[Request]]:
        while self._requests:
            yield from (update for update in self.step() if update.ticket in self._unheard)

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
        self._requests[ticket] = _Admitted(ticket, request, job, job.start)
        return ticket

    def _oldest(self) -> list[_Admitted[Request]]:
        """The requests of the next step."""
        admitted = list(self._requests.values())
        ends = accumulate(one.job.decoder.sequences for one in admitted)
        return [one for one, end in zip(admitted, ends, strict=True) if end <= self.max_sequences]

    def _advance(self, groups: Sequence[Group[int]]) -> dict[int, State | Exception]:
        """One step of groups; what becomes of each of their members, by ticket."""
        outcomes: dict[int, State | Exception] = {}
        for group, outcome in zip(groups, together(self.model, [group.step() for group in groups]), strict=True):
            if isinstance(outcome, Exception) and len(group.sizes) > 1:
                logger.warning(
                    "a step of %d requests failed, so each takes one by itself: %s", len(group.sizes), outcome
                )
                group.rewind()
                for single in self._apart(group):
                    outcomes |= self._advance([single])
            else:
                outcomes |= group.outcomes(outcome)
        return outcomes

    def _apart(self, group: Group[int]) -> list[Group[int]]:
        """Its members, each by itself from now on."""
        singles = [group.keep([ticket]) for ticket in group.sizes]
        _belong([one for ticket in group.sizes if (one := self._requests.get(ticket))], singles)
        return singles

    def _update(self, one: _Admitted[Request], outcome: State | Exception) -> Update[Request]:
        """Take note of what has become of a request."""
        error = outcome if isinstance(outcome, Exception) else None
        one.state = one.state if isinstance(outcome, Exception) else outcome
        update = Update(one.ticket, one.request, one.state, error, one.job.unpack)
        if update.done:
            self._requests.pop(one.ticket, None)  # another thread may have cancelled it just now
        return update


def _grouped(admitted: Sequence[_Admitted]) -> list[Group[int]]:
    """The groups of a step: those under way, less those who have left, and new ones of the requests that start."""
    under_way: dict[Group[int], list[int]] = {}
    starting: dict[Hashable, dict[int, Job]] = {}
    for one in admitted:
        if one.group is not None:
            under_way.setdefault(one.group, []).append(one.ticket)
        else:
            alike = one.ticket if one.job.alike is None else (one.job.alike,)
            starting.setdefault(alike, {})[one.ticket] = one.job
    groups = [
        *(group.keep(tickets) for group, tickets in under_way.items()),
        *(Group.of(jobs) for jobs in starting.values()),
    ]
    _belong(admitted, groups)
    return groups


def _belong(admitted: Iterable[_Admitted], groups: Sequence[Group[int]]) -> None:
    """Note who is in which group; groups know tickets only, so that nothing but its members holds one."""
    of_ticket = {ticket: group for group in groups for ticket in group.sizes}
    for one in admitted:
        one.group = of_ticket[one.ticket]
