"""What the engine advances: jobs, and groups of jobs that advance as one.

    job a   [? ? ?]  \\                        job a   [4 ? ?]
    job b   [? ? ?]   > [? ? ?]  --step-->    job b   [7 ? ?]     one decoder, one state with the rows of all
            [? ? ?]  /  ...                           [7 ? ?]

Jobs that are alike and start in the same step share a decoder: a step then lays out its rows, attends and draws for
all of them at once. Each keeps its own random generator, so its rows are those that it has alone. One that leaves
before the others, cancelled or finished, takes its rows along.
"""

from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, Self, TypeVar

import torch
from torch import Tensor

from showo_turbo.generation.scoring import Scoring
from showo_turbo.generation.trajectory import State

Member = TypeVar("Member", bound=Hashable)


class Decoder(Protocol):
    """What makes the next state of one request, or of several: `ImageDenoiser`, `TextDecoder`."""

    @property
    def sequences(self) -> int:
        """How many sequences a step reads, at most."""

    @property
    def generators(self) -> Sequence[torch.Generator]:
        """What a step draws from, if it was `joined`."""

    def step(self, state: State) -> Scoring[State]:
        """One step from a state to the next."""

    @classmethod
    def joined(cls, decoders: Sequence[Self]) -> Self:
        """One for the rows of several, which have not taken a step and are alike."""

    def keep(self, rows: Sequence[int]) -> Self:
        """One for some of the rows, in order: all of those that came with one of the decoders it was joined from."""


@dataclass(frozen=True)
class Job:
    """A request that has been checked.

    Attributes:
        decoder: advances it; nothing else should hold it, so that what it keeps goes with it.
        start: its first state, in which something is left to settle.
        unpack: its output, given a state after at least one step: the final one, or one on the way for a preview.
        alike: jobs for which this is equal may share a decoder; None shares none.
    """

    decoder: Decoder
    start: State
    unpack: Callable[[State], Any]
    alike: Hashable | None = None


class Group(Generic[Member]):
    """Jobs that advance as one. A group of one is its job, as it is."""

    def __init__(self, decoder: Decoder, state: State, sizes: Mapping[Member, int]) -> None:
        """Whose rows a state holds: so many of each member, one after the other."""
        self.decoder, self.state, self.sizes = decoder, state, dict(sizes)
        self._random_states: list[Tensor] = []

    @classmethod
    def of(cls, jobs: Mapping[Member, Job]) -> "Group[Member]":
        """Jobs that are alike, or a single one, by their members."""
        decoders, starts = [job.decoder for job in jobs.values()], [job.start for job in jobs.values()]
        decoder = decoders[0] if len(jobs) == 1 else decoders[0].joined(decoders)
        return cls(decoder, State.joined(starts), {member: len(job.start.ids) for member, job in jobs.items()})

    def keep(self, members: Collection[Member]) -> "Group[Member]":
        """A group of some of the members; itself if they are all."""
        if len(members) == len(self.sizes):
            return self
        owners = [member for member, size in self.sizes.items() for _ in range(size)]
        rows = [row for row, owner in enumerate(owners) if owner in members]
        sizes = {member: size for member, size in self.sizes.items() if member in members}
        return Group(self.decoder.keep(rows), self.state.rows(rows), sizes)

    def step(self) -> Scoring[State]:
        """One step of all."""
        if len(self.sizes) > 1:
            self._random_states = [generator.get_state() for generator in self.decoder.generators]
        return self.decoder.step(self.state)

    def rewind(self) -> None:
        """Have the generators as they were before the step that failed, so that its numbers can be drawn again."""
        for generator, state in zip(self.decoder.generators, self._random_states, strict=True):
            generator.set_state(state)

    def outcomes(self, outcome: State | Exception) -> dict[Member, State | Exception]:
        """What a step has made of each member; the next step goes on from there."""
        if isinstance(outcome, Exception):
            return dict.fromkeys(self.sizes, outcome)
        self.state = outcome
        return dict(zip(self.sizes, outcome.split(list(self.sizes.values())), strict=True))
