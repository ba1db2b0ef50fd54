"""Decode text: the only text loop of the project, Jacobi decoding, of which block length 1 is autoregressive decoding.

    block of 4, prompt ends in ":"            one pass reads           and predicts
    settled: nothing                          :  g1 g2 g3              a  b  c  d
    a is final: all before it was             a  b  c                  b' c' d'
    b' equals b, so c' read final ids         c' ...                   settled: a b' c'

Jacobi decoding (arXiv 2502.05415, section 3.1; CLLM, arXiv 2403.00835) replaces all guesses of a block at once by the
greedy choices given the current guesses. A choice that follows from final ids only is final, so at least one more id
settles in each pass, and the result is that of greedy autoregressive decoding, whatever the guesses.

Decisions:
- A pass reads the last settled id and the unsettled guesses of the block; all before is in the KV cache
  (`text_forward`).
- A sliding window decodes a block's length ahead of the last settled id, and the next block too where guesses have been
  good; `drafts` replaces guesses by speculative drafts. Neither changes an answer.
- The loop tells which ids are final, so no pass is needed to see that nothing changes any more.
- Each row of a batch proceeds independently of the others; a row that has ended is not read any more.
- After an end-of-text id all ids are end-of-text and settled, so a shorter answer is the ids before the first one.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from copy import copy
from itertools import islice
from typing import Protocol, cast

import torch
from torch import Tensor

from showo_turbo.errors import InputError
from showo_turbo.generation.drafts import LONGEST_MATCH, Drafts, SeparateDrafts
from showo_turbo.generation.options import DecodingOptions, check_option
from showo_turbo.generation.prefix_store import PrefixStore
from showo_turbo.generation.text_forward import TextForward, prefix_length
from showo_turbo.generation.trajectory import State, Step, run_single, trajectory
from showo_turbo.models.showo import Showo
from showo_turbo.validation import shown
from showo_turbo.vocabulary import Vocabulary

_GOOD_FRACTION = 0.25
"""Fraction of a block that passes have to settle, on average, for the next block to be decoded early."""

Chooser = Callable[[Tensor], Tensor]
"""Chooses one id per row of logits: float32 (..., vocabulary) -> long (...)."""


class Streamer(Protocol):
    """Receive an answer while it is decoded, by the protocol of transformers' streamers.

    Each call is `put(prompt)`, `put(ids)` for ids of the answer as they settle, without the end of text, and `end()`.
    """

    def put(self, value: Tensor) -> None:
        """Receive ids on the CPU: first the whole prompt, long (1, length), then ids that are final, long (count,)."""

    def end(self) -> None:
        """Receive the end of the answer; also if the call fails, so that a consumer in another thread does not wait."""


@contextmanager
def ended_on_error(streamer: Streamer | None) -> Iterator[None]:
    """Tell a streamer that the answer has ended if the block raises an error; an error of the streamer is dropped.

    Raises:
        InputError: if the streamer has no methods `put` and `end`.
    """
    if streamer is not None and not all(callable(getattr(streamer, name, None)) for name in ("put", "end")):
        raise InputError(
            f"streamer is {shown(streamer)}: expected an object with put and end, such as transformers' TextStreamer"
        )
    try:
        yield
    except BaseException:
        if streamer is not None:
            with suppress(Exception):
                streamer.end()
        raise


def greedy(logits: Tensor) -> Tensor:
    """Return the id with the highest logit, the lowest id of equal ones."""
    return logits.argmax(-1)


def sampler(temperature: float = 1.0, top_k: int | None = None, generator: torch.Generator | None = None) -> Chooser:
    """Return a chooser that samples.

    Args:
        temperature: divides the logits.
        top_k: sample among the k highest logits, and those equal to the k-th.
        generator: source of random numbers; samples are drawn on its device.

    Raises:
        InputError: if an option is out of its range.
    """
    check_option(DecodingOptions, "temperature", temperature)
    check_option(DecodingOptions, "top_k", top_k)

    def choose(logits: Tensor) -> Tensor:
        scaled = logits / temperature
        if top_k is not None:
            smallest = scaled.topk(min(top_k, scaled.shape[-1])).values[..., -1:]
            scaled = scaled.masked_fill(scaled < smallest, -torch.inf)
        probabilities = scaled.softmax(-1).flatten(0, -2)
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
    """Draw first guesses from the text ids of each row's own prompt, long (batch, max_new_tokens), on the CPU."""
    pools = [[token for token in prompt if token < vocabulary.llm_vocab_size] for prompt in prompts]
    device = "cpu" if generator is None else generator.device
    picks = [torch.randint(len(pool), (max_new_tokens,), generator=generator, device=device) for pool in pools]
    return torch.stack([torch.tensor(pool)[pick.cpu()] for pool, pick in zip(pools, picks, strict=True)])


class TextDecoder:
    """Continue prompts, block by block. One object serves one batch.

    Attributes:
        store: KV caches of prefixes, to read and to add to; None until it is set.
    """

    def __init__(
        self,
        model: Showo,
        vocabulary: Vocabulary,
        prompts: Sequence[Sequence[int]],
        max_new_tokens: int,
        block_length: int = 16,
        choose: Chooser = greedy,
        forward: TextForward | None = None,
        *,
        sliding_window: bool = False,
        drafts: Drafts | SeparateDrafts | None = None,
    ) -> None:
        """Prepare a batch.

        Args:
            model: the transformer.
            vocabulary: the id layout.
            prompts: id lists, one per row, as `PromptBuilder.understanding` builds them; lengths may differ.
            max_new_tokens: length of the longest answer.
            block_length: guesses per pass; 1 is autoregressive decoding.
            choose: chooses an id from its logits.
            forward: KV cache of a decoder whose prompts these begin with.
            sliding_window: guess `block_length` ids from the first unsettled one on, and start the next block before
                this one has settled, if guesses were good so far and none of them ends the answer.
            drafts: source of speculative drafts; without, guesses are the choices of the pass before.

        Raises:
            InputError: if a number is below 1, prompt and answer exceed the model's positions, a prompt ends before or
                with `<|eoi|>`, or another chooser than `greedy` is to fill blocks: samples have no fixed point to
                converge to.
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
        self.sliding_window, self.drafts, self._forward = sliding_window, drafts, forward
        self.store: PrefixStore | None = None
        self._lengths = torch.tensor([len(prompt) for prompt in prompts])
        self._prefix_lengths = [prefix_length(prompt, vocabulary) for prompt in prompts]
        self._sequences = torch.zeros(len(prompts), longest + max_new_tokens, dtype=torch.long)
        for row, prompt in zip(self._sequences, prompts, strict=True):
            row[: len(prompt)] = torch.tensor(prompt)
        if drafts is not None:
            drafts.begin([prompt[length:] for prompt, length in zip(prompts, self._prefix_lengths, strict=True)])

    @classmethod
    def from_options(
        cls,
        model: Showo,
        vocabulary: Vocabulary,
        prompts: Sequence[Sequence[int]],
        options: DecodingOptions,
        generator: torch.Generator | None = None,
        previous: "TextDecoder | None" = None,
    ) -> tuple["TextDecoder", Tensor]:
        """Build a decoder and its first guesses, long (batch, max_new_tokens).

        Args:
            model: the transformer.
            vocabulary: the id layout.
            prompts: id lists that end where the answers begin.
            options: how to decode.
            generator: source of random numbers.
            previous: a decoder whose prompts these begin with; its KV cache and drafts are used.
        """
        forward = None if previous is None else previous.forward
        if options.decoding == "autoregressive":
            choose = sampler(options.temperature, options.top_k, generator) if options.do_sample else greedy
            decoder = cls(model, vocabulary, prompts, options.max_new_tokens, 1, choose, forward)
            return decoder, torch.full((len(prompts), options.max_new_tokens), vocabulary.end_of_text_id)
        learned = None if previous is None else previous.drafts
        decoder = cls(
            model,
            vocabulary,
            prompts,
            options.max_new_tokens,
            options.block_length,
            forward=forward,
            sliding_window=options.sliding_window,
            drafts=(learned or Drafts()) if options.drafts else None,
        )
        return decoder, draw_guesses(prompts, options.max_new_tokens, vocabulary, generator)

    @classmethod
    def batch(cls, decoders: Sequence["TextDecoder"]) -> "TextDecoder":
        """Join decoders with the same options; each keeps its own drafts."""
        first = decoders[0]
        drafts = None
        if first.drafts is not None:
            rows = [(cast(Drafts, one.drafts), row) for one in decoders for row in range(one.sequences)]
            drafts = SeparateDrafts(rows)
        joined = cls(
            first.model,
            first.vocabulary,
            [prompt for one in decoders for prompt in one.prompts],
            first.max_new_tokens,
            first.block_length,
            first.choose,
            sliding_window=first.sliding_window,
            drafts=drafts,
        )
        joined.store = first.store
        return joined

    def select(self, rows: Sequence[int]) -> "TextDecoder":
        """Return a decoder for some of the prompts of one made by `batch`, with their KV cache and drafts."""
        selected = copy(self)
        selected.prompts = [self.prompts[row] for row in rows]
        selected._prefix_lengths = [self._prefix_lengths[row] for row in rows]
        selected._lengths, selected._sequences = self._lengths[rows], self._sequences[rows]
        selected.drafts = self.drafts and cast(SeparateDrafts, self.drafts).select(rows)
        selected._forward = self._forward and self._forward.select(rows)
        return selected

    @property
    def sequences(self) -> int:
        """Largest number of sequences in a forward pass."""
        return len(self.prompts)

    @property
    def generators(self) -> Sequence[torch.Generator]:
        """Generators of the decoders that were joined by `batch`: none, since decoders that sample are not joined."""
        return []

    @property
    def forward(self) -> TextForward:
        """KV cache of prompts and answers, allocated at the first use."""
        if self._forward is None:
            sequences, capacity = self._sequences.shape
            self._forward = TextForward(self.model, self.vocabulary, sequences, capacity, self.store)
        self._forward.grow(self._sequences.shape[1])
        return self._forward

    def start(self, guesses: Tensor) -> State:
        """Return the state before the first pass, from guesses long (batch, max_new_tokens)."""
        return State(guesses, torch.zeros_like(guesses, dtype=torch.bool))

    def windows(self, state: State) -> list[range]:
        """Return the positions that the next pass decodes in each row; none if it has ended.

        Blocks are aligned without a sliding window. With one, the window starts at the first unsettled position and has
        the length of two blocks if passes have settled enough so far (the first settles one id, as first guesses are
        random) and no guess ends the answer.
        """
        windows, length, passes = [], self.block_length, state.forward_passes
        for first, ids in zip(state.settled.sum(1).tolist(), state.ids.tolist(), strict=True):
            end = first + length if self.sliding_window else first - first % length + length
            if self.sliding_window and first > 0 and length > 1 and first - 1 >= (passes - 1) * length * _GOOD_FRACTION:
                end += length * (self.vocabulary.end_of_text_id not in ids[first:end])
            windows.append(range(first, min(end, self.max_new_tokens)))
        return windows

    def block(self, state: State) -> tuple[int, int]:
        """Return the span of all windows: the first unsettled position of any row, and the last end."""
        windows = [window for window in self.windows(state) if window]
        return min(window.start for window in windows), max(window.stop for window in windows)

    def logits(self, state: State) -> Tensor:
        """Return logits of the `block` in every row, float32 (batch, end - first, vocabulary), by one forward pass."""
        windows = [range(*self.block(state))] * len(state.ids)
        return run_single(self.model, self._window_logits(state, windows)).unflatten(0, (len(windows), -1))

    def step(self, state: State) -> Step[State]:
        """Run one step: replace every guess in the windows by the choice that follows from the ids before it."""
        windows = self.windows(state)
        logits = yield from self._window_logits(state, windows)
        chosen = iter(self.choose(logits).tolist())
        ids, settled = state.ids.tolist(), state.settled.clone()
        for row, window in enumerate(windows):
            choices = list(islice(chosen, len(window)))
            settled[row, : self._settle(row, ids[row], window, choices)] = True
        return State(torch.tensor(ids, device=state.ids.device), settled, state.forward_passes + 1)

    def advance(self, state: State) -> State:
        """Run one step with a forward pass of its own."""
        return run_single(self.model, self.step(state))

    def run(self, guesses: Tensor) -> Iterator[State]:
        """Yield the trajectory from first guesses, long (batch, max_new_tokens), to answers."""
        return trajectory(self.start(guesses), self.advance)

    def generate(
        self, guesses: Tensor, streamer: Streamer | None = None, on_state: Callable[[State], object] | None = None
    ) -> State:
        """Return the finished state.

        Args:
            guesses: first guesses, long (batch, max_new_tokens).
            streamer: takes one answer only, and receives ids as they settle.
            on_state: called with every state, from the start on.
        """
        state, sent = self.start(guesses), 0
        if on_state is not None:
            on_state(state)
        if streamer is not None:
            streamer.put(torch.tensor([list(self.prompts[0])], device="cpu"))
        while not state.done:
            state = run_single(self.model, self.step(state))
            if on_state is not None:
                on_state(state)
            if streamer is not None:
                ids = answer_ids(state, 0, self.vocabulary.end_of_text_id)
                if len(ids) > sent:
                    streamer.put(torch.tensor(ids[sent:], device="cpu"))
                sent = len(ids)
        if streamer is not None:
            streamer.end()
        return state

    def _settle(self, row: int, ids: list[int], window: range, choices: Sequence[int]) -> int:
        """Replace guesses in `ids` by choices, and those that are not final by drafts; return the settled count."""
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

    def _window_logits(self, state: State, windows: Sequence[range]) -> Step[Tensor]:
        """Compute logits of the windows, float32 (positions, vocabulary), row after row."""
        positions = self._lengths[:, None] + torch.arange(self.max_new_tokens)
        sequences = self._sequences.scatter(1, positions, state.ids.cpu())
        before = [
            range(length + window.start - 1, length + window.stop - 1) if window else range(0)
            for length, window in zip(self._lengths.tolist(), windows, strict=True)
        ]
        return (yield from self.forward.logits(sequences, self._prefix_lengths, before))


def answer_ids(state: State, row: int, end_of_text_id: int) -> list[int]:
    """Return the settled ids of a row up to the end of text."""
    settled = int(state.settled[row].cumprod(0).sum())
    ids = state.ids[row, :settled].tolist()
    return ids[: ids.index(end_of_text_id)] if end_of_text_id in ids else ids


def visible_ids(state: State, row: int, end_of_text_id: int, num_guesses: int) -> tuple[list[int], int, bool]:
    """Return the ids of an answer on its way: settled ones, and up to `num_guesses` guesses before an end of text.

    Returns:
        The ids, the number of settled ones with the end of text, and whether the end of text is settled.
    """
    num_settled = int(state.settled[row].cumprod(0).sum())
    ids = state.ids[row].tolist()
    ended = end_of_text_id in ids[:num_settled]
    if ended:
        num_settled = ids.index(end_of_text_id) + 1
    shown = ids[: num_settled + (0 if ended else num_guesses)]
    return shown[: shown.index(end_of_text_id)] if end_of_text_id in shown else shown, num_settled, ended


def count_final(guesses: Sequence[int], choices: Sequence[int]) -> int:
    """Return how many choices are final: those before which every guess was right, at least one if there is any."""
    wrong = (number for number, (guess, choice) in enumerate(zip(guesses, choices, strict=True)) if guess != choice)
    return min(next(wrong, len(choices)) + 1, len(choices))
