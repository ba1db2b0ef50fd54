"""Turn the updates of requests into what a client gets: previews and images, parts of a text and the answer."""

from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import cast

from PIL.Image import Image

from showo_turbo.outputs import ImageOutput
from showo_turbo.serving.dialogues import ChatOutput
from showo_turbo.serving.engine import Update


@dataclass(frozen=True)
class DrawingEvent:
    """Hold previews, or finished images.

    Attributes:
        images: one for each image of the request.
        num_codes: codes of each image.
        forward_passes: forward passes so far.
        done: whether the images are finished.
    """

    images: list[Image]
    num_codes: int
    forward_passes: int
    done: bool


class DrawingReport:
    """Report images when they are finished, and previews after some of the forward passes."""

    def __init__(self, previews: Container[int] = ()) -> None:
        """Report previews after these numbers of forward passes."""
        self.previews = previews

    def __call__(self, update: Update) -> DrawingEvent | None:
        """Return the event of an update.

        Raises:
            Exception: the error of a request that has failed.
        """
        if not update.done and update.state.forward_passes not in self.previews:
            return None
        output: ImageOutput = update.output()
        images = cast(list[Image], output.images)  # the output type is "pil"
        return DrawingEvent(images, output.codes.shape[1], output.forward_passes, update.done)


def preview_passes(passes: int, previews: int) -> set[int]:
    """Return the numbers of forward passes after which previews are due: evenly spread, the last pass excluded."""
    return {round(passes * number / (previews + 1)) for number in range(1, previews + 1)} - {0, passes}


@dataclass(frozen=True)
class AnswerEvent:
    """Hold the next part of an answer.

    Attributes:
        delta: text that follows the parts before.
        output: the answer so far.
        finish_reason: "stop" or "length" with the last part, else None.
    """

    delta: str
    output: ChatOutput
    finish_reason: str | None

    @property
    def done(self) -> bool:
        """Whether this is the last part."""
        return self.finish_reason is not None


class AnswerReport:
    """Report an answer part by part, or as a whole.

    An answer ends before the first stop sequence. What may still change is held back: the start of a stop sequence, an
    incomplete UTF-8 character, and the last word if the tokenizer cleans up spaces.
    """

    def __init__(
        self, max_new_tokens: int, stop: Sequence[str] = (), streams: bool = False, cleans_up_spaces: bool = False
    ) -> None:
        """Report parts as they settle if `streams`."""
        self.max_new_tokens, self.stop = max_new_tokens, stop
        self.streams, self.cleans_up_spaces = streams, cleans_up_spaces
        self._sent = ""

    def __call__(self, update: Update) -> AnswerEvent | None:
        """Return the event of an update.

        Raises:
            Exception: the error of a request that has failed.
        """
        if not update.done and not self.streams and not self.stop:
            return None
        output: ChatOutput = update.output()
        text, reason = output.text, None
        ends = [position for stop in self.stop if (position := text.find(stop)) >= 0]
        if ends:
            text, reason = text[: min(ends)], "stop"
        elif update.done:
            reason = "length" if len(output.token_ids) == self.max_new_tokens else "stop"
        else:
            text = self._certain(text)
        if reason is None and (not self.streams or len(text) <= len(self._sent)):
            return None
        delta, self._sent = text[len(self._sent) :], text
        return AnswerEvent(delta, output, reason)

    def _certain(self, text: str) -> str:
        """Return the part of an unfinished text that later ids leave as it is."""
        text = text.rstrip("\N{REPLACEMENT CHARACTER}")
        if self.cleans_up_spaces:
            text = text[: max(text.rfind(" "), 0)]
        held = max(
            (
                length
                for stop in self.stop
                for length in range(1, min(len(stop), len(text) + 1))
                if text.endswith(stop[:length])
            ),
            default=0,
        )
        return text[: len(text) - held]
