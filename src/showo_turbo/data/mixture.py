"""Which source a position of a stream reads from, and how many times that source was read before it.

Positions come in cycles of 10,000 slots. In a cycle every source has its share of slots, to the nearest slot, in an
order shuffled by the seed. So shares hold over every cycle, and both answers follow from the position alone:

    sources of weight 2 and 1, cycles of 6 slots

    position   0  1  2  3  4  5 | 6  7  8  9 10 11 | ..
    source     a  b  a  a  b  a | b  a  a  a  a  b | ..
    draw       0  0  1  2  1  3 | 2  4  5  6  7  3 | ..
"""

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from showo_turbo.errors import InputError

SLOTS = 10_000


class Mixture:
    """A fixed sequence over sources, of no end."""

    def __init__(self, weights: Sequence[float], seed: int) -> None:
        """Share out the slots of a cycle.

        Args:
            weights: of the sources, in any unit.
            seed: of the order within cycles.

        Raises:
            InputError: when there are no weights, or one is not positive or too small for a single slot.
        """
        if not weights or not all(math.isfinite(weight) and weight > 0 for weight in weights):
            raise InputError(f"weights of sources are {list(weights)}: give at least one source, and positive weights")
        self.slots = _share_out(weights)
        if 0 in self.slots:
            smallest = min(weights)
            raise InputError(f"weight {smallest} of {sum(weights)} in all is too small: choose at least 1 in {SLOTS}")
        self.seed = seed
        # Two cycles, since batches that are read ahead may lie in the next one.
        self._cycle = lru_cache(maxsize=2)(self._lay_out)

    def locate(self, position: int) -> tuple[int, int]:
        """Number of the source that is read at a position, and how many positions before this one read from it."""
        cycle, slot = divmod(position, SLOTS)
        sources, earlier = self._cycle(cycle)
        source = int(sources[slot])
        return source, cycle * self.slots[source] + int(earlier[slot])

    def _lay_out(self, cycle: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the source of each slot, and how often it occurs earlier in the cycle."""
        rng = np.random.default_rng([self.seed, cycle])
        sources = rng.permutation(np.repeat(np.arange(len(self.slots)), self.slots))
        earlier = np.empty(SLOTS, dtype=np.int64)
        for source, count in enumerate(self.slots):
            earlier[sources == source] = np.arange(count)
        return sources, earlier


def _share_out(weights: Sequence[float]) -> list[int]:
    """Whole slots in proportion to the weights, SLOTS in all; the largest remainders are rounded up."""
    exact = np.array(weights) / sum(weights) * SLOTS
    slots = np.floor(exact).astype(int)
    largest_remainders = np.argsort(slots - exact, kind="stable")[: SLOTS - slots.sum()]
    slots[largest_remainders] += 1
    return slots.tolist()
