"""A dialogue about one image: every question is read with all that was said before.

[mmu] [soi] codes [eoi] [sot] USER: .. ASSISTANT: answer [eot] USER: .. ASSISTANT: answer [eot] USER: ..
`----------------------- keys and values are kept ------------------------------------------'
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from showo_turbo import image_to_text as answering
from showo_turbo.generation.text import TextDecoder
from showo_turbo.image_to_text import DecodingOptions, Streamer
from showo_turbo.models.showo import Showo
from showo_turbo.outputs import TextOutput
from showo_turbo.processing.prompts import PromptBuilder
from showo_turbo.tasks.parts import seeded


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
        max_new_tokens: int = 64,
        decoding: str = "jacobi",
        block_length: int = 16,
        do_sample: bool = False,
        temperature: float = 1.0,
        top_k: int | None = None,
        sliding_window: bool = True,
        drafts: bool = True,
        generator: torch.Generator | None = None,
        seed: int | None = None,
        streamer: Streamer | None = None,
    ) -> TextOutput:
        """Ask the next question; options as for `ShowoPipeline.image_to_text`.

        Raises:
            InputError: when the question is empty or too long, the dialogue leaves no room for an answer, or an option
                is out of its range; before any pass, and the dialogue stays as it was.
        """
        options = DecodingOptions(
            max_new_tokens=max_new_tokens,
            decoding=decoding,
            block_length=block_length,
            do_sample=do_sample,
            temperature=temperature,
            top_k=top_k,
            sliding_window=sliding_window,
            drafts=drafts,
        )
        ids = self._with_question(answering.check_question(self.prompts, question))
        answering.check_room(self.model, len(ids), options, "image, dialogue so far and question")
        source = generator if generator is not None else seeded(seed)
        vocabulary = self.prompts.vocabulary
        decoder, guesses = answering.prepare(self.model, vocabulary, [ids], options, source, self._decoder)
        answer = answering.unpack(answering.decode(decoder, guesses, streamer), self.prompts)
        self._said, self._decoder = [*ids, *answer.token_ids[0]], decoder
        self.turns.append(Turn(question, answer.texts[0]))
        return answer

    def _with_question(self, question: str) -> list[int]:
        """All that was said and a question."""
        if not self.turns:
            return self.prompts.understanding(self.codes.tolist(), question)
        return [*self._said, *self.prompts.next_turn(question)]
