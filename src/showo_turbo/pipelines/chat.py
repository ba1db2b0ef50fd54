"""A dialogue about one image: every question is read with all that was said before.

[mmu] [soi] codes [eoi] [sot] USER: .. ASSISTANT: answer [eot] USER: .. ASSISTANT: answer [eot] USER: ..
`----------------------- keys and values are kept ------------------------------------------'
"""

from dataclasses import dataclass
from typing import TypedDict, Unpack

import torch
from torch import Tensor

from showo_turbo.generation.text_decoder import TextDecoder
from showo_turbo.models.showo import Showo
from showo_turbo.outputs import TextOutput
from showo_turbo.pipelines import image_to_text as answering
from showo_turbo.pipelines.image_to_text import DecodingOptions, Streamer
from showo_turbo.pipelines.parts import one_source
from showo_turbo.processing.prompts import PromptBuilder


class AnsweringOptions(TypedDict, total=False):
    """Options of how an answer is decoded; `DecodingOptions` says what they mean."""

    max_new_tokens: int
    decoding: str
    block_length: int
    do_sample: bool
    temperature: float
    top_k: int | None
    sliding_window: bool
    drafts: bool


@dataclass(frozen=True)
class Turn:
    """A question and its answer."""

    question: str
    answer: str


class Dialogue:
    """Questions about one image, each read with the turns before it.

    Example:
        >>> dialogue = pipe.chat("image.png")
        >>> dialogue.ask("How many stars are there?").texts[0]
        'two'
        >>> dialogue.ask("What color are they?").texts[0]
        'red'

    Attributes:
        turns: what was said so far.
    """

    def __init__(self, model: Showo, prompts: PromptBuilder, codes: Tensor) -> None:
        """Start a dialogue.

        Args:
            model: the transformer.
            prompts: the text side.
            codes: of the image, long (tokens,).
        """
        self.model, self.prompts, self.codes = model, prompts, codes
        self.turns: list[Turn] = []
        self._said: list[int] = []
        self._decoder: TextDecoder | None = None

    def ask(
        self,
        question: str,
        *,
        generator: torch.Generator | None = None,
        seed: int | None = None,
        streamer: Streamer | None = None,
        **options: Unpack[AnsweringOptions],
    ) -> TextOutput:
        """Ask the next question.

        Args:
            question: what to ask.
            generator, seed, streamer: as for `ShowoPipeline.image_to_text`.
            **options: as for `image_to_text`.

        Raises:
            InputError: when the question is empty or too long, the dialogue leaves no room for an answer, or an option
                is out of its range; before any pass, and the dialogue stays as it was.
        """
        decoding = DecodingOptions(**options)
        source = one_source(generator, seed)
        ids = self._with_question(self.prompts.check_question(question))
        answering.check_room(self.model, len(ids), decoding, "image, dialogue so far and question")
        vocabulary = self.prompts.vocabulary
        decoder, guesses = answering.prepare(self.model, vocabulary, [ids], decoding, source, self._decoder)
        answer = answering.unpack(answering.decode(decoder, guesses, streamer), self.prompts)
        self._said, self._decoder = [*ids, *answer.token_ids[0]], decoder
        self.turns.append(Turn(question, answer.texts[0]))
        return answer

    def _with_question(self, question: str) -> list[int]:
        """All that was said and a question."""
        if not self.turns:
            return self.prompts.understanding(self.codes.tolist(), question)
        return [*self._said, *self.prompts.next_turn(question)]
