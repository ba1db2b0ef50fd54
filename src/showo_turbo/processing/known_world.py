"""Description of the texts that a model of a small world was trained on: the file `world.json` of its checkpoint.

Such a model draws and answers something for any text. The description tells the words that it has never seen.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from showo_turbo.errors import InputError
from showo_turbo.files import read_json

WORLD_FILE = "world.json"
_PUNCTUATION = re.escape(".,:;!?'\"`´‘’“”„«»()-–—…")
WORD = re.compile(rf"[^\W_]+(?:[-'][^\W_]+)*|(?:[^\w\s{_PUNCTUATION}]|_)+")
_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u2060-\u2064\ufeff]")
_SHOWN_WORDS = 5


class UnknownWordsWarning(UserWarning):
    """Warn that a text has words that the model was never trained on."""


def words_of(text: str) -> list[str]:
    """Return the words of a text in lower case, and its runs of symbols such as emoji; punctuation is left out."""
    return WORD.findall(_INVISIBLE.sub("", unicodedata.normalize("NFKC", text)).lower())


@dataclass(frozen=True)
class KnownWorld:
    """Describe what a model was trained on.

    Attributes:
        name: name of the built-in world whose scenes evaluate the model.
        limits: what its images show, as a phrase such as "one to four colored shapes".
        words: all words of its texts, in lower case.
        prompts: examples of prompts.
        questions: examples of questions.
    """

    name: str
    limits: str
    words: frozenset[str]
    prompts: tuple[str, ...]
    questions: tuple[str, ...]

    @classmethod
    def from_file(cls, path: Path) -> "KnownWorld":
        """Read a `world.json`.

        Raises:
            InputError: if the file cannot be read, or a field is missing, unknown or of another type.
        """
        values: dict[str, Any] = read_json(path)
        texts, lists = {"name", "limits"}, {"words", "prompts", "questions"}
        if set(values) != texts | lists:
            raise InputError(f"{str(path)!r} has fields {sorted(values)}: expected {sorted(texts | lists)}")
        for name in sorted(texts):
            if not isinstance(values[name], str):
                raise InputError(f"{name} in {str(path)!r} is {values[name]!r}: expected a text")
        for name in sorted(lists):
            if not isinstance(values[name], list) or not all(isinstance(one, str) for one in values[name]):
                raise InputError(f"{name} in {str(path)!r} must be a list of texts")
        return cls(
            values["name"],
            values["limits"],
            frozenset(values["words"]),
            tuple(values["prompts"]),
            tuple(values["questions"]),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the content of the file."""
        return asdict(self) | {"words": sorted(self.words)}

    def unknown_words(self, texts: Sequence[str]) -> list[str]:
        """Return the words of texts that are not in the world, in order of appearance, each once.

        A text without words counts as one.
        """
        words = [word for text in texts for word in words_of(text) or [text.strip()]]
        return [word for word in dict.fromkeys(words) if word not in self.words]

    def note(self, texts: Sequence[str], kind: Literal["prompts", "questions"]) -> str | None:
        """Return a line that names the unknown words of texts and three examples; None if all words are known."""
        unknown = self.unknown_words(texts)
        if not unknown:
            return None
        shown = ", ".join(repr(word[:30]) for word in unknown[:_SHOWN_WORDS])
        more = f" and {len(unknown) - _SHOWN_WORDS} more" if len(unknown) > _SHOWN_WORDS else ""
        tried = ", ".join(f'"{example}"' for example in getattr(self, kind)[:3])
        return f"the model was trained on {self.limits}, and never saw {shown}{more}: try {tried}"
