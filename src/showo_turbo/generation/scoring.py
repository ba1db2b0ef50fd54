"""How a step gets its scores: it lays out the rows it wants scored, waits, and goes on with the answer.

    step of decoder a   lay out --Work--+                         +--scores--> decide, next state
                                        +--> one pass, one head --+
    step of decoder b   lay out --Work--+                         +--scores--> decide, next state

So a step is a Python generator: it yields its work once, is sent the scores, and returns what it makes of them. It does
not know who else has work in the same pass, and is the same code alone (`alone`) and among others (`engine`).
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from showo_turbo.models.passes import Part, run_pass
from showo_turbo.models.showo import Showo

T = TypeVar("T")


@dataclass(frozen=True)
class Work:
    """What one step wants to know.

    Attributes:
        embeddings: (rows, hidden_size), of the rows of all parts.
        parts: whose rows they are, in order.
        scored: the ids that are scored: the first one, and the one after the last, None for all that follow.
    """

    embeddings: Tensor
    parts: Sequence[Part]
    scored: tuple[int, int | None] = (0, None)

    @property
    def asked(self) -> int:
        """How many rows are scored."""
        return sum(part.asked_grid.size for part in self.parts)


Scoring = Generator[Work, Tensor, T]
"""Yields its work once, is sent scores, float32 (asked rows, scored ids), and returns its result."""


def score(model: Showo, works: Sequence[Work]) -> list[Tensor]:
    """Scores of each work, float32 (asked rows, scored ids), from one pass over all of them."""
    embeddings = torch.cat([work.embeddings for work in works])
    hidden = run_pass(model, embeddings, [part for work in works for part in work.parts])
    pieces = dict(enumerate(hidden.split([work.asked for work in works])))
    scores: dict[int, Tensor] = {}
    for ids in {work.scored for work in works}:
        own = {number: pieces[number] for number, work in enumerate(works) if work.scored == ids}
        logits = model.logits(torch.cat(list(own.values())), *ids)
        scores |= zip(own, logits.split([len(piece) for piece in own.values()]), strict=True)
    return [scores[number] for number in pieces]


def conclude(scoring: Scoring[T], scores: Tensor) -> T:
    """The result of something that has yielded its work and waits for these scores."""
    try:
        scoring.send(scores)
    except StopIteration as end:
        return end.value
    raise RuntimeError("a step asks once")


@torch.no_grad()
def alone(model: Showo, scoring: Scoring[T]) -> T:
    """The result, from a pass of its own."""
    return conclude(scoring, *score(model, [next(scoring)]))
