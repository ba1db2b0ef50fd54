"""Compute logits of growing sequences with a KV cache: in each forward pass only the rows whose ids are new.

    prefix        [mmu] [soi] codes [eoi]          once for all sequences that start with this image (prefill)
    continuation  question, answer so far, drafts  only what is not in the cache, and from where it changed

No row of the prefix attends beyond `<|eoi|>`, and all rows after it are causal, so keys and values stay valid as long
as no id before them changes. The ids that they were computed from are stored and compared, so the cache never changes a
result. Sequences start at position 0 and may differ in length; there is no padding.

    KV cache (layers, sequences, capacity)      mmu soi c c eoi q q a a g g . .
                                                mmu soi c c eoi q a a g g . . .
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F

from showo_turbo.generation.kv_cache import PrefixCache, SequenceCache, allocate_kv_buffer, buffer_length
from showo_turbo.generation.prefix_store import PrefixStore
from showo_turbo.generation.trajectory import ForwardInput, Step
from showo_turbo.models.omni_attention import understanding_mask
from showo_turbo.models.packed_forward import PackedSequences, RaggedLayout
from showo_turbo.models.showo import Showo
from showo_turbo.vocabulary import Vocabulary

Spans = Sequence[range]
"""A range of positions for each sequence."""


class TextForward:
    """Compute logits of a batch of sequences again and again, each time only where ids are new."""

    def __init__(
        self, model: Showo, vocabulary: Vocabulary, sequences: int, capacity: int, store: PrefixStore | None = None
    ) -> None:
        """Allocate the KV cache of sequences of up to `capacity` ids, whose prefixes may be in a store."""
        self.model, self.vocabulary, self.store = model, vocabulary, store
        self.cuda_graphs = model.cuda_graphs  # decides lengths, and may be another one before the last pass
        capacity = buffer_length(capacity, self.cuda_graphs)
        self.buffer = allocate_kv_buffer(self, model, sequences, capacity)
        self.ids = torch.full((sequences, capacity), -1)

    @property
    def capacity(self) -> int:
        """Ids that fit in the KV cache of a sequence."""
        return self.ids.shape[1]

    def grow(self, capacity: int) -> None:
        """Continue with sequences of up to `capacity` ids."""
        if capacity <= self.capacity:
            return
        buffer = allocate_kv_buffer(self, self.model, len(self.ids), buffer_length(capacity, self.cuda_graphs))
        buffer[:, :, :, : self.capacity] = self.buffer
        if self.cuda_graphs is not None:
            self.cuda_graphs.release(self.buffer)
        self.ids = F.pad(self.ids, (0, buffer.shape[3] - self.capacity), value=-1)
        self.buffer = buffer

    def select(self, rows: Sequence[int]) -> "TextForward":
        """Return a copy for some of the sequences, with their part of the KV cache."""
        selected = TextForward(self.model, self.vocabulary, len(rows), self.capacity, self.store)
        selected.buffer[:, :, :, : self.capacity] = self.buffer[:, :, rows]
        selected.ids[:, : self.capacity] = self.ids[rows]
        return selected

    def logits(self, ids: Tensor, prefix_lengths: Sequence[int], scored: Spans) -> Step[Tensor]:
        """Compute logits of every id, float32 (scored positions, vocabulary), sequence after sequence.

        Args:
            ids: long (sequences, length), on the CPU; ids after the scored positions are ignored.
            prefix_lengths: length of each sequence's prefix, see `prefix_length`.
            scored: positions of each sequence, all of them after the prefix.
        """
        lengths = [span.stop if span else 0 for span in scored]
        same = (ids == self.ids[:, : ids.shape[1]]).long().cumprod(1).sum(1).tolist()
        unread = [row for row, length in enumerate(lengths) if length and same[row] < prefix_lengths[row]]
        if self.store is not None and unread:
            self.store.drop_outdated()
            unread = [row for row in unread if not self._load_prefix(row, ids[row, : prefix_lengths[row]])]
        spans = [
            range(min(span.start, max(same[row], prefix_lengths[row])), span.stop) if span else range(0)
            for row, span in enumerate(scored)
        ]
        groups = [self._continuation_rows(spans, scored)]
        rows = [ids[row, span.start : span.stop] for row, span in enumerate(spans)]
        if unread:
            prefixes: dict[tuple[int, ...], list[int]] = {}
            for row in unread:
                prefixes.setdefault(tuple(ids[row, : prefix_lengths[row]].tolist()), []).append(row)
            groups.insert(0, self._prefix_rows(prefixes))
            rows = [*(torch.tensor(prefix) for prefix in prefixes), *rows]
        for row in filter(lengths.__getitem__, range(len(lengths))):
            self.ids[row, 0 if row in unread else spans[row].start :] = -1  # invalid until the pass has ended
        logits = yield ForwardInput(self.model.embed(torch.cat(rows).to(self.model.device)), groups)
        for row, length in enumerate(lengths):
            self.ids[row, :length] = ids[row, :length]
        if self.store is not None and unread:
            for prefix, (row, *_) in prefixes.items():
                self.store.add(prefix, self.buffer[:, :, row, : len(prefix)])
        return logits

    def _load_prefix(self, row: int, prefix: Tensor) -> bool:
        """Copy keys and values of a prefix, long (length,), from the store; return whether it was found."""
        found = cast(PrefixStore, self.store).find(prefix.tolist())
        if found is None:
            return False
        self.buffer[:, :, row, : len(prefix)] = found
        self.ids[row, : len(prefix)], self.ids[row, len(prefix) :] = prefix, -1
        return True

    def _prefix_rows(self, prefixes: dict[tuple[int, ...], list[int]]) -> PackedSequences:
        """Return the rows of different prefixes, each with the sequences that start with it; none is scored."""
        device, lengths = self.model.device, [len(prefix) for prefix in prefixes]
        if self.model.config.w_clip_vit:
            filler = [self.vocabulary.end_of_text_id] * max(lengths)
            padded = torch.tensor([[*prefix, *filler][: len(filler)] for prefix in prefixes])
            mask = understanding_mask(padded, self.vocabulary)
        else:  # every row attends to the whole prefix
            mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None])[:, None, None]
        rows, slots, first = [], [], 0
        for length, sequences in zip(lengths, prefixes.values(), strict=True):
            for sequence in sequences:
                rows.append(torch.arange(first, first + length))
                slots.append(torch.arange(length) + sequence * self.capacity)
            first += length
        layout = RaggedLayout(lengths, device)
        return PackedSequences(
            layout,
            torch.cat([torch.arange(length) for length in lengths]).to(device),
            PrefixCache(self.buffer, layout, torch.cat(rows).to(device), torch.cat(slots).to(device)),
            _none_if_full(mask, device),
            torch.zeros(0, dtype=torch.long, device=device),
            RaggedLayout([0] * len(prefixes)),
        )

    def _continuation_rows(self, spans: Spans, scored: Spans) -> PackedSequences:
        """Return the rows at `spans`, after the prefix or what is in the KV cache, of which `scored` are scored."""
        device = self.model.device
        layout = RaggedLayout([len(span) for span in spans])
        positions = torch.cat([torch.arange(span.start, span.stop) for span in spans])
        sequence = torch.cat([torch.full((len(span),), row) for row, span in enumerate(spans)])
        columns = torch.arange(buffer_length(max(span.stop for span in spans), self.cuda_graphs))
        mask = columns <= layout.pad(positions, fill=len(columns))[:, None, :, None]
        first_scored = torch.tensor([own.start for own in scored])
        is_scored = positions >= first_scored[sequence]
        return PackedSequences(
            RaggedLayout([len(span) for span in spans], device),
            positions.to(device),
            SequenceCache(self.buffer, (sequence * self.capacity + positions).to(device), len(spans), len(columns)),
            _none_if_full(mask, device),
            is_scored.nonzero()[:, 0].to(device),
            RaggedLayout([len(span) for span in scored], device),
        )


def prefix_length(prompt: Sequence[int], vocabulary: Vocabulary) -> int:
    """Return the length of a prompt's prefix, whose rows attend to all of it: up to `<|eoi|>`, 0 without an image."""
    return list(prompt).index(vocabulary.eoi_id) + 1 if vocabulary.eoi_id in prompt else 0


def _none_if_full(mask: Tensor, device: torch.device) -> Tensor | None:
    """Return a mask on a device, or None if it hides nothing."""
    return None if mask.all() else mask.to(device)
