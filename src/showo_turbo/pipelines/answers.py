"""Decode answers in three steps: prepare_decoder -> decode -> text_output.

id lists --prepare_decoder--> TextDecoder and first guesses --decode--> finished state --text_output--> ids, texts
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from showo_turbo.components import make_generator
from showo_turbo.errors import InputError
from showo_turbo.generation.drafts import Drafts
from showo_turbo.generation.options import DecodingOptions
from showo_turbo.generation.text_decoder import TextDecoder, draw_guesses, greedy, sampler
from showo_turbo.generation.trajectory import State
from showo_turbo.models.showo import Showo
from showo_turbo.outputs import TextOutput
from showo_turbo.processing.prompts import PromptBuilder
from showo_turbo.vocabulary import Vocabulary


class Streamer(Protocol):
    """Receive an answer while it is decoded; transformers' streamers fit."""

    def put(self, value: Tensor) -> None:
        """Receive ids that are final, long (count,)."""

    def end(self) -> None:
        """Receive the end of the answer."""


def choose_generator(generator: torch.Generator | None, seed: int | None) -> torch.Generator | None:
    """Return the generator that is given, or else one of a seed.

    Raises:
        InputError: if the generator is not one, or the seed is invalid.
    """
    if generator is None:
        return make_generator(seed)
    if not isinstance(generator, torch.Generator):
        raise InputError(f"generator is {generator!r}: give a torch.Generator (a number is a seed)")
    return generator


def check_length(model: Showo, length: int, options: DecodingOptions, prompt: str) -> None:
    """Check that a prompt of `length` tokens and its answer fit the model's positions.

    Raises:
        InputError: if they do not; `prompt` names the parts of the prompt.
    """
    if length + options.max_new_tokens > model.max_positions:
        raise InputError(
            f"{prompt} take {length} tokens and max_new_tokens is {options.max_new_tokens}, but the "
            f"model has {model.max_positions} positions: shorten the question, or choose fewer new tokens"
        )


def prepare_decoder(
    model: Showo,
    vocabulary: Vocabulary,
    prompts: Sequence[Sequence[int]],
    options: DecodingOptions,
    generator: torch.Generator | None = None,
    previous: TextDecoder | None = None,
) -> tuple[TextDecoder, Tensor]:
    """Build a decoder for prompts, id lists that end where the answers begin.

    Args:
        model: the transformer.
        vocabulary: the id layout.
        prompts: as `PromptBuilder.understanding` builds them, with lengths that `check_length` has passed.
        options: how to decode.
        generator: source of random numbers.
        previous: a decoder whose prompts these begin with; its KV cache and drafts are used.

    Returns:
        The decoder and its first guesses, long (batch, max_new_tokens).
    """
    forward = None if previous is None else previous.forward
    if options.decoding == "autoregressive":
        choose = sampler(options.temperature, options.top_k, generator) if options.do_sample else greedy
        decoder = TextDecoder(model, vocabulary, prompts, options.max_new_tokens, 1, choose, forward)
        return decoder, torch.full((len(prompts), options.max_new_tokens), vocabulary.end_of_text_id)
    learned = None if previous is None else previous.drafts
    decoder = TextDecoder(
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


def decode(decoder: TextDecoder, guesses: Tensor, streamer: Streamer | None = None) -> State:
    """Return the finished state; a streamer, which takes one answer only, receives ids as they settle."""
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


def text_output(state: State, prompts: PromptBuilder) -> TextOutput:
    """Return the ids and texts of a state."""
    token_ids = [_answer_ids(state, row, prompts.vocabulary.end_of_text_id) for row in range(len(state.ids))]
    return TextOutput([prompts.decode(ids).strip() for ids in token_ids], token_ids, state.forward_passes)


def _answer_ids(state: State, row: int, end_of_text_id: int) -> list[int]:
    """Return the settled ids of a row up to the end of text."""
    settled = int(state.settled[row].cumprod(0).sum())
    ids = state.ids[row, :settled].tolist()
    return ids[: ids.index(end_of_text_id)] if end_of_text_id in ids else ids
