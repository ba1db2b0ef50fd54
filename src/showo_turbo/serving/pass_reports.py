"""Report every forward pass of a request, as the page shows it: what has settled, what is guessed, and the time so far.

Decisions:
- An image is decoded after each pass. The time of these previews is left out of a request's seconds.
- Codes are 0 (masked), 1 (guessed) or 2 (settled), one digit each, so that a pass is small.
"""

import time
from dataclasses import dataclass
from typing import cast

from PIL.Image import Image

from showo_turbo.generation.text_decoder import visible_ids
from showo_turbo.outputs import ImageOutput
from showo_turbo.processing.prompts import PromptBuilder
from showo_turbo.serving.dialogues import ChatOutput
from showo_turbo.serving.engine import Update


@dataclass(frozen=True)
class DrawingPass:
    """Hold the images after a forward pass.

    Attributes:
        images: one for each image of the request, as they would be if the guesses were final.
        levels: a digit for each code, of each image.
        codes: codebook indices, of each image.
        grid: rows and columns of the codes.
        forward_passes: forward passes so far.
        time: time of the pass, of `time.monotonic`, less the time of earlier previews.
        done: whether the images are finished.
    """

    images: list[Image]
    levels: list[str]
    codes: list[list[int]]
    grid: tuple[int, int]
    forward_passes: int
    time: float
    done: bool


class DrawingPassReport:
    """Report the images of a request after each forward pass."""

    def __init__(self, mask_id: int) -> None:
        """Start before the first pass; `mask_id` is the token of a code that is not guessed yet."""
        self.mask_id = mask_id
        self._previews = 0.0

    def __call__(self, update: Update) -> DrawingPass:
        """Return the event of an update.

        Raises:
            Exception: the error of a request that has failed.
        """
        begin = time.monotonic()
        output: ImageOutput = update.output()
        end = time.monotonic()
        state = update.state
        guessed = (state.ids != self.mask_id) | state.settled
        levels = ["".join(map(str, row)) for row in (guessed.int() + state.settled.int()).tolist()]
        passed = (end if update.done else begin) - self._previews
        self._previews += end - begin
        images = cast(list[Image], output.images)  # the output type is "pil"
        codes, passes = output.codes.tolist(), output.forward_passes
        return DrawingPass(images, levels, codes, output.grid, passes, passed, update.done)


@dataclass(frozen=True)
class AnswerPass:
    """Hold an answer after a forward pass.

    Attributes:
        tokens: texts of the settled tokens, and of the guesses that follow them.
        num_settled: number of tokens that are settled, with the end of text.
        ended: whether the end of text is settled.
        forward_passes: forward passes so far.
        time: time of the pass, of `time.monotonic`.
        output: the answer, after the last pass.
    """

    tokens: list[str]
    num_settled: int
    ended: bool
    forward_passes: int
    time: float
    output: ChatOutput | None

    @property
    def done(self) -> bool:
        """Whether this is the last pass."""
        return self.output is not None


class AnswerPassReport:
    """Report an answer after each forward pass."""

    def __init__(self, prompts: PromptBuilder, num_guesses: int) -> None:
        """Report up to `num_guesses` guesses behind the settled tokens; `prompts` decodes them."""
        self.prompts, self.num_guesses = prompts, num_guesses

    def __call__(self, update: Update) -> AnswerPass:
        """Return the event of an update.

        Raises:
            Exception: the error of a request that has failed.
        """
        passed, state, end = time.monotonic(), update.state, self.prompts.vocabulary.end_of_text_id
        if update.error is not None:
            raise update.error
        shown, num_settled, ended = visible_ids(state, 0, end, self.num_guesses)
        output = update.output() if update.done else None
        texts = [self.prompts.decode([token]) for token in shown]
        return AnswerPass(texts, num_settled, ended, state.forward_passes, passed, output)
