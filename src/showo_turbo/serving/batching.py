"""Jobs of the engine, and groups of jobs that share a decoder.

    job a   [? ? ?]  \\                        job a   [4 ? ?]
    job b   [? ? ?]   > [? ? ?]  --step-->    job b   [7 ? ?]     one decoder, one state with the rows of all
            [? ? ?]  /  ...                           [7 ? ?]

Jobs with the same batch key that start in the same step share a decoder: a step then lays out rows, attends and samples
once for all of them. Each job keeps its own random generator, so its rows are those of the job alone. A job that leaves
before the others, cancelled or finished, is taken out with its rows.
"""

from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, Self, TypeVar, cast

import torch
from torch import Tensor

from showo_turbo.generation.trajectory import State, Step

Member = TypeVar("Member", bound=Hashable)


class StepDecoder(Protocol):
    """Step the states of one request: `CanvasDenoiser`."""

    @property
    def sequences(self) -> int:
        """Largest number of sequences in a forward pass."""

    def step(self, state: State) -> Step[State]:
        """Run one step."""


class JointDecoder(StepDecoder, Protocol):
    """Step the states of one request or of several: `ImageDenoiser`, `TextDecoder`."""

    @property
    def generators(self) -> Sequence[torch.Generator]:
        """Random generators of the decoders that were joined by `batch`."""

    @classmethod
    def batch(cls, decoders: Sequence[Self]) -> Self:
        """Join decoders with the same options that have not taken a step."""

    def select(self, rows: Sequence[int]) -> Self:
        """Return a decoder for some of the rows, in order: all rows of some of the decoders that were joined."""


@dataclass(frozen=True)
class Job:
    """Hold a request that has been checked.

    Attributes:
        decoder: steps the job; no other reference to it should exist, so that its KV cache is freed with the job.
        start: first state, in which something is left to settle.
        output: turns a state after at least one step into an output: the final one, or a preview.
        batch_key: jobs with equal keys may share a decoder, a `JointDecoder`; None shares none.
        passes: number of forward passes that it is expected to take.
    """

    decoder: StepDecoder
    start: State
    output: Callable[[State], Any]
    batch_key: Hashable | None = None
    passes: int = 1


class JobGroup(Generic[Member]):
    """Step jobs together. A group of one job uses its decoder as it is."""

    def __init__(self, decoder: StepDecoder, state: State, sizes: Mapping[Member, int]) -> None:
        """Create a group from a state and the number of its rows that belong to each member, in order."""
        self.decoder, self.state, self.sizes = decoder, state, dict(sizes)
        self._generator_states: list[Tensor] = []

    @classmethod
    def from_jobs(cls, jobs: Mapping[Member, Job]) -> "JobGroup[Member]":
        """Join jobs with the same batch key, or a single job, by member."""
        decoders, starts = [job.decoder for job in jobs.values()], [job.start for job in jobs.values()]
        if len(decoders) == 1:
            decoder = decoders[0]
        else:
            joint = cast(list[JointDecoder], decoders)
            decoder = joint[0].batch(joint)
        return cls(decoder, State.batch(starts), {member: len(job.start.ids) for member, job in jobs.items()})

    def select(self, members: Collection[Member]) -> "JobGroup[Member]":
        """Return a group of some of the members; this one if it is all of them."""
        if len(members) == len(self.sizes):
            return self
        member_of_row = [member for member, size in self.sizes.items() for _ in range(size)]
        rows = [row for row, member in enumerate(member_of_row) if member in members]
        sizes = {member: size for member, size in self.sizes.items() if member in members}
        return JobGroup(cast(JointDecoder, self.decoder).select(rows), self.state.select(rows), sizes)

    def step(self) -> Step[State]:
        """Run one step of all members."""
        if len(self.sizes) > 1:
            generators = cast(JointDecoder, self.decoder).generators
            self._generator_states = [generator.get_state() for generator in generators]
        return self.decoder.step(self.state)

    def restore_generators(self) -> None:
        """Reset the random generators to before a step that failed, so that the same numbers are drawn again."""
        generators = cast(JointDecoder, self.decoder).generators
        for generator, state in zip(generators, self._generator_states, strict=True):
            generator.set_state(state)

    def results(self, result: State | Exception) -> dict[Member, State | Exception]:
        """Split the result of a step by member; the next step continues from it."""
        if isinstance(result, Exception):
            return dict.fromkeys(self.sizes, result)
        self.state = result
        return dict(zip(self.sizes, result.split(list(self.sizes.values())), strict=True))
