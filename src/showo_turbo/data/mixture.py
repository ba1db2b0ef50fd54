"""Weighted mixture of sources: map each position of a stream to a source and a draw, the number of earlier reads of it.

Positions form cycles of 10,000 slots. In each cycle a source has its fraction of the slots, rounded to a whole slot, in
an order shuffled by the seed. So the weights hold in every cycle, and the mapping depends on the position alone:

    sources of weight 2 and 1, cycles of 6 slots

    position   0  1  2  3  4  5 | 6  7  8  9 10 11 | ..
    source     a  b  a  a  b  a | b  a  a  a  a  b | ..
    draw       0  0  1  2  1  3 | 2  4  5  6  7  3 | ..
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from showo_turbo.errors import InputError

SLOTS_PER_CYCLE = 10_000

_MAX_WEIGHT = 1e12


class Mixture:
    """Map positions of an endless stream to sources."""

    def __init__(self, weights: Sequence[float], seed: int) -> None:
        """Divide the slots of a cycle among the sources.

        Args:
            weights: relative weights of the sources.
            seed: seed of the order within cycles.

        Raises:
            InputError: if there are no weights, or a weight is not positive or too small for a single slot.
        """
        if not weights or not all(0 < weight <= _MAX_WEIGHT for weight in weights):
            raise InputError(f"weights of sources are {list(weights)}: give at least one source, and positive weights")
        self.slots = _slots_by_weight(weights)
        if 0 in self.slots:
            smallest = min(weights)
            raise InputError(
                f"weight {smallest} of {sum(weights)} in all is too small: choose at least 1 in {SLOTS_PER_CYCLE}"
            )
        self.seed = seed
        # Two cycles, since prefetched batches may be in the next one.
        self._cycle = lru_cache(maxsize=2)(self._shuffled_cycle)

    def locate(self, position: int) -> tuple[int, int]:
        """Return the number of the source at a position, and the number of earlier positions of that source."""
        cycle, slot = divmod(position, SLOTS_PER_CYCLE)
        sources, earlier = self._cycle(cycle)
        source = int(sources[slot])
        return source, cycle * self.slots[source] + int(earlier[slot])

    def _shuffled_cycle(self, cycle: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the source of each slot, and how often it occurs earlier in the cycle."""
        rng = np.random.default_rng([self.seed, cycle])
        sources = rng.permutation(np.repeat(np.arange(len(self.slots)), self.slots))
        earlier = np.empty(SLOTS_PER_CYCLE, dtype=np.int64)
        for source, count in enumerate(self.slots):
            earlier[sources == source] = np.arange(count)
        return sources, earlier


def _slots_by_weight(weights: Sequence[float]) -> list[int]:
    """Return the slots of each source, in proportion to the weights; the largest remainders are rounded up."""
    exact = np.array(weights) / sum(weights) * SLOTS_PER_CYCLE
    slots = np.floor(exact).astype(int)
    largest_remainders = np.argsort(slots - exact, kind="stable")[: SLOTS_PER_CYCLE - slots.sum()]
    slots[largest_remainders] += 1
    return slots.tolist()
