"""The idea both modalities share: a trajectory of states towards a fixed answer (arXiv 2502.05415, section 3).

    image   [?  ?  ?  ?]   [7  ?  ?  2]   [7  5  ?  2]   [7  5  1  2]      a state's ids are the best guess so far
             .  .  .  .     x  .  .  x     x  x  .  x     x  x  x  x       x: settled, final from here on
    text    [a  man  a ]   [two red a ]   [two red dogs]
             .   .   .      x   .   .      x   x    x

A decoder is one step, `advance(state) -> state`, that settles at least one more position; `trajectory` repeats it until
all is settled. A step's outcome depends on nothing but the state, the decoder's own inputs and the random generator;
what a decoder keeps besides is a cache that changes no result. Everything else only looks at states: a pipeline keeps
the last, a preview or streamer shows each, distillation records them.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class State:
    """One point of a trajectory.

    Attributes:
        ids: long (batch, n), token ids: the current guess for every position; an image starts from mask tokens.
        settled: bool (batch, n), which of them are final.
        forward_passes: calls of the transformer so far, whatever the batch.
    """

    ids: Tensor
    settled: Tensor
    forward_passes: int = 0

    @property
    def done(self) -> bool:
        """Whether every position is settled."""
        return bool(self.settled.all())

    @classmethod
    def joined(cls, states: Sequence["State"]) -> "State":
        """The rows of several states after equally many passes."""
        ids, settled = torch.cat([one.ids for one in states]), torch.cat([one.settled for one in states])
        return cls(ids, settled, states[0].forward_passes)

    def rows(self, rows: Sequence[int]) -> "State":
        """Some of the rows."""
        return State(self.ids[rows], self.settled[rows], self.forward_passes)

    def split(self, sizes: Sequence[int]) -> list["State"]:
        """So many rows at a time; `joined` undone."""
        pieces = zip(self.ids.split(sizes), self.settled.split(sizes), strict=True)
        return [State(ids, settled, self.forward_passes) for ids, settled in pieces]

    def hide_unsettled(self, mask_id: int) -> Tensor:
        """The ids with `mask_id` wherever nothing is settled, long (batch, n): what an image model sees."""
        return torch.where(self.settled, self.ids, mask_id)


def trajectory(start: State, advance: Callable[[State], State]) -> Iterator[State]:
    """The states from `start` (which comes first) to the one in which all is settled."""
    state = start
    yield state
    while not state.done:
        state = advance(state)
        yield state


def last_state(states: Iterator[State]) -> State:
    """The answer: the state a trajectory ends in."""
    for state in states:
        final = state
    return final
