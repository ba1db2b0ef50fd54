"""Passes over prompts with answers: what a sequence starts with is read once, whatever follows it later.

    part 1    [mmu] [soi] codes [eoi]          once for all sequences that start with this image
    part 2    question, answer so far, guesses only what is not kept, and from where it changed

No row of part 1 looks beyond `<|eoi|>`, and after it all is causal, so keys and values stay right for as long as no id
before them changes. Which ids they were computed from is remembered and compared, so what is kept never changes a
result. Sequences start at position 0 and may differ in length; there is no padding.

    kept   (layers, sequences, capacity)      mmu soi c c eoi q q a a g g . .
                                              mmu soi c c eoi q a a g g . . .
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from showo_turbo.backends.cuda_graphs import rounded_up
from showo_turbo.generation.kv_cache import KeptKeyValues, room_for_key_values
from showo_turbo.generation.scoring import Scoring, Work
from showo_turbo.models.omni_attention import understanding_mask
from showo_turbo.models.packed_forward import Grid, Part
from showo_turbo.models.showo import Showo
from showo_turbo.vocabulary import Vocabulary

Spans = Sequence[range]
"""A range of positions for each sequence."""


class TextPasses:
    """Runs a batch of sequences again and again, each time only where something is new."""

    def __init__(self, model: Showo, vocabulary: Vocabulary, sequences: int, capacity: int) -> None:
        """Make room for so many sequences of up to `capacity` ids."""
        self.model, self.vocabulary = model, vocabulary
        self.runner = model.runner  # rounds lengths, and may be another one before the last pass
        capacity = rounded_up(capacity, self.runner)
        self.kept = room_for_key_values(self, model, sequences, capacity)
        self.ids = torch.full((sequences, capacity), -1)

    def make_room(self, capacity: int) -> None:
        """Go on with sequences of up to `capacity` ids."""
        if capacity > self.ids.shape[1]:
            capacity = rounded_up(capacity, self.runner)
            kept = room_for_key_values(self, self.model, len(self.ids), capacity)
            kept[:, :, :, : self.ids.shape[1]] = self.kept
            self.runner.give_back(self.kept)
            self.kept, self.ids = kept, F.pad(self.ids, (0, capacity - self.ids.shape[1]), value=-1)

    def keep(self, rows: Sequence[int]) -> "TextPasses":
        """Passes of some of the sequences, with what is kept of them."""
        passes = TextPasses(self.model, self.vocabulary, len(rows), self.ids.shape[1])
        passes.kept[:, :, :, : self.ids.shape[1]] = self.kept[:, :, rows]
        passes.ids[:, : self.ids.shape[1]] = self.ids[rows]
        return passes

    def score(self, ids: Tensor, closed: Sequence[int], asked: Spans) -> Scoring[Tensor]:
        """Scores of every id, float32 (asked positions, vocabulary), sequence after sequence.

        Args:
            ids: long (sequences, length), on the CPU; what comes after the asked positions does not matter.
            closed: how long the beginning of each sequence is that never looks beyond itself, see `closed_length`.
            asked: which positions of each sequence, beyond that.
        """
        lengths = [span.stop if span else 0 for span in asked]
        same = (ids == self.ids[:, : ids.shape[1]]).long().cumprod(1).sum(1).tolist()
        unread = [row for row, length in enumerate(lengths) if length and same[row] < closed[row]]
        spans = [
            range(min(span.start, max(same[row], closed[row])), span.stop) if span else range(0)
            for row, span in enumerate(asked)
        ]
        parts = [self._continuations(spans, asked)]
        rows = [ids[row, span.start : span.stop] for row, span in enumerate(spans)]
        if unread:
            prefixes = self._prefixes(ids, unread, closed)
            parts.insert(0, self._beginnings(prefixes))
            rows = [*(torch.tensor(prefix) for prefix in prefixes), *rows]
        for row in filter(lengths.__getitem__, range(len(lengths))):
            self.ids[row, 0 if row in unread else spans[row].start :] = -1
        scores = yield Work(self.model.embed(torch.cat(rows).to(self.model.device)[None])[0], parts)
        for row, length in enumerate(lengths):
            self.ids[row, :length] = ids[row, :length]
        return scores

    def _prefixes(self, ids: Tensor, unread: Sequence[int], closed: Sequence[int]) -> dict[tuple[int, ...], list[int]]:
        """The different beginnings of some sequences, and which ones start so."""
        prefixes: dict[tuple[int, ...], list[int]] = {}
        for row in unread:
            prefixes.setdefault(tuple(ids[row, : closed[row]].tolist()), []).append(row)
        return prefixes

    def _beginnings(self, prefixes: dict[tuple[int, ...], list[int]]) -> Part:
        """The part that reads beginnings; nothing is asked of it."""
        device, lengths, capacity = self.model.device, [len(prefix) for prefix in prefixes], self.ids.shape[1]
        filler = [self.vocabulary.end_of_text_id] * max(lengths)
        padded = torch.tensor([[*prefix, *filler][: len(filler)] for prefix in prefixes])
        sources, places, first = [], [], 0
        for length, rows in zip(lengths, prefixes.values(), strict=True):
            for row in rows:
                sources.append(torch.arange(first, first + length))
                places.append(torch.arange(length) + row * capacity)
            first += length
        grid = Grid(lengths, device)
        return Part(
            grid,
            torch.cat([torch.arange(length) for length in lengths]).to(device),
            BeginningKeyValues(self.kept, grid, torch.cat(sources).to(device), torch.cat(places).to(device)),
            _unless_all(understanding_mask(padded, self.vocabulary), device),
            torch.zeros(0, dtype=torch.long, device=device),
            Grid([0] * len(prefixes)),
        )

    def _continuations(self, spans: Spans, asked: Spans) -> Part:
        """The part of everything after the beginnings, or after what is kept."""
        device, capacity = self.model.device, self.ids.shape[1]
        grid = Grid([len(span) for span in spans])
        positions = torch.cat([torch.arange(span.start, span.stop) for span in spans])
        sequence = torch.cat([torch.full((len(span),), row) for row, span in enumerate(spans)])
        columns = torch.arange(rounded_up(max(span.stop for span in spans), self.runner))
        mask = columns <= grid.spread(positions, empty=len(columns))[:, None, :, None]
        of_first = torch.tensor([wanted.start - span.start for wanted, span in zip(asked, spans, strict=True)])
        starts = torch.tensor([span.start for span in spans])
        is_asked = positions - starts[sequence] >= of_first[sequence]
        return Part(
            Grid([len(span) for span in spans], device),
            positions.to(device),
            KeptKeyValues(self.kept, (sequence * capacity + positions).to(device), len(spans), len(columns)),
            _unless_all(mask, device),
            is_asked.nonzero()[:, 0].to(device),
            Grid([len(span) for span in asked], device),
        )


def closed_length(prompt: Sequence[int], vocabulary: Vocabulary) -> int:
    """How long the beginning of a prompt is that is read as a whole: up to `<|eoi|>`, if there is one."""
    return list(prompt).index(vocabulary.eoi_id) + 1 if vocabulary.eoi_id in prompt else 0


def _unless_all(mask: Tensor, device: torch.device) -> Tensor | None:
    """A mask on a device, or None if it hides nothing."""
    return None if mask.all() else mask.to(device)


@dataclass(frozen=True)
class BeginningKeyValues:
    """Rows of a beginning look at that beginning; what they are is kept for every sequence that starts so.

    Attributes:
        kept: (layers, 2, sequences, capacity, heads, head size).
        grid: which beginnings the rows belong to.
        sources: long (copies,), rows, as often as they are kept.
        places: long (copies,), where they are kept among (sequences * capacity).
    """

    kept: Tensor
    grid: Grid
    sources: Tensor
    places: Tensor

    @property
    def lasting(self) -> tuple[Tensor, ...]:
        """See `models.passes.KeyValues`."""
        return (self.kept,)

    def update(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """See `models.passes.KeyValues`."""
        for kept, own in zip(self.kept[layer], (keys, values), strict=True):
            kept.flatten(0, 1).index_copy_(0, self.places, own[self.sources])
        return self.grid.spread(keys), self.grid.spread(values)
