"""Samples of training data (captions, dialogues, plain texts and editing pairs) and the error of a bad sample.

A sample is complete: its image is decoded when the sample is read, so that an unreadable image is found then, or is
given as codes. Its `key` locates it for a human reader, by file and position in the file.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from PIL import Image
from torch import Tensor

from showo_turbo.errors import InputError

ImageOrCodes = Image.Image | Tensor
"""An image in RGB, or its codes, long (num_tokens,), without the vocabulary's offset."""


@dataclass(frozen=True)
class CaptionSample:
    """Hold a prompt for text to image. The image is optional, since trajectories come from the teacher.

    Attributes:
        key: locates the sample in logs.
        text: the prompt.
        image: the image that the prompt describes, if the source has one.
    """

    key: str
    text: str
    image: ImageOrCodes | None = None


@dataclass(frozen=True)
class Turn:
    """Hold one question, without `<image>` or newlines, and its answer."""

    question: str
    answer: str


@dataclass(frozen=True)
class DialogueSample:
    """Hold a dialogue about an image.

    Attributes:
        key: locates the sample in logs.
        image: the image that the questions are about.
        turns: questions with answers in order, at least one.
    """

    key: str
    image: ImageOrCodes
    turns: tuple[Turn, ...]


@dataclass(frozen=True)
class TextSample:
    """Hold a text for the language-modelling loss.

    Attributes:
        key: locates the sample in logs.
        text: the text, unchanged from the file.
    """

    key: str
    text: str


@dataclass(frozen=True)
class EditSample:
    """Hold an image, an instruction, and the image that the instruction leads to.

    Attributes:
        key: locates the sample in logs.
        source: the image before.
        instruction: what to change.
        target: the image after.
    """

    key: str
    source: ImageOrCodes
    instruction: str
    target: ImageOrCodes


Sample = CaptionSample | DialogueSample | TextSample | EditSample


class BadSampleError(InputError):
    """Raised for a sample that cannot be used: unreadable image, empty text, over-long question, malformed entry.

    Attributes:
        key: locates the sample.
        reason: the error in one line.
    """

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(f"{key}: {reason}")
        self.key, self.reason = key, reason

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return type(self), (self.key, self.reason)  # exceptions are unpickled from `args`, which is the message alone


@contextmanager
def bad_sample_errors(key: str) -> Iterator[None]:
    """Convert each InputError of the block to a BadSampleError of the sample with this key.

    Raises:
        BadSampleError: if the block raises an InputError.
    """
    try:
        yield
    except InputError as error:
        raise BadSampleError(key, str(error)) from error
