"""What a folder's files are of, kept beside them, so that nothing goes on there as something else."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from showo_turbo.errors import InputError
from showo_turbo.files import read_json, write_json

logger = logging.getLogger(__name__)


def claimed(path: Path) -> dict[str, Any]:
    """What a folder is of so far, by the file in it that says so; empty if it is of nothing.

    Raises:
        InputError: when the file cannot be read.
    """
    return read_json(path) if path.exists() else {}


def claim(path: Path, setting: dict[str, Any], what: str, made: bool) -> None:
    """Write down what a folder is of, or see that it is of just that.

    Processes that share the folder may all do so.

    Args:
        path: the file that says so; its folder is made if there is none.
        setting: all that what lies in the folder follows from, as JSON has it; tables may be nested.
        what: names what lies there, for the error.
        made: whether there is any of it yet; if not, the folder may become one of something else.

    Raises:
        InputError: when it is of something else; names the key, what it was and what it is now.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    now = json.loads(json.dumps(setting))
    if made and not path.exists():
        logger.warning("%s lacks %s: %s in it is taken to be of the settings given now", path.parent, path.name, what)
    if not made or not path.exists():
        write_json(path, now)
    for key, was, new in _differences(claimed(path), now):
        raise InputError(
            f"{what} in {str(path.parent)!r} is of another {key} ({was}, now {new}): choose another folder, or remove "
            "this one"
        )


def _differences(was: dict[str, Any], now: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    for key in dict.fromkeys([*now, *was]):
        one, other = was.get(key), now.get(key)
        if isinstance(one, dict) and isinstance(other, dict):
            yield from _differences(one, other, f"{prefix}{key}.")
        elif one != other:
            yield f"{prefix}{key}", one, other
