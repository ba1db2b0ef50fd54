"""LLaVA instruction files: `[{id, image, conversations: [{from: human, value}, {from: gpt, value}, ..]}]`.

Entries without an image (about 6 % of LLaVA's mixture is pure text) are dropped when the file is opened. They do not
count as bad samples.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from showo_turbo.data.records import JsonRecords
from showo_turbo.data.samples import DialogueSample, Turn, bad_sample_errors
from showo_turbo.data.source_files import existing_file, existing_folder
from showo_turbo.errors import InputError
from showo_turbo.processing.image_files import load_image
from showo_turbo.processing.prompts import MAX_TEXT_CHARACTERS, clean_question


class LlavaDialogues:
    """Read the dialogues of one file, each with its image.

    Attributes:
        num_dropped: number of entries without an image.
    """

    def __init__(self, path: str | Path, images: str | Path | None = None) -> None:
        """Index the entries that have an image.

        Args:
            path: JSON file.
            images: folder that the entries' `image` is relative to; the folder of the JSON file if left out.

        Raises:
            InputError: if file or folder is missing, or the file is not a list of objects.
        """
        self.path = existing_file(path)
        self.folder = self.path.parent if images is None else existing_folder(images)
        self.entries = JsonRecords.of_array(self.path)
        has_image = np.fromiter((entry is None or "image" in entry for entry in self.entries.each()), dtype=bool)
        self._with_image = np.flatnonzero(has_image)
        self.num_dropped = len(self.entries) - len(self._with_image)

    def __len__(self) -> int:
        return len(self._with_image)

    def __getitem__(self, index: int) -> DialogueSample:
        number = int(self._with_image[index])
        key = f"{self.path.name}: [{number}]"
        with bad_sample_errors(key):
            entry = self.entries[number]
            turns = read_turns(entry.get("conversations"))
            if not isinstance(entry["image"], str):
                raise InputError(f"image is {entry['image']!r}, not the name of a file")
            return DialogueSample(key, load_image(self.folder / entry["image"]), turns)


def read_turns(messages: object) -> tuple[Turn, ...]:
    """Return the turns of a conversation.

    Raises:
        InputError: if the messages do not alternate, a question or an answer is empty or too long.
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
    if len(answer) > MAX_TEXT_CHARACTERS:
        raise InputError(f"an answer has {len(answer):,} characters, at most {MAX_TEXT_CHARACTERS:,}")
    return Turn(clean_question(question), answer.strip())
