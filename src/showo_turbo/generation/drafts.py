"""Better guesses for Jacobi decoding, from what was seen before. They change the number of passes, and nothing else.

    seen       .. a red star in the top left and a red | star in the top      prompts, and ids that have settled
    iterates                                             star left and        earlier guesses: right, but out of place
    choices                                              star the top         what the last pass chose, as they are

Decisions:
- A table of n-grams continues the settled ids one by one, the longest match first. Of the prompt this is prompt
  look-up, of earlier guesses the pool of lookahead decoding (arXiv 2402.02057).
- Which kind of guess to trust is learned on the way: the next pass settles some ids in any case, so it tells how many
  of them each kind had right, and the one that had most on average goes on. A distilled model's own choices win where
  they are good, n-grams where they are not.
- Rows of a batch, and turns of a dialogue, learn from each other.
"""

from collections.abc import Sequence
from itertools import takewhile

LONGEST_MATCH = 3


class NGrams:
    """What followed what, the last time."""

    def __init__(self) -> None:
        """Know nothing."""
        self._next: dict[tuple[int, ...], int] = {}

    def learn(self, ids: Sequence[int], new: int | None = None) -> None:
        """Take note of what follows what in a piece of text, of which the last `new` ids (all by default) are new."""
        for place in range(1 if new is None else max(1, len(ids) - new), len(ids)):
            for length in range(1, min(LONGEST_MATCH, place) + 1):
                self._next[tuple(ids[place - length : place])] = ids[place]

    def continuation(self, ids: Sequence[int], count: int) -> list[int]:
        """How ids go on, as far as is known: at most `count` ids."""
        context = list(ids[-LONGEST_MATCH:])
        found: list[int] = []
        while len(found) < count and (following := self._following(context)) is not None:
            found.append(following)
            context = [*context, following][-LONGEST_MATCH:]
        return found

    def _following(self, context: Sequence[int]) -> int | None:
        matches = (self._next.get(tuple(context[start:])) for start in range(len(context)))
        return next((match for match in matches if match is not None), None)


class Drafts:
    """Guesses for the rows of one batch."""

    def __init__(self) -> None:
        """Trust what was seen more than what was guessed, until it is known better."""
        self.seen, self.iterates = NGrams(), NGrams()
        self._right = {"seen": 1.0, "choices": 0.5, "iterates": 0.25}
        self._judged = dict.fromkeys(self._right, 1)
        self._open: dict[int, dict[str, list[int]]] = {}

    def begin(self, prompts: Sequence[Sequence[int]]) -> None:
        """Learn from prompts, of which new answers will follow."""
        self._open.clear()
        for prompt in prompts:
            self.seen.learn(prompt)

    def improve(self, row: int, settled: Sequence[int], new: int, choices: Sequence[int]) -> list[int]:
        """Guesses of what comes after the settled ids, as many as `choices`.

        Args:
            row: of the batch.
            settled: ids up to the first unsettled one, from somewhere before the new ones.
            new: how many of them the last pass settled, at least one.
            choices: what it chose after them.
        """
        for kind, guesses in self._open.pop(row, {}).items():
            self._judged[kind] += 1
            self._right[kind] += count_equal(guesses, settled[-new:])
        self.seen.learn(settled, new)
        self.iterates.learn([settled[-1], *choices])
        kinds = {
            "seen": self.seen.continuation(settled, len(choices)),
            "choices": list(choices),
            "iterates": self.iterates.continuation(settled, len(choices)),
        }
        kinds = {kind: guesses for kind, guesses in kinds.items() if guesses}
        if not kinds:
            return []
        self._open[row] = kinds
        best = kinds[max(kinds, key=lambda kind: self._right[kind] / self._judged[kind])]
        return [*best, *choices[len(best) :]]


class DraftsApart:
    """Guesses for the rows of several batches, which learn nothing from each other: each guesses as it does alone."""

    def __init__(self, rows: Sequence[tuple[Drafts, int]]) -> None:
        """Of each row, the drafts of its batch and its number there."""
        self._rows = rows

    def begin(self, prompts: Sequence[Sequence[int]]) -> None:
        """See `Drafts`: each has begun with its own prompts."""

    def keep(self, rows: Sequence[int]) -> "DraftsApart":
        """Those of some of the rows."""
        return DraftsApart([self._rows[row] for row in rows])

    def improve(self, row: int, settled: Sequence[int], new: int, choices: Sequence[int]) -> list[int]:
        """See `Drafts`."""
        drafts, own_row = self._rows[row]
        return drafts.improve(own_row, settled, new, choices)


def count_equal(guesses: Sequence[int], ids: Sequence[int]) -> int:
    """How many guesses are right before the first wrong one."""
    pairs = zip(guesses, ids, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
