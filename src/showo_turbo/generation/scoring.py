"""How a step gets its scores: it lays out the rows it wants scored, waits, and goes on with the answer.

    step of decoder a   lay out --Work--+                         +--scores--> decide, next state
                                        +--> one pass, one head --+
    step of decoder b   lay out --Work--+                         +--scores--> decide, next state

So a step is a Python generator: it yields its work once, is sent the scores, and returns what it makes of them. It does
not know who else has work in the same pass, and is the same code alone (`alone`) and among others (`engine`).
"""

import logging
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from showo_turbo.models.packed_forward import Part
from showo_turbo.models.showo import Showo

logger = logging.getLogger(__name__)

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
    hidden = model.run_pass(embeddings, [part for work in works for part in work.parts])
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


@torch.no_grad()
def together(model: Showo, scorings: Sequence[Scoring[T]]) -> list[T | Exception]:
    """Results from one pass, each as it is alone. Where one fails, its error stands in place of its result."""
    works = [_attempt(next, scoring) for scoring in scorings]
    sound = [work for work in works if isinstance(work, Work)]
    scores = iter(_score_if_possible(model, sound) if sound else [])
    answers = [next(scores) if isinstance(work, Work) else work for work in works]
    return [_attempt(conclude, scoring, answer) for scoring, answer in zip(scorings, answers, strict=True)]


def _score_if_possible(model: Showo, works: Sequence[Work]) -> Sequence[Tensor | Exception]:
    """Scores of each work from one pass; if that fails, as when there is no memory for it, from a pass of each."""
    try:
        return score(model, works)
    except Exception as error:
        if len(works) == 1:
            return [error]
        logger.warning("a pass of %d steps failed, so each takes one by itself: %s", len(works), error)
    pieces = [_attempt(score, model, [work]) for work in works]
    return [piece if isinstance(piece, Exception) else piece[0] for piece in pieces]


def _attempt(function: Callable[..., T], *arguments: object) -> T | Exception:
    """What a function returns, or the error it raises; or the error that one of its arguments is already."""
    if errors := [argument for argument in arguments if isinstance(argument, Exception)]:
        return errors[0]
    try:
        return function(*arguments)
    except Exception as error:
        return error
