"""Recorded Jacobi trajectories of a teacher's answers, block by block (Show-o Turbo, arXiv 2502.05415, section 3.1).

    prompt                   block 1          block 2
    .. ASSISTANT:          | v^0 g g g g |                       prompt of block 1: the dialogue so far
                           | v^1 a b' c' d' |
                           | v^J a b c d |  v^0 g g g g          prompt of block 2: the dialogue and block 1
                                            ...

Decisions:
- The states come from the project's one text loop. In a batch, a row that has converged waits for the others; its
  repeated states are dropped, and so are the blocks after its end of text.
- A block in which one id repeats ten times or more is degenerate and is left out, as published.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from showo_turbo.generation.text_decoder import TextDecoder
from showo_turbo.generation.trajectory import State

DEGENERATE_RUN = 10
"""Number of equal ids in a row that makes a block degenerate."""


@dataclass(frozen=True)
class JacobiTrajectory:
    """Hold the trajectory of one block of one answer.

    Attributes:
        prompt: ids before the block: dialogue and earlier blocks.
        iterates: long (J + 1, block_length), from the initial guesses to the fixed point.
    """

    prompt: tuple[int, ...]
    iterates: Tensor

    @property
    def steps(self) -> int:
        """J, the number of forward passes that changed an id; 0 if the guesses were correct at once."""
        return len(self.iterates) - 1


def record_texts(decoder: TextDecoder, guesses: Tensor) -> list[JacobiTrajectory]:
    """Decode answers with a teacher and record the trajectory of every block.

    Args:
        decoder: the teacher with its prompts, greedy.
        guesses: initial guesses, long (batch, max_new_tokens).
    """
    states = list(decoder.run(guesses))
    blocks = range(0, decoder.max_new_tokens, decoder.block_length)
    recorded = (
        _record_block(states, row, prompt, first, decoder.block_length, decoder.vocabulary.end_of_text_id)
        for first in blocks
        for row, prompt in enumerate(decoder.prompts)
    )
    return [trajectory for trajectory in recorded if trajectory is not None]


def _record_block(
    states: list[State], row: int, prompt: Sequence[int], first: int, length: int, end_of_text_id: int
) -> JacobiTrajectory | None:
    """Return the trajectory of the block of a row at `first`; None after the end of text or if it is degenerate."""
    before = states[-1].ids[row, :first].tolist()
    if end_of_text_id in before:
        return None
    block = slice(first, first + length)
    iterates = [state.ids[row, block] for state in states if state.settled[row, :first].all()]
    changed = [new for old, new in pairwise(iterates) if not new.equal(old)]
    if is_degenerate(iterates[-1].tolist(), end_of_text_id):
        return None
    return JacobiTrajectory((*prompt, *before), torch.stack([iterates[0], *changed]).cpu())


def is_degenerate(ids: Iterable[int], end_of_text_id: int) -> bool:
    """Return whether one id repeats `DEGENERATE_RUN` times or more before the end of text."""
    run, last = 0, None
    for position, token in enumerate(ids):
        if token == end_of_text_id and position > 0:
            return False
        run = run + 1 if token == last else 1
        last = token
        if run >= DEGENERATE_RUN:
            return True
    return False
