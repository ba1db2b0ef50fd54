"""Files that are whole or not there, and the JSON files of a checkpoint."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from showo_turbo.errors import InputError


def read_json(path: Path) -> dict:
    """The object in a JSON file.

    Raises:
        InputError: when the file cannot be read or holds no object.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"{str(path)!r} cannot be read ({reason}): expected a JSON file") from error
    if not isinstance(values, dict):
        raise InputError(f"{str(path)!r} holds a {type(values).__name__}; expected a JSON object")
    return values


def write_json(path: Path, values: dict) -> None:
    """Write an object for people to read; what was there before stays until all of it is written."""
    with whole_file(path) as partial:
        partial.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A passing name to write a file by, which takes its own when all is well and is gone otherwise.

    Processes that write the same file do not meet: the last one's stays.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
