"""What training reads: captions, dialogues and plain texts, and the error of a sample that cannot be used.

A sample is complete: its picture has been opened, so that an unreadable one is found out when it is fetched, or is
codes that were encoded before. Its `key` names it to a person: the file and the place in it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from PIL import Image
from torch import Tensor

from showo_turbo.errors import InputError

Picture = Image.Image | Tensor
"""A picture in RGB, or its codes, long (tokens,), without offset."""


@dataclass(frozen=True)
class CaptionSample:
    """A prompt for text to image. Its trajectory comes from the teacher, so it may have no picture.

    Attributes:
        key: names the sample in logs.
        text: the prompt.
        image: what it describes, if that is at hand.
    """

    key: str
    text: str
    image: Picture | None = None


@dataclass(frozen=True)
class Turn:
    """One question, without `<image>` or newlines, and its answer."""

    question: str
    answer: str


@dataclass(frozen=True)
class DialogueSample:
    """Questions about a picture, each asked after all before it were answered.

    Attributes:
        key: names the sample in logs.
        image: what is asked about.
        turns: at least one.
    """

    key: str
    image: Picture
    turns: tuple[Turn, ...]


@dataclass(frozen=True)
class TextSample:
    """A text for the language-modelling loss.

    Attributes:
        key: names the sample in logs.
        text: as it is in the file.
    """

    key: str
    text: str


Sample = CaptionSample | DialogueSample | TextSample


class BadSampleError(InputError):
    """A sample that cannot be used: an unreadable picture, an empty text, an over-long question, a malformed entry.

    Attributes:
        key: names the sample.
        reason: what is wrong with it, in one line.
    """

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(f"{key}: {reason}")
        self.key, self.reason = key, reason

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return type(self), (self.key, self.reason)  # exceptions are unpickled from `args`, which is the message alone


@contextmanager
def reading(key: str) -> Iterator[None]:
    """Make any input error of the block the fault of the sample that `key` names.

    Raises:
        BadSampleError: in place of an InputError.
    """
    try:
        yield
    except InputError as error:
        raise BadSampleError(key, str(error)) from error
