"""The interface of a source, and the caption format that sources share."""

from typing import Protocol, TypeVar

from showo_turbo.data.samples import Sample
from showo_turbo.errors import InputError
from showo_turbo.processing.prompts import plain_line_ends

S = TypeVar("S", bound=Sample, covariant=True)


class Source(Protocol[S]):
    """Give samples by index."""

    def __len__(self) -> int:
        """Return the number of samples, including bad ones."""

    def __getitem__(self, index: int) -> S:
        """Read one sample. The same index always gives the same sample.

        Raises:
            BadSampleError: if the sample cannot be used.
        """


def read_caption(record: dict, *keys: str) -> str:
    """Return the caption under the first of the keys that a record has, on one line.

    Raises:
        InputError: if the caption is missing or empty.
    """
    text = next((record[key] for key in keys if key in record), None)
    if not isinstance(text, str) or not text.strip():
        raise InputError(f"{keys[0]} is {'empty' if isinstance(text, str) else 'missing'}")
    return " ".join(plain_line_ends(text).split())
