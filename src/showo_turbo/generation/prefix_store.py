"""Stored KV caches of prefixes, for later sequences that start with the same ids.

    request 1   mmu soi codes eoi question 1     prefix is read, and stored at the end of the pass
    request 2   mmu soi codes eoi question 2     prefix is copied, only the question is read
                `---- prefix ----'

Decisions:
- Prefixes are found by their ids, all of them, so a hit is exact: no row of a prefix attends beyond its end, and its
  positions start at 0.
- What is stored belongs to the weights that it was computed with: it is dropped when they change (`Showo.derived`).
- The least recently used prefixes are dropped so that the size stays within a limit.
- Ids of CLIP features mean other features in every call, so prefixes of `FeatureShowo` are not stored.
"""

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor

from showo_turbo.models.showo import Showo


class PrefixStore:
    """Hold KV caches of prefixes by ids.

    Attributes:
        lookups: number of prefixes that were looked up.
        hits: number of these that were found.
        cached_tokens: tokens of prefixes that were found.
        stored_bytes: size of what is stored.
    """

    def __init__(self, model: Showo, max_bytes: int) -> None:
        """Start empty, for prefixes of one model."""
        self.model, self.max_bytes = model, max_bytes
        self.lookups = self.hits = self.cached_tokens = self.stored_bytes = 0
        self._prefixes: OrderedDict[tuple[int, ...], Tensor] = OrderedDict()
        self._weights: Tensor | None = None

    def find(self, prefix: Sequence[int]) -> Tensor | None:
        """Return keys and values of a prefix, (layers, 2, length, heads, head size), or None."""
        self.lookups += 1
        found = self._prefixes.get(tuple(prefix))
        if found is not None:
            self._prefixes.move_to_end(tuple(prefix))
            self.hits, self.cached_tokens = self.hits + 1, self.cached_tokens + len(prefix)
        return found

    def add(self, prefix: Sequence[int], keys_values: Tensor) -> None:
        """Store a copy of keys and values, (layers, 2, length, heads, head size), if they fit."""
        if tuple(prefix) in self._prefixes or keys_values.nbytes > self.max_bytes:
            return
        while self.stored_bytes + keys_values.nbytes > self.max_bytes:
            self.stored_bytes -= self._prefixes.popitem(last=False)[1].nbytes
        self._prefixes[tuple(prefix)] = keys_values.clone()
        self.stored_bytes += keys_values.nbytes

    def drop_outdated(self) -> None:
        """Drop everything if the weights have changed; called once before prefixes are looked up for a pass."""
        weights = self.model.derived("weights of prefixes", lambda: torch.zeros(0))
        if weights is not self._weights:
            self._prefixes.clear()
            self.stored_bytes, self._weights = 0, weights
