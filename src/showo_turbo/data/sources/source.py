"""What a stream asks of a source, and what captions have in common in all of them."""

from typing import Protocol

from showo_turbo.data.samples import Sample
from showo_turbo.errors import InputError


class Source(Protocol):
    """Samples by number."""

    def __len__(self) -> int:
        """How many samples there are, bad ones included."""

    def __getitem__(self, index: int) -> Sample:
        """Read one sample whole, the same at any time.

        Raises:
            BadSampleError: when it cannot be used.
        """


def caption_of(record: dict, *keys: str) -> str:
    """The caption under the first of the keys that a record has, on one line.

    Raises:
        InputError: when it has none, or an empty one.
    """
    text = next((record[key] for key in keys if key in record), None)
    if not isinstance(text, str) or not text.strip():
        raise InputError(f"caption is {'empty' if isinstance(text, str) else 'missing'}")
    return " ".join(text.split())
