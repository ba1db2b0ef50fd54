"""One endless stream of samples out of several sources, in which a sample follows from its position alone.

    position --Mixture--> source, draw --> epoch, place in its shuffled order --> index --> sample

Decisions:
- Nothing is drawn from a running random state, so the state of a stream is one number, and a resumed stream goes on
  with the very samples that an uninterrupted one would have given.
- Positions are counted over all processes: of `world_size` processes, number `rank` reads positions rank, rank +
  world_size, .. So they read different samples, and a run can be resumed with another number of processes.
- A bad sample is replaced by the next good one in its source's order. So it costs no position: all processes stay in
  step, and a source with bad samples keeps its share. (The price: what stands in is seen once more in that epoch.)
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from showo_turbo.data.bad_samples import BadSamples
from showo_turbo.data.mixture import Mixture
from showo_turbo.data.samples import BadSampleError, Sample, reading
from showo_turbo.data.sources.source import Source
from showo_turbo.errors import InputError

_MOST_BAD_IN_A_ROW = 1000

Prefetched = Mapping[tuple[int, int], Sample | BadSampleError]
"""Samples that were read ahead of time, or their errors, by number of the source and index."""


def check_names(names: Sequence[str]) -> None:
    """Refuse two sources of one name.

    Raises:
        InputError: when there are such.
    """
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"two sources are named {name!r}: give them different names")


@dataclass(frozen=True)
class WeightedSource:
    """A source of a stream.

    Attributes:
        name: names it in logs and errors, unlike any other of the stream.
        source: the samples.
        weight: its share of the stream is this over the sum of all weights.
    """

    name: str
    source: Source
    weight: float = 1.0


class MixedStream:
    """Samples of several sources by weight; each sample of a source once before any comes again.

    Attributes:
        bad_samples: those that were met so far.
        position: samples that all processes together have taken.
    """

    def __init__(
        self,
        sources: Sequence[WeightedSource],
        seed: int,
        *,
        rank: int = 0,
        world_size: int = 1,
        bad_samples: BadSamples | None = None,
        check: Callable[[Sample], None] | None = None,
    ) -> None:
        """Start at position 0.

        Args:
            sources: what to mix; none of them empty.
            seed: of the mixture and of the orders.
            rank: number of this process, from 0.
            world_size: number of processes.
            bad_samples: those known already, and where new ones are logged.
            check: raises InputError for a sample that the model cannot use, such as a text of too many tokens.

        Raises:
            InputError: when a source is empty, two have one name, or a number is out of range.
        """
        if seed < 0:
            raise InputError(f"seed is {seed}: choose 0 or more")
        if not 0 <= rank < world_size:
            raise InputError(f"rank is {rank} of {world_size} processes: choose 0 to {world_size - 1}")
        if empty := [one.name for one in sources if len(one.source) == 0]:
            raise InputError(f"source {empty[0]!r} holds no samples")
        check_names([one.name for one in sources])
        self.sources, self.seed, self.rank, self.world_size = tuple(sources), seed, rank, world_size
        self.bad_samples = BadSamples() if bad_samples is None else bad_samples
        self.position = 0
        self._mixture = Mixture([one.weight for one in sources], seed)
        self._check = check
        # Two epochs of each source, since batches that are read ahead may lie in the next one.
        self._order = lru_cache(maxsize=2 * len(self.sources))(self._shuffle)

    def take(self, count: int) -> list[Sample]:
        """The next `count` samples of this process.

        Raises:
            InputError: when a source has nothing but bad samples.
        """
        positions = range(self.position + self.rank, self.position + count * self.world_size, self.world_size)
        samples = [self.sample_at(position) for position in positions]
        self.position += count * self.world_size
        return samples

    def candidates(self, position: int) -> tuple[int, Iterator[int]]:
        """Return the number of the source of a position and the indices of the samples that may fill it, in order."""
        number, draw = self._mixture.locate(position)
        epoch, start = divmod(draw, len(self.sources[number].source))
        order = self._order(number, epoch)
        count = min(len(order), _MOST_BAD_IN_A_ROW)
        return number, (int(order[candidate % len(order)]) for candidate in range(start, start + count))

    def sample_at(self, position: int, prefetched: Prefetched | None = None) -> Sample:
        """Return the sample at a position of the whole stream; `self.position` stays as it is.

        Args:
            position: counted over all processes.
            prefetched: samples that were read ahead of time; any other sample is read here.

        Raises:
            InputError: if the source holds only bad samples, or 1,000 of them in a row.
        """
        number, indices = self.candidates(position)
        tried = 0
        for index in indices:
            sample = self._fetch(number, index, prefetched or {})
            if sample is not None:
                return sample
            tried += 1
        chosen = self.sources[number]
        how_many = "all" if tried == len(chosen.source) else "in a row"
        reason = self.bad_samples.why(chosen.name, index)
        raise InputError(f"source {chosen.name!r}: {tried} samples, {how_many}, are bad; {reason}")

    def state_dict(self) -> dict:
        """Where the stream is, and what it is a stream of."""
        return {"position": self.position, "seed": self.seed, "sources": self._describe_sources()}

    def load_state_dict(self, state: dict) -> None:
        """Go on where the stream was that gave this state.

        Raises:
            InputError: when seed or sources are not those of that stream, so that other samples would follow.
        """
        for name, now in (("seed", self.seed), ("sources", self._describe_sources())):
            if state[name] != now:
                raise InputError(f"stream cannot go on: its {name} was {state[name]} and is {now} now")
        self.position = state["position"]

    def _describe_sources(self) -> list[list]:
        return [[one.name, len(one.source), one.weight] for one in self.sources]

    def _shuffle(self, number: int, epoch: int) -> np.ndarray:
        """Return the indices of a source in the order of an epoch."""
        rng = np.random.default_rng([self.seed, number, epoch])
        return rng.permutation(len(self.sources[number].source))

    def _fetch(self, number: int, index: int, prefetched: Prefetched) -> Sample | None:
        """Return a sample, or None if it is bad."""
        chosen = self.sources[number]
        if (chosen.name, index) in self.bad_samples:
            return None
        sample = prefetched.get((number, index))
        if isinstance(sample, BadSampleError):
            self.bad_samples.add(chosen.name, index, sample)
            return None
        try:
            if sample is None:
                sample = chosen.source[index]
            if self._check is not None:
                with reading(sample.key):
                    self._check(sample)
        except BadSampleError as error:
            self.bad_samples.add(chosen.name, index, error)
            return None
        return sample
