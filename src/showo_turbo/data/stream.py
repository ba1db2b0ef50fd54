"""An endless stream of samples from several sources, where each sample depends on its position alone.

    position --Mixture--> source, draw --> epoch, rank in its shuffled order --> index --> sample

Decisions:
- There is no running random state, so the state of a stream is one number, and a resumed stream continues with exactly
  the samples of an uninterrupted one.
- Positions are counted over all processes: of `world_size` processes, number `rank` reads the positions rank, rank +
  world_size, .. So processes read different samples, and a run can be resumed with another number of processes.
- A bad sample is replaced by the next good one in the order of its source. No position is lost: processes stay in
  step, and a source with bad samples keeps its fraction of the stream. The cost is that the replacement is seen twice
  in that epoch.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Generic, TypeVar

import numpy as np

from showo_turbo.data.bad_samples import BadSamples
from showo_turbo.data.mixture import Mixture
from showo_turbo.data.samples import BadSampleError, Sample, bad_sample_errors
from showo_turbo.data.sources.source import Source
from showo_turbo.errors import InputError

_MAX_BAD_IN_A_ROW = 1000

S = TypeVar("S", bound=Sample)

Prefetched = Mapping[tuple[int, int], S | BadSampleError]
"""Samples that were read in advance, or their errors, by number of the source and index."""


def check_names(names: Sequence[str]) -> None:
    """Check that the names of sources are different.

    Raises:
        InputError: if two sources have the same name.
    """
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"two sources are named {name!r}: give them different names")


@dataclass(frozen=True)
class WeightedSource(Generic[S]):
    """Hold a source of a stream with its weight.

    Attributes:
        name: name in logs and errors, unique in the stream.
        source: the samples.
        weight: relative weight; the source has weight / sum of weights of the positions.
    """

    name: str
    source: Source[S]
    weight: float = 1.0


class MixedStream(Generic[S]):
    """Mix the samples of several sources by weight. Each sample of a source comes once per epoch of that source.

    Attributes:
        bad_samples: bad samples that were found so far.
        position: number of samples that all processes together have taken.
    """

    def __init__(
        self,
        sources: Sequence[WeightedSource[S]],
        seed: int,
        *,
        rank: int = 0,
        world_size: int = 1,
        bad_samples: BadSamples | None = None,
        check: Callable[[S], None] | None = None,
    ) -> None:
        """Start at position 0.

        Args:
            sources: sources to mix, none of them empty.
            seed: seed of the mixture and of the orders.
            rank: number of this process, from 0.
            world_size: number of processes.
            bad_samples: known bad samples, and the log for new ones; a set in memory if left out.
            check: raises InputError for a sample that the model cannot use, such as a text with too many tokens.

        Raises:
            InputError: if a source is empty, two sources have the same name, or a number is out of range.
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
        # Two epochs of each source, since prefetched batches may be in the next one.
        self._order = lru_cache(maxsize=2 * len(self.sources))(self._shuffled_indices)

    def take(self, count: int) -> list[S]:
        """Return the next `count` samples of this process.

        Raises:
            InputError: if `sample_at` does.
        """
        positions = range(self.position + self.rank, self.position + count * self.world_size, self.world_size)
        samples = [self.sample_at(position) for position in positions]
        self.position += count * self.world_size
        return samples

    def candidates(self, position: int) -> tuple[int, Iterator[int]]:
        """Return the number of the source at a position, and the indices of the samples to try there, in order."""
        number, draw = self._mixture.locate(position)
        epoch, start = divmod(draw, len(self.sources[number].source))
        order = self._order(number, epoch)
        count = min(len(order), _MAX_BAD_IN_A_ROW)
        return number, (int(order[candidate % len(order)]) for candidate in range(start, start + count))

    def sample_at(self, position: int, prefetched: Prefetched[S] | None = None) -> S:
        """Return the sample at a position of the whole stream; `self.position` stays as it is.

        Args:
            position: counted over all processes.
            prefetched: samples that were read in advance; any other sample is read now.

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
        reason = self.bad_samples.reason(chosen.name, index)
        raise InputError(f"source {chosen.name!r}: {tried} samples, {how_many}, are bad; {reason}")

    def state_dict(self) -> dict:
        """Return the position, with seed and sources for `load_state_dict` to check."""
        return {"position": self.position, "seed": self.seed, "sources": self._describe_sources()}

    def load_state_dict(self, state: dict) -> None:
        """Resume at the position of a state.

        Raises:
            InputError: if seed or sources differ from those of the state.
        """
        for name, now in (("seed", self.seed), ("sources", self._describe_sources())):
            if state[name] != now:
                raise InputError(f"stream cannot be resumed: its {name} was {state[name]} and is {now} now")
        self.position = state["position"]

    def _describe_sources(self) -> list[list]:
        return [[one.name, len(one.source), one.weight] for one in self.sources]

    def _shuffled_indices(self, number: int, epoch: int) -> np.ndarray:
        """Return the indices of a source in the order of an epoch."""
        rng = np.random.default_rng([self.seed, number, epoch])
        return rng.permutation(len(self.sources[number].source))

    def _fetch(self, number: int, index: int, prefetched: Prefetched[S]) -> S | None:
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
                with bad_sample_errors(sample.key):
                    self._check(sample)
        except BadSampleError as error:
            self.bad_samples.add(chosen.name, index, error)
            return None
        return sample
