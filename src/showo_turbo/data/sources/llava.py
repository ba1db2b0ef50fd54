"""LLaVA's instruction files: `[{id, image, conversations: [{from: human, value}, {from: gpt, value}, ..]}]`.

Entries without a picture (LLaVA mixes in some 6 % of pure text) are left out when the file is opened: they are no bad
samples, but nothing about a picture can be learned from them.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from showo_turbo.data.records import JsonRecords
from showo_turbo.data.samples import DialogueSample, Turn, reading
from showo_turbo.data.source_files import one_file, one_folder
from showo_turbo.errors import InputError
from showo_turbo.processing.images import load_image
from showo_turbo.processing.prompts import clean_question


class LlavaDialogues:
    """Dialogues of one file, each with its picture.

    Attributes:
        left_out: number of entries without a picture.
    """

    def __init__(self, path: str | Path, images: str | Path | None = None) -> None:
        """Find the entries that have a picture.

        Args:
            path: JSON file.
            images: folder that the entries' `image` starts from; the file's own folder if left out.

        Raises:
            InputError: when file or folder is missing, or the file is not a list of objects.
        """
        self.path = one_file(path)
        self.folder = self.path.parent if images is None else one_folder(images)
        self.entries = JsonRecords.of_array(self.path)
        pictured = np.fromiter((entry is None or "image" in entry for entry in self.entries.each()), dtype=bool)
        self._pictured = np.flatnonzero(pictured)
        self.left_out = len(self.entries) - len(self._pictured)

    def __len__(self) -> int:
        return len(self._pictured)

    def __getitem__(self, index: int) -> DialogueSample:
        number = int(self._pictured[index])
        key = f"{self.path.name}: [{number}]"
        with reading(key):
            entry = self.entries[number]
            turns = _turns(entry.get("conversations"))
            if not isinstance(entry["image"], str):
                raise InputError(f"image is {entry['image']!r}, not the name of a file")
            return DialogueSample(key, load_image(self.folder / entry["image"]), turns)


def _turns(messages: object) -> tuple[Turn, ...]:
    """Pair questions with answers.

    Raises:
        InputError: when the messages are not that, or a question or an answer is empty or a question too long.
    """
    if not isinstance(messages, list) or not messages:
        raise InputError("conversations is empty or missing")
    values = [_value(message, ("human", "gpt")[number % 2]) for number, message in enumerate(messages)]
    if len(values) % 2:
        raise InputError("the last question has no answer")
    return tuple(_turn(values[number : number + 2]) for number in range(0, len(values), 2))


def _value(message: object, speaker: str) -> str:
    if not isinstance(message, dict) or message.get("from") != speaker or not isinstance(message.get("value"), str):
        raise InputError("conversations do not alternate between human and gpt, human first")
    return message["value"]


def _turn(pair: Sequence[str]) -> Turn:
    question, answer = pair
    if not answer.strip():
        raise InputError("an answer is empty")
    return Turn(clean_question(question), answer.strip())
