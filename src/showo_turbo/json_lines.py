"""Logs of JSON lines."""

import json
import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)


def append_line(path: Path, values: dict[str, Any]) -> None:
    """Write a line, whole or not at all: a log that cannot be written is reported, and what it tells of goes on."""
    size = path.stat().st_size if path.exists() else 0
    try:
        with path.open("a") as file:
            file.write(json.dumps(values) + "\n")
    except OSError as error:
        with suppress(OSError):
            os.truncate(path, size)
        logger.warning("a line of %s could not be written (%s)", path, error)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a log, if there is one; lines that cannot be read are left out."""
    lines = path.read_bytes().splitlines() if path.exists() else []
    return [values for line in lines if (values := _parse(line)) is not None]


def drop_lines_after(path: Path, step: int) -> None:
    """Cut off the lines of later steps, and a last line that was not written to its end."""
    if not path.exists():
        return
    size = 0
    for line in path.read_bytes().splitlines(keepends=True):
        values = _parse(line)
        if not line.endswith(b"\n") or (values is not None and values["step"] > step):
            break
        size += len(line)
    os.truncate(path, size)


def _parse(line: bytes) -> dict[str, Any] | None:
    """What a line says of a step; None if it cannot be read."""
    try:
        values = json.loads(line)
    except ValueError:
        return None
    return values if isinstance(values, dict) and isinstance(values.get("step"), int) else None
