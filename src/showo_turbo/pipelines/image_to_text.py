"""Image to text, in three steps: prepare -> decode -> unpack.

prompts --prepare--> TextDecoder and first guesses --decode--> finished state --unpack--> ids, texts
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from showo_turbo.errors import InputError
from showo_turbo.generation.drafts import Drafts
from showo_turbo.generation.text_decoder import TextDecoder, draw_guesses, greedy, sampler
from showo_turbo.generation.trajectory import State
from showo_turbo.models.showo import Showo
from showo_turbo.outputs import TextOutput
from showo_turbo.processing.prompts import PromptBuilder
from showo_turbo.validation import check_integer, check_number
from showo_turbo.vocabulary import Vocabulary

DECODINGS = ("jacobi", "autoregressive")


class Streamer(Protocol):
    """Receives an answer while it forms; transformers' streamers fit."""

    def put(self, value: Tensor) -> None:
        """Take ids that will not change any more, long (count,)."""

    def end(self) -> None:
        """Take note that the answer is complete."""


@dataclass(frozen=True)
class DecodingOptions:
    """Options of image to text.

    Attributes:
        max_new_tokens: longest answer.
        decoding: "jacobi" (guesses a block, corrects it in parallel) or "autoregressive" (an id a pass). Without
            sampling both give the same answer.
        block_length: guesses per pass of Jacobi decoding.
        sliding_window: keep that many guesses ahead at all times, and the next block's as well where guesses have
            been good, rather than finish one block after the other; the answer is the same.
        drafts: take guesses from the question, the answer so far and earlier guesses where these were right further
            than the model's own; the answer is the same.
        do_sample: draw ids at random instead of taking the best; autoregressive only.
        temperature: divides the scores before drawing.
        top_k: draw among the k best ids only; None draws among all.

    Raises:
        InputError: when a value cannot be, or goes with another one that is not there.
    """

    max_new_tokens: int = 64
    decoding: str = "jacobi"
    block_length: int = 16
    do_sample: bool = False
    temperature: float = 1.0
    top_k: int | None = None
    sliding_window: bool = True
    drafts: bool = True

    def __post_init__(self) -> None:
        if self.decoding not in DECODINGS:
            raise InputError(f"decoding is {self.decoding!r}: choose {' or '.join(DECODINGS)}")
        for name in ("max_new_tokens", "block_length"):
            check_integer(name, getattr(self, name), 1)
        for name in ("sliding_window", "drafts"):
            if type(getattr(self, name)) is not bool:
                raise InputError(f"{name} is {getattr(self, name)!r}: choose True or False")
        if self.do_sample and self.decoding == "jacobi":
            raise InputError(
                "do_sample needs decoding='autoregressive': Jacobi decoding converges to the best ids only"
            )
        if not self.do_sample and (self.temperature != 1.0 or self.top_k is not None):
            raise InputError(
                f"temperature {self.temperature} and top_k {self.top_k} are for drawing ids: set do_sample=True and "
                "decoding='autoregressive', or leave them out"
            )
        check_number("temperature", self.temperature)
        if self.top_k is not None:
            check_integer("top_k", self.top_k)
        sampler(self.temperature, self.top_k)


def check_questions(
    model: Showo, prompts: PromptBuilder, questions: Sequence[str], num_codes: int, options: DecodingOptions
) -> list[str]:
    """The questions as the model reads them, if they and their answers fit its positions.

    Raises:
        InputError: when one is no text, empty, too long, or holds a reserved token.
    """
    cleaned = [prompts.check_question(question) for question in questions]
    for question in cleaned:
        check_room(model, len(prompts.understanding([0] * num_codes, question)), options)
    return cleaned


def check_room(model: Showo, length: int, options: DecodingOptions, said: str = "image and question") -> None:
    """Refuse a prompt (what is `said`, of `length` tokens) that leaves no room for its answer.

    Raises:
        InputError: when both exceed the model's positions.
    """
    if length + options.max_new_tokens > model.max_positions:
        raise InputError(
            f"{said} take {length} tokens and max_new_tokens is {options.max_new_tokens}, but the "
            f"model has {model.max_positions} positions: shorten the question, or choose fewer new tokens"
        )


def prepare(
    model: Showo,
    vocabulary: Vocabulary,
    rows: Sequence[Sequence[int]],
    options: DecodingOptions,
    generator: torch.Generator | None = None,
    before: TextDecoder | None = None,
) -> tuple[TextDecoder, Tensor]:
    """Lay out prompts, lists of ids that end where the answers begin.

    Args:
        model: the transformer.
        vocabulary: the id layout.
        rows: as `PromptBuilder.understanding` builds them.
        options: checked against the rows by `check_room`.
        generator: where random numbers come from.
        before: a decoder whose prompts these begin with; what it has kept and learned is used.

    Returns:
        A decoder and its first guesses, long (batch, max_new_tokens).
    """
    passes = None if before is None else before.passes
    if options.decoding == "autoregressive":
        choose = sampler(options.temperature, options.top_k, generator) if options.do_sample else greedy
        decoder = TextDecoder(model, vocabulary, rows, options.max_new_tokens, 1, choose, passes)
        return decoder, torch.full((len(rows), options.max_new_tokens), vocabulary.end_of_text_id)
    learned = None if before is None else before.drafts
    decoder = TextDecoder(
        model,
        vocabulary,
        rows,
        options.max_new_tokens,
        options.block_length,
        passes=passes,
        sliding_window=options.sliding_window,
        drafts=(learned or Drafts()) if options.drafts else None,
    )
    return decoder, draw_guesses(rows, options.max_new_tokens, vocabulary, generator)


def decode(decoder: TextDecoder, guesses: Tensor, streamer: Streamer | None = None) -> State:
    """The finished state; a streamer, which takes one answer only, sees ids as they settle."""
    sent = 0
    for state in decoder.run(guesses):
        if streamer is not None:
            ids = _answer_ids(state, 0, decoder.vocabulary.end_of_text_id)
            if len(ids) > sent:
                streamer.put(torch.tensor(ids[sent:]))
            sent = len(ids)
    if streamer is not None:
        streamer.end()
    return state


def unpack(state: State, prompts: PromptBuilder) -> TextOutput:
    """Ids and texts of a finished state."""
    token_ids = [_answer_ids(state, row, prompts.vocabulary.end_of_text_id) for row in range(len(state.ids))]
    return TextOutput([prompts.decode(ids).strip() for ids in token_ids], token_ids, state.forward_passes)


def _answer_ids(state: State, row: int, end_of_text_id: int) -> list[int]:
    """The settled ids of a row up to the end of text."""
    settled = int(state.settled[row].cumprod(0).sum())
    ids = state.ids[row, :settled].tolist()
    return ids[: ids.index(end_of_text_id)] if end_of_text_id in ids else ids
