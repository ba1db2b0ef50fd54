"""Chat about one image: every question is read together with all turns before it.

[mmu] [soi] codes [eoi] [sot] USER: .. ASSISTANT: answer [eot] USER: .. ASSISTANT: answer [eot] USER: ..
`----------------------- in the KV cache ---------------------------------------------------'
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from showo_turbo.generation.options import DecodingOptions, takes_options
from showo_turbo.generation.text_decoder import TextDecoder
from showo_turbo.models.showo import Showo
from showo_turbo.outputs import TextOutput
from showo_turbo.pipelines.answers import (
    Streamer,
    check_length,
    choose_generator,
    decode,
    prepare_decoder,
    text_output,
)
from showo_turbo.processing.prompts import PromptBuilder


@dataclass(frozen=True)
class ChatTurn:
    """Hold a question and its answer."""

    question: str
    answer: str


class Chat:
    """Ask questions about one image, each read with the turns before it.

    Example:
        >>> chat = pipe.chat("image.png")
        >>> chat.ask("How many stars are there?").texts[0]
        'two'
        >>> chat.ask("What color are they?").texts[0]
        'red'

    Attributes:
        turns: questions and answers so far.
    """

    def __init__(self, model: Showo, prompts: PromptBuilder, codes: Tensor) -> None:
        """Start a chat.

        Args:
            model: the transformer.
            prompts: text tokenizer and prompt templates.
            codes: codes of the image, long (tokens,).
        """
        self.model, self.prompts, self.codes = model, prompts, codes
        self.turns: list[ChatTurn] = []
        self._ids: list[int] = []
        self._decoder: TextDecoder | None = None

    @takes_options(DecodingOptions)
    def ask(
        self,
        question: str,
        *,
        generator: torch.Generator | None = None,
        seed: int | None = None,
        streamer: Streamer | None = None,
        **options: Any,
    ) -> TextOutput:
        """Ask the next question.

        Args:
            question: the text.
            generator: as for `ShowoPipeline.image_to_text`.
            seed: likewise.
            streamer: likewise.
            **options: fields of `DecodingOptions`.

        Raises:
            InputError: if the question is empty or too long, question and answer exceed the model's positions, or an
                option is out of its range; before any forward pass, and the chat stays as it was.
        """
        decoding = DecodingOptions(**options)
        generator = choose_generator(generator, seed)
        question_text = self.prompts.check_question(question)
        if self.turns:
            ids = [*self._ids, *self.prompts.next_turn(question_text)]
        else:
            ids = self.prompts.understanding(self.codes.tolist(), question_text)
        check_length(self.model, len(ids), decoding, "image, dialogue so far and question")
        vocabulary = self.prompts.vocabulary
        decoder, guesses = prepare_decoder(self.model, vocabulary, [ids], decoding, generator, self._decoder)
        answer = text_output(decode(decoder, guesses, streamer), self.prompts)
        self._ids, self._decoder = [*ids, *answer.token_ids[0]], decoder
        self.turns.append(ChatTurn(question, answer.texts[0]))
        return answer
