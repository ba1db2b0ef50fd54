"""Trajectories: both modalities step from state to state towards a fixed answer (arXiv 2502.05415, section 3).

    image   [?  ?  ?  ?]   [7  ?  ?  2]   [7  5  ?  2]   [7  5  1  2]      ids of a state are the best guess so far
             .  .  .  .     x  .  .  x     x  x  .  x     x  x  x  x       x: settled, final from here on
    text    [a  man  a ]   [two red a ]   [two red dogs]
             .   .   .      x   .   .      x   x    x

A step settles at least one more position. Its outcome depends on the state, the decoder's inputs and the random
generator only; caches change no result. Pipelines use the last state, previews and streamers each one, and distillation
records them all.

    step of decoder a   lay out --ForwardInput--+                                   +--logits--> next state
                                                +--> one forward pass, one head ----+
    step of decoder b   lay out --ForwardInput--+                                   +--logits--> next state

A step is a Python generator: it yields one `ForwardInput`, is sent the logits, and returns the next state. So the same
code runs by itself (`run_single`) and in one forward pass with the steps of other requests (`run_batched`).
"""

import logging
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from showo_turbo.models.packed_forward import PackedSequences
from showo_turbo.models.showo import Showo

logger = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True)
class State:
    """Hold one point of a trajectory.

    Attributes:
        ids: long (batch, n), token ids, the current guess for every position; images start from mask tokens.
        settled: bool (batch, n), True where they are final.
        forward_passes: forward passes of the transformer so far, whatever the batch size.
    """

    ids: Tensor
    settled: Tensor
    forward_passes: int = 0

    @property
    def done(self) -> bool:
        """Whether every position is settled."""
        return bool(self.settled.all())

    @classmethod
    def batch(cls, states: Sequence["State"]) -> "State":
        """Concatenate the rows of several states after equally many forward passes."""
        ids, settled = torch.cat([one.ids for one in states]), torch.cat([one.settled for one in states])
        return cls(ids, settled, states[0].forward_passes)

    def select(self, rows: Sequence[int]) -> "State":
        """Return some of the rows."""
        return State(self.ids[rows], self.settled[rows], self.forward_passes)

    def split(self, sizes: Sequence[int]) -> list["State"]:
        """Split the rows into states of these sizes; the inverse of `batch`."""
        pieces = zip(self.ids.split(sizes), self.settled.split(sizes), strict=True)
        return [State(ids, settled, self.forward_passes) for ids, settled in pieces]

    def mask_unsettled(self, mask_id: int) -> Tensor:
        """Return the ids with `mask_id` where they are not settled, long (batch, n): the input of an image model."""
        return torch.where(self.settled, self.ids, mask_id)


def trajectory(start: State, advance: Callable[[State], State]) -> Iterator[State]:
    """Yield the states from `start` (included) to the one in which all positions are settled."""
    state = start
    yield state
    while not state.done:
        state = advance(state)
        yield state


def last_state(states: Iterator[State]) -> State:
    """Return the state in which a trajectory ends."""
    for state in states:
        final = state
    return final


@dataclass(frozen=True)
class ForwardInput:
    """Hold what one step needs from a forward pass.

    Attributes:
        embeddings: (rows, hidden_size), of the rows of all groups.
        groups: the sequences that the rows belong to, in order.
        scored_ids: first id whose logits are computed and the one after the last, None for all that follow.
    """

    embeddings: Tensor
    groups: Sequence[PackedSequences]
    scored_ids: tuple[int, int | None] = (0, None)


Step = Generator[ForwardInput, Tensor, T]
"""Yields a `ForwardInput` once, is sent logits, float32 (scored rows, scored ids), and returns its result."""


def compute_logits(model: Showo, inputs: Sequence[ForwardInput]) -> list[Tensor]:
    """Return the logits of each input, float32 (scored rows, scored ids), from one forward pass over all of them."""
    if len(inputs) == 1:
        (one,) = inputs
        return [model.logits(model.packed_forward(one.embeddings, one.groups), *one.scored_ids)]
    embeddings = torch.cat([one.embeddings for one in inputs])
    hidden = model.packed_forward(embeddings, [group for one in inputs for group in one.groups])
    pieces = hidden.split([sum(group.scored_layout.size for group in one.groups) for one in inputs])
    logits: dict[int, Tensor] = {}
    for ids in {one.scored_ids for one in inputs}:
        own = {number: pieces[number] for number, one in enumerate(inputs) if one.scored_ids == ids}
        joined = model.logits(torch.cat(list(own.values())), *ids)
        logits |= zip(own, joined.split([len(piece) for piece in own.values()]), strict=True)
    return [logits[number] for number in range(len(inputs))]


def resume(step: Step[T], logits: Tensor) -> T:
    """Send logits to a step that has yielded its input, and return its result."""
    try:
        step.send(logits)
    except StopIteration as end:
        return end.value
    raise RuntimeError("a step yields one ForwardInput only")


@torch.no_grad()
def run_single(model: Showo, step: Step[T]) -> T:
    """Run a step with a forward pass of its own."""
    return resume(step, *compute_logits(model, [next(step)]))


@torch.no_grad()
def run_batched(model: Showo, steps: Sequence[Step[T]]) -> list[T | Exception]:
    """Run steps with one forward pass; a step that fails gives its error in place of a result.

    If the shared pass fails, for lack of memory for instance, each step gets a pass of its own.
    """
    inputs = [_attempt(next, step) for step in steps]
    valid = [one for one in inputs if isinstance(one, ForwardInput)]
    logits = iter(_compute_logits_or_errors(model, valid) if valid else [])
    answers = [next(logits) if isinstance(one, ForwardInput) else one for one in inputs]
    return [_attempt(resume, step, answer) for step, answer in zip(steps, answers, strict=True)]


def _compute_logits_or_errors(model: Showo, inputs: Sequence[ForwardInput]) -> Sequence[Tensor | Exception]:
    """Return logits from one forward pass or, if it fails, from one of each input."""
    try:
        return compute_logits(model, inputs)
    except Exception as error:
        if len(inputs) == 1:
            return [error]
        logger.warning("a forward pass of %d steps failed, so each runs by itself: %s", len(inputs), error)
    pieces = [_attempt(compute_logits, model, [one]) for one in inputs]
    return [piece if isinstance(piece, Exception) else piece[0] for piece in pieces]


def _attempt(function: Callable[..., T], *arguments: object) -> T | Exception:
    """Call a function and return its error if it raises one, or the error that one of its arguments already is."""
    if errors := [argument for argument in arguments if isinstance(argument, Exception)]:
        return errors[0]
    try:
        return function(*arguments)
    except Exception as error:
        return error
