"""Define the error for invalid input."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_CHARACTERS = 200


class InputError(ValueError):
    """Report invalid input: the message names the input, what is wrong with it and what to choose.

    Raised before any expensive work. The command line prints the message on one line and exits with status 2.
    """


def one_line(error: object) -> str:
    """Return the message of an error on one line of printable characters, without its end if it is long."""
    text = "".join(one if one.isprintable() else " " for one in str(error)[: 4 * _CHARACTERS])
    text = " ".join(text.split()).rstrip(".") or type(error).__name__
    return text if len(text) <= _CHARACTERS else f"{text[:_CHARACTERS]}..."


@contextmanager
def errors_in(file: Path) -> Iterator[None]:
    """Name a file in errors about the values that are read from it.

    Raises:
        InputError: if the block raises it.
    """
    try:
        yield
    except InputError as error:
        raise InputError(f"{str(file)!r}: {error}") from error
