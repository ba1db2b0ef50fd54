"""Checkpoints of a training that survive a power cut, a full disk and a damaged file.

checkpoints/step-00000800.pt        written under a passing name, forced to the disk, then renamed: whole or absent
checkpoints/step-00000800.sha256    what its content must be; the file is read only if it is
checkpoints/step-00000400.pt        the one before stays, in case the newest turns out to be damaged
"""

import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from showo_turbo.files import sha256_of_files

KEPT = 2
"""Checkpoints that stay."""

logger = logging.getLogger(__name__)


def write_checkpoint(folder: Path, step: int, state: dict[str, Any]) -> Path:
    """Write a state of tensors, numbers and texts; all but the newest `KEPT` checkpoints are removed after it.

    Raises:
        OSError: when the disk is full or the like; then every checkpoint that was there still is.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"step-{step:08d}.pt"
    partial, digest = path.with_suffix(".partial"), path.with_suffix(".sha256")
    try:
        with partial.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        digest.write_text(sha256_of_files(partial) + "\n")
        os.replace(partial, path)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise error if isinstance(error, OSError) else OSError(str(error).splitlines()[0]) from error
    for old in _newest_first(folder)[KEPT:]:
        old.unlink()
        old.with_suffix(".sha256").unlink(missing_ok=True)
    return path


def newest_step(folder: Path) -> int | None:
    """The step of the newest checkpoint, by its name; None if there is none."""
    newest = next(iter(_newest_first(folder)), None)
    return None if newest is None else int(newest.stem.removeprefix("step-"))


def read_newest(folder: Path) -> dict[str, Any] | None:
    """The state of the newest checkpoint that is whole, on the CPU, or None; damaged ones are skipped with a word."""
    for path in _newest_first(folder):
        if problem := _problem(path):
            logger.warning("checkpoint %s is skipped: %s", path, problem)
            continue
        return torch.load(path, map_location="cpu", weights_only=True)
    return None


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*.pt"), reverse=True)


def _problem(path: Path) -> str | None:
    digest = path.with_suffix(".sha256")
    if not digest.exists():
        return f"{digest.name} is missing"
    return (
        None if sha256_of_files(path) == digest.read_text().strip() else f"its content is not what {digest.name} says"
    )
