"""Speculative drafts for Jacobi decoding from earlier text. They change the number of passes and nothing else.

    seen       .. a red star in the top left and a red | star in the top      prompts, and ids that have settled
    iterates                                             star left and        earlier guesses: right, but misplaced
    choices                                              star the top         choices of the last pass

Decisions:
- A table of n-grams continues the settled ids one by one, the longest match first. On the prompt this is prompt
  look-up decoding, on earlier guesses the n-gram pool of lookahead decoding (arXiv 2402.02057).
- Draft sources are ranked by their past acceptance: the next pass settles some ids in any case, so it tells how many of
  them each source had right, and the source with the highest mean is used. A distilled model's own choices win where
  they are good, n-grams where they are not.
- Rows of a batch, and turns of a chat, share what has been learned.
"""

from collections.abc import Sequence
from itertools import takewhile

LONGEST_MATCH = 3
"""Ids of the longest context that is looked up."""


class NGrams:
    """Store which id followed a context of up to `LONGEST_MATCH` ids the last time."""

    def __init__(self) -> None:
        """Start empty."""
        self._next: dict[tuple[int, ...], int] = {}

    def learn(self, ids: Sequence[int], new: int | None = None) -> None:
        """Store the n-grams of a text, of which the last `new` ids (all by default) are new."""
        for position in range(1 if new is None else max(1, len(ids) - new), len(ids)):
            for length in range(1, min(LONGEST_MATCH, position) + 1):
                self._next[tuple(ids[position - length : position])] = ids[position]

    def continuation(self, ids: Sequence[int], count: int) -> list[int]:
        """Return at most `count` ids that continue a text, as far as its n-grams are known."""
        context = list(ids[-LONGEST_MATCH:])
        found: list[int] = []
        while len(found) < count:
            matches = (self._next.get(tuple(context[start:])) for start in range(len(context)))
            following = next((match for match in matches if match is not None), None)
            if following is None:
                break
            found.append(following)
            context = [*context, following][-LONGEST_MATCH:]
        return found


class Drafts:
    """Draft ids for the rows of one batch, from the source with the highest past acceptance."""

    def __init__(self) -> None:
        """Rank earlier text above the last choices, and these above earlier guesses, until rates are measured."""
        self.seen, self.iterates = NGrams(), NGrams()
        self._accepted = {"seen": 1.0, "choices": 0.5, "iterates": 0.25}
        self._judged = dict.fromkeys(self._accepted, 1)
        self._pending: dict[int, dict[str, list[int]]] = {}

    def begin(self, prompts: Sequence[Sequence[int]]) -> None:
        """Learn from the prompts of new answers."""
        self._pending.clear()
        for prompt in prompts:
            self.seen.learn(prompt)

    def improve(self, row: int, settled: Sequence[int], new: int, choices: Sequence[int]) -> list[int]:
        """Return drafts of the ids after the settled ones, as many as `choices`.

        Args:
            row: index in the batch.
            settled: ids up to the first unsettled one, from somewhere before the new ones.
            new: how many of them the last pass settled, at least one.
            choices: choices of the last pass after them.
        """
        for source, drafts in self._pending.pop(row, {}).items():
            self._judged[source] += 1
            self._accepted[source] += count_equal(drafts, settled[-new:])
        self.seen.learn(settled, new)
        self.iterates.learn([settled[-1], *choices])
        sources = {
            "seen": self.seen.continuation(settled, len(choices)),
            "choices": list(choices),
            "iterates": self.iterates.continuation(settled, len(choices)),
        }
        sources = {source: drafts for source, drafts in sources.items() if drafts}
        if not sources:
            return []
        self._pending[row] = sources
        best = sources[max(sources, key=lambda source: self._accepted[source] / self._judged[source])]
        return [*best, *choices[len(best) :]]


class SeparateDrafts:
    """Draft ids for the rows of several batches, each by the drafts of its own batch."""

    def __init__(self, rows: Sequence[tuple[Drafts, int]]) -> None:
        """Set, for each row, the drafts of its batch and its index there."""
        self._rows = rows

    def begin(self, prompts: Sequence[Sequence[int]]) -> None:
        """Do nothing: each batch has learned its own prompts."""

    def select(self, rows: Sequence[int]) -> "SeparateDrafts":
        """Return the drafts of some of the rows."""
        return SeparateDrafts([self._rows[row] for row in rows])

    def improve(self, row: int, settled: Sequence[int], new: int, choices: Sequence[int]) -> list[int]:
        """See `Drafts.improve`."""
        drafts, own_row = self._rows[row]
        return drafts.improve(own_row, settled, new, choices)


def count_equal(drafts: Sequence[int], ids: Sequence[int]) -> int:
    """Return how many drafts are right before the first wrong one."""
    pairs = zip(drafts, ids, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
