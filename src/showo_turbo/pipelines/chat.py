"""Chat about one image: every question is read together with all turns before it.

[mmu] [soi] codes [eoi] [sot] USER: .. ASSISTANT: answer [eot] USER: .. ASSISTANT: answer [eot] USER: ..
`----------------------- in the KV cache ---------------------------------------------------'
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from showo_turbo.components import choose_generator
from showo_turbo.generation.options import DecodingOptions, takes_options
from showo_turbo.generation.text_decoder import Streamer, TextDecoder, ended_on_error
from showo_turbo.outputs import TextOutput
from showo_turbo.validation import check_positions

if TYPE_CHECKING:
    from showo_turbo.pipelines.understanding import EncodedImages, Understanding


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

    def __init__(self, pipe: "Understanding", image: "EncodedImages") -> None:
        """Start a chat.

        Args:
            pipe: the pipeline that answers.
            image: one encoded image.
        """
        self.pipe, self.image = pipe, image
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
        with ended_on_error(streamer):
            decoding = DecodingOptions(**options)
            generator = choose_generator(generator, seed)
            prompts = self.pipe.prompts
            asked = prompts.check_question(question)
            self.pipe.warn_unknown_words([asked], "questions")
            if self.turns:
                ids = [*self._ids, *prompts.next_turn(asked)]
            else:
                ids = prompts.understanding(self.image.rows[0].tolist(), asked)
            positions = self.pipe.model.max_positions
            check_positions(len(ids), decoding.max_new_tokens, positions, "image, dialogue so far and question")
            decoder, guesses = TextDecoder.from_options(
                self.image.model, prompts.vocabulary, [ids], decoding, generator, self._decoder
            )
            answer = self.pipe.text_output(decoder.generate(guesses, streamer))
        self._ids, self._decoder = [*ids, *answer.token_ids[0]], decoder
        self.turns.append(ChatTurn(question, answer.texts[0]))
        return answer
