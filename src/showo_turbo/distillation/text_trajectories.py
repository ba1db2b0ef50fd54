"""The teacher's way from guesses to an answer, block by block, recorded (Show-o Turbo, arXiv 2502.05415, section 3.1).

    prompt                   block 1          block 2
    .. ASSISTANT:          | v^0 g g g g |                       prompt of block 1: the dialogue so far
                           | v^1 a b' c' d' |
                           | v^J a b c d |  v^0 g g g g          prompt of block 2: the dialogue and block 1
                                            ...

Decisions:
- The states come from the one text loop. In a batch a row that has settled waits for the others; its repeated states
  are dropped, and so are the blocks after its end.
- A block in which one id repeats ten times or more is degenerate and is left out, as published.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from showo_turbo.generation.text_decoder import TextDecoder
from showo_turbo.generation.trajectory import State

DEGENERATE_RUN = 10
"""So many equal ids in a row make an answer worthless."""


@dataclass(frozen=True)
class JacobiTrajectory:
    """One block of one answer.

    Attributes:
        prompt: ids that the block follows: dialogue and earlier blocks.
        iterates: long (J + 1, block_length), the guesses first, the fixed point last.
    """

    prompt: tuple[int, ...]
    iterates: Tensor

    @property
    def steps(self) -> int:
        """J: passes that changed something; 0 if the guesses were right at once."""
        return len(self.iterates) - 1


def record_texts(decoder: TextDecoder, guesses: Tensor) -> list[JacobiTrajectory]:
    """Let a teacher answer, and keep the trajectory of every block.

    Args:
        decoder: the teacher with its prompts, greedy.
        guesses: first guesses, long (batch, max_new_tokens).
    """
    states = list(decoder.run(guesses))
    blocks = range(0, decoder.max_new_tokens, decoder.block_length)
    recorded = (
        _block(states, row, prompt, first, decoder.block_length, decoder.vocabulary.end_of_text_id)
        for first in blocks
        for row, prompt in enumerate(decoder.prompts)
    )
    return [one for one in recorded if one is not None]


def _block(
    states: list[State], row: int, prompt: list[int], first: int, length: int, end_of_text_id: int
) -> JacobiTrajectory | None:
    """The trajectory of one row's block that begins at `first`, if the answer reaches it and it is worth keeping."""
    before = states[-1].ids[row, :first].tolist()
    if end_of_text_id in before:
        return None
    span = slice(first, first + length)
    iterates = [state.ids[row, span] for state in states if state.settled[row, :first].all()]
    changed = [one for one, last in zip(iterates[1:], iterates, strict=False) if not one.equal(last)]
    if is_degenerate(iterates[-1].tolist(), end_of_text_id):
        return None
    return JacobiTrajectory((*prompt, *before), torch.stack([iterates[0], *changed]).cpu())


def is_degenerate(ids: Iterable[int], end_of_text_id: int) -> bool:
    """Whether one id repeats `DEGENERATE_RUN` times or more before the end of text."""
    run, last = 0, None
    for position, token in enumerate(ids):
        if token == end_of_text_id and position > 0:
            return False
        run = run + 1 if token == last else 1
        last = token
        if run >= DEGENERATE_RUN:
            return True
    return False
