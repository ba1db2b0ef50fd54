"""The text loop, the only one in the project: Jacobi decoding, of which autoregressive decoding is block length 1.

    block of 4, prompt ends in ":"            one pass reads           and predicts
    settled: nothing                          :  g1 g2 g3              a  b  c  d
    a is final: all before it was             a  b  c                  b' c' d'
    b' equals b, so c' read what is final     c' ...                   settled: a b' c'

Jacobi decoding (arXiv 2502.05415, section 3.1; CLLM, arXiv 2403.00835) replaces all guesses of a block at once by the
greedy choice given the current guesses. A choice made from nothing but final ids is final, so at least one more id
settles each pass, and the result is greedy autoregressive decoding's, whatever the guesses.

Decisions:
- A pass reads the last settled id and the unsettled guesses of the block; what came before is kept (`text_passes`).
- A sliding window keeps as many guesses ahead as a block has, and the next block's too where guesses have been good;
  `drafts` finds better ones. Neither changes an answer.
- The loop knows which ids are final, so no pass is spent on seeing that nothing changes any more.
- Each row of a batch goes on by itself, whatever the others do; one that has ended is read no more.
- What follows an end-of-text id is end-of-text and settled, so a shorter answer is the ids before the first one.
"""

from collections.abc import Callable, Iterator, Sequence
from copy import copy
from functools import cached_property
from itertools import islice

import torch
from torch import Tensor

from showo_turbo.errors import InputError
from showo_turbo.generation.drafts import LONGEST_MATCH, Drafts, DraftsApart
from showo_turbo.generation.scoring import Scoring, alone
from showo_turbo.generation.text_passes import TextPasses, closed_length
from showo_turbo.generation.trajectory import State, trajectory
from showo_turbo.models.showo import Showo
from showo_turbo.vocabulary import Vocabulary

_GOOD_GUESSES = 0.25
"""The share of a block that passes have to settle, on average, for the next block to begin early."""

Chooser = Callable[[Tensor], Tensor]
"""Picks one id per row of scores: float32 (..., vocabulary) -> long (...)."""


def greedy(logits: Tensor) -> Tensor:
    """The id with the highest score; of equals the lowest id."""
    return logits.argmax(-1)


def sampler(temperature: float = 1.0, top_k: int | None = None, generator: torch.Generator | None = None) -> Chooser:
    """A chooser that draws at random.

    Args:
        temperature: divides the scores.
        top_k: draw among the k best only, and those that equal the k-th.
        generator: where random numbers come from; draws happen on its device.

    Raises:
        InputError: when an option is out of its range.
    """
    if not temperature > 0:
        raise InputError(f"temperature is {temperature}: choose more than 0, or greedy decoding")
    if top_k is not None and top_k < 1:
        raise InputError(f"top_k is {top_k}: choose 1 or more, or None")

    def choose(logits: Tensor) -> Tensor:
        scores = logits / temperature
        if top_k is not None:
            worst = scores.topk(min(top_k, scores.shape[-1])).values[..., -1:]
            scores = scores.masked_fill(scores < worst, -torch.inf)
        probabilities = scores.softmax(-1).flatten(0, -2)
        device = probabilities.device if generator is None else generator.device
        drawn = torch.multinomial(probabilities.to(device), 1, generator=generator)
        return drawn.to(logits.device).view(logits.shape[:-1])

    return choose


def draw_guesses(
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    vocabulary: Vocabulary,
    generator: torch.Generator | None = None,
) -> Tensor:
    """First guesses: text ids of each row's own prompt at random, long (batch, max_new_tokens), on the CPU."""
    pools = [[token for token in prompt if token < vocabulary.llm_vocab_size] for prompt in prompts]
    device = "cpu" if generator is None else generator.device
    picks = [torch.randint(len(pool), (max_new_tokens,), generator=generator, device=device) for pool in pools]
    return torch.stack([torch.tensor(pool)[pick.cpu()] for pool, pick in zip(pools, picks, strict=True)])


class TextDecoder:
    """Continues prompts, block by block. One object serves one batch."""

    def __init__(
        self,
        model: Showo,
        vocabulary: Vocabulary,
        prompts: Sequence[Sequence[int]],
        max_new_tokens: int,
        block_length: int = 16,
        choose: Chooser = greedy,
        passes: TextPasses | None = None,
        *,
        sliding_window: bool = False,
        drafts: Drafts | DraftsApart | None = None,
    ) -> None:
        """Lay out the sequences.

        Args:
            model: the transformer.
            vocabulary: the id layout.
            prompts: id lists, one per row, as `PromptBuilder.understanding` builds them; lengths may differ.
            max_new_tokens: longest answer.
            block_length: guesses per pass; 1 is autoregressive decoding.
            choose: how an id follows from its scores.
            passes: those of a decoder whose prompts these begin with, to use what it has kept.
            sliding_window: guess `block_length` ids from the first unsettled one on, and start the next block before
                this one has settled, if guesses were good so far and none of them ends the answer.
            drafts: where better guesses come from; without, guesses are the choices of the pass before.

        Raises:
            InputError: when a number is below 1, prompt and answer exceed the model's positions, a prompt ends before
                or with `<|eoi|>`, or a chooser other than `greedy` is to fill blocks: a random draw has no fixed point
                to converge to.
        """
        if max_new_tokens < 1 or block_length < 1:
            raise InputError(f"max_new_tokens is {max_new_tokens} and block_length {block_length}: choose 1 or more")
        if choose is not greedy and block_length > 1:
            raise InputError(
                f"block_length is {block_length}, but only greedy decoding fills blocks: choose 1 to sample"
            )
        longest = max(map(len, prompts))
        if longest + max_new_tokens > model.max_positions:
            raise InputError(
                f"prompt of {longest} and max_new_tokens of {max_new_tokens} exceed the model's "
                f"{model.max_positions} positions: choose at most {model.max_positions - longest} new tokens"
            )
        if any(prompt[-1] == vocabulary.eoi_id for prompt in prompts):
            raise InputError("prompt ends with the image: ask something about it")
        self.model, self.vocabulary, self.choose = model, vocabulary, choose
        self.prompts, self.max_new_tokens, self.block_length = prompts, max_new_tokens, block_length
        self.sliding_window, self.drafts = sliding_window, drafts
        self.lengths = torch.tensor([len(prompt) for prompt in prompts])
        self._closed = [closed_length(prompt, vocabulary) for prompt in prompts]
        self._layout = torch.zeros(len(prompts), longest + max_new_tokens, dtype=torch.long)
        for row, prompt in zip(self._layout, prompts, strict=True):
            row[: len(prompt)] = torch.tensor(prompt)
        self._passes_before = passes
        if drafts is not None:
            drafts.begin([prompt[closed:] for prompt, closed in zip(prompts, self._closed, strict=True)])

    @classmethod
    def joined(cls, decoders: Sequence["TextDecoder"]) -> "TextDecoder":
        """One decoder for the prompts of several, whose options are the same; each has drafts of its own, or none."""
        first = decoders[0]
        rows = [(one.drafts, row) for one in decoders for row in range(one.sequences)]
        return cls(
            first.model,
            first.vocabulary,
            [prompt for one in decoders for prompt in one.prompts],
            first.max_new_tokens,
            first.block_length,
            first.choose,
            sliding_window=first.sliding_window,
            drafts=first.drafts and DraftsApart(rows),
        )

    def keep(self, rows: Sequence[int]) -> "TextDecoder":
        """Of one that was `joined`, a decoder for some of the prompts, by number; what was read and learnt is kept."""
        kept = copy(self)
        kept.prompts, kept._closed = [self.prompts[row] for row in rows], [self._closed[row] for row in rows]
        kept.lengths, kept._layout = self.lengths[rows], self._layout[rows]
        kept.drafts = self.drafts and self.drafts.keep(rows)
        if "passes" in vars(self):  # there are none if there was no room for them
            kept.passes = self.passes.keep(rows)
        return kept

    @property
    def sequences(self) -> int:
        """How many sequences a pass reads, at most."""
        return len(self.prompts)

    @property
    def generators(self) -> Sequence[torch.Generator]:
        """None: decoders that draw ids are not joined."""
        return []

    @cached_property
    def passes(self) -> TextPasses:
        """Passes over prompts and answers; room is made for them when the first one comes."""
        passes = self._passes_before or TextPasses(self.model, self.vocabulary, *self._layout.shape)
        passes.make_room(self._layout.shape[1])
        return passes

    def start(self, guesses: Tensor) -> State:
        """The state before the first pass, from guesses long (batch, max_new_tokens)."""
        return State(guesses, torch.zeros_like(guesses, dtype=torch.bool))

    def windows(self, state: State) -> list[range]:
        """What the next pass works on: of each row the unsettled positions of its block; none if it has ended."""
        firsts, rows = state.settled.sum(1).tolist(), state.ids.tolist()
        ends = [self._guesses_end(first, ids, state.forward_passes) for first, ids in zip(firsts, rows, strict=True)]
        return [range(first, min(end, self.max_new_tokens)) for first, end in zip(firsts, ends, strict=True)]

    def _guesses_end(self, first: int, ids: list[int], passes: int) -> int:
        """Where the guesses of a row end whose first unsettled id is at `first`."""
        if not self.sliding_window:
            return first - first % self.block_length + self.block_length
        return first + self.block_length * (2 if self._next_begins(first, ids, passes) else 1)

    def _next_begins(self, first: int, ids: list[int], passes: int) -> bool:
        """Whether the block after the one that begins at the first unsettled id is guessed as well.

        The first pass settles one id, as first guesses are random; what later ones settle tells how good guesses are.
        """
        if first == 0 or self.block_length == 1:
            return False
        good = first - 1 >= (passes - 1) * self.block_length * _GOOD_GUESSES
        return good and self.vocabulary.end_of_text_id not in ids[first : first + self.block_length]

    def block(self, state: State) -> tuple[int, int]:
        """The span of all windows: the first unsettled position of any row, and the last end."""
        windows = [window for window in self.windows(state) if window]
        return min(window.start for window in windows), max(window.stop for window in windows)

    def logits(self, state: State) -> Tensor:
        """Scores of the `block` in every row, float32 (batch, end - first, vocabulary). One pass."""
        windows = [range(*self.block(state))] * len(state.ids)
        return alone(self.model, self._score(state, windows)).unflatten(0, (len(windows), -1))

    def step(self, state: State) -> Scoring[State]:
        """One step: every guess in the windows gives way to the choice that follows from the ids before it."""
        windows = self.windows(state)
        logits = yield from self._score(state, windows)
        chosen = iter(self.choose(logits).tolist())
        ids, settled = state.ids.tolist(), state.settled.clone()
        for row, window in enumerate(windows):
            choices = list(islice(chosen, len(window)))
            settled[row, : self._settle(row, ids[row], window, choices)] = True
        return State(torch.tensor(ids, device=state.ids.device), settled, state.forward_passes + 1)

    def advance(self, state: State) -> State:
        """One step, with a pass of its own."""
        return alone(self.model, self.step(state))

    def _settle(self, row: int, ids: list[int], window: range, choices: Sequence[int]) -> int:
        """Put choices in the place of guesses, in `ids`, and improve what stays a guess; how many ids are settled."""
        end_id, span = self.vocabulary.end_of_text_id, slice(window.start, window.stop)
        final = window.start + count_final(ids[span], choices)
        ids[span] = choices
        if end_id in ids[window.start : final]:
            final = ids.index(end_id, window.start)
            ids[final:] = [end_id] * (self.max_new_tokens - final)
            return self.max_new_tokens
        if self.drafts is not None and window:
            context = [*self.prompts[row][-LONGEST_MATCH:], *ids[:final]]
            ahead = slice(final, final + self.block_length)
            ids[ahead] = self.drafts.improve(row, context, final - window.start, ids[ahead])
        return final

    def run(self, guesses: Tensor) -> Iterator[State]:
        """The trajectory from first guesses, long (batch, max_new_tokens), to answers."""
        return trajectory(self.start(guesses), self.advance)

    def _score(self, state: State, windows: Sequence[range]) -> Scoring[Tensor]:
        """Scores of positions of each row, float32 (positions, vocabulary), row after row."""
        places = self.lengths[:, None] + torch.arange(self.max_new_tokens)
        sequences = self._layout.scatter(1, places, state.ids.cpu())
        before = [
            range(length + window.start - 1, length + window.stop - 1) if window else range(0)
            for length, window in zip(self.lengths.tolist(), windows, strict=True)
        ]
        return (yield from self.passes.score(sequences, self._closed, before))


def count_final(guesses: Sequence[int], choices: Sequence[int]) -> int:
    """How many choices are final: those before which every guess was right, at least one if there is any."""
    wrong = (number for number, (guess, choice) in enumerate(zip(guesses, choices, strict=True)) if guess != choice)
    return min(next(wrong, len(choices)) + 1, len(choices))
