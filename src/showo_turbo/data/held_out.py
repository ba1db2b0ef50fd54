"""Parts of a source: samples to train on, and samples that are held out for validation.

The held-out samples are chosen at random by the seed. Give sources of their own for validation if several samples show
one image, since an image may otherwise be in both parts.
"""

from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from showo_turbo.data.samples import Sample
from showo_turbo.data.sources.source import Source
from showo_turbo.errors import InputError

S = TypeVar("S", bound=Sample)


@dataclass(frozen=True)
class Subset(Generic[S]):
    """Give some samples of a source.

    Attributes:
        source: the whole source.
        indices: the samples, long (count,).
    """

    source: Source[S]
    indices: np.ndarray

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> S:
        return self.source[int(self.indices[index])]


def split_source(source: Source[S], fraction: float, seed: int) -> tuple[Subset[S], Subset[S]]:
    """Return the samples of a source to train on, and a random fraction that is held out, at least one sample each.

    Raises:
        InputError: if the source has less than two samples.
    """
    count = len(source)
    if count < 2:
        raise InputError(f"it holds {count} samples, none of which can be held out: give validation its own sources")
    held_out = min(max(1, round(count * fraction)), count - 1)
    order = np.random.default_rng([seed, count]).permutation(count)
    return Subset(source, np.sort(order[held_out:])), Subset(source, np.sort(order[:held_out]))
