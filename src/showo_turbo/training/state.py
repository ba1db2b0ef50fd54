"""Training checkpoints that survive a power cut, a full disk and a damaged file.

checkpoints/step-00000800.pt           written atomically and synced to the disk
checkpoints/step-00000800.sha256       SHA-256 of its content, verified when it is read
checkpoints/step-00000400.pt           the checkpoint before, in case the newest is damaged
checkpoints/step-00000600.pt.damaged   a damaged one, set aside when the next checkpoint is written
"""

import logging
import re
from pathlib import Path
from typing import Any

import torch

from showo_turbo.errors import InputError
from showo_turbo.files import atomic_file, remove_partial_files, sha256_of_files

MAX_CHECKPOINTS = 2
"""Number of intact checkpoints that stay on the disk."""

_NAME = re.compile(r"step-(\d{8,})\.pt")

logger = logging.getLogger(__name__)


def write_checkpoint(folder: Path, step: int, state: dict[str, Any]) -> Path:
    """Write a state of tensors, numbers and strings; keep the newest `MAX_CHECKPOINTS` intact checkpoints only.

    Raises:
        OSError: if the disk is full or the like; all earlier checkpoints are then still there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"step-{step:08d}.pt"
    try:
        with atomic_file(path, fsync=True) as temporary:
            with temporary.open("wb") as file:
                torch.save(state, file)
            path.with_suffix(".sha256").write_text(sha256_of_files(temporary) + "\n")
    except RuntimeError as error:  # torch reports a full disk as RuntimeError
        raise OSError(str(error).splitlines()[0]) from error
    intact = 1
    for other in _newest_first(folder):
        if other == path:
            continue
        if intact == MAX_CHECKPOINTS:
            other.unlink()
            other.with_suffix(".sha256").unlink(missing_ok=True)
        elif _damage(other) is None:
            intact += 1
        else:
            other.rename(other.with_name(f"{other.name}.damaged"))
            other.with_suffix(".sha256").unlink(missing_ok=True)
    remove_partial_files(folder)
    return path


def newest_step(folder: Path) -> int | None:
    """Return the step of the newest checkpoint by its file name, or None if there is no checkpoint."""
    newest = next(iter(_newest_first(folder)), None)
    return None if newest is None else _step(newest)


def read_newest(folder: Path) -> dict[str, Any] | None:
    """Read the newest intact checkpoint to the CPU; warn about damaged ones. Return None if there is none at all.

    Raises:
        InputError: if there are checkpoints, and all of them are damaged, or the newest holds objects.
    """
    paths = _newest_first(folder)
    for path in paths:
        damage = _damage(path)
        if damage is None:
            return _load(path)
        logger.warning("checkpoint %s is skipped: %s", path, damage)
    if paths or any(folder.glob("step-*.pt.damaged")):
        raise InputError(
            f"all checkpoints in {str(folder)!r} are damaged: restore one with its .sha256, choose another "
            "output, or remove the folder to start at step 0"
        )
    return None


def _load(path: Path) -> dict[str, Any]:
    """Load a checkpoint by torch's restricted unpickler, which executes nothing.

    Raises:
        InputError: if it holds more than `write_checkpoint` writes.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler raises exceptions of any type, with advice on how to execute the file
        raise InputError(
            f"checkpoint {str(path)!r} was refused: it holds more than tensors, numbers and strings; choose another "
            "output, or remove it to resume from the checkpoint before"
        ) from error
    if not isinstance(state, dict):
        raise InputError(f"checkpoint {str(path)!r} holds {type(state).__name__}: expected the state of a training")
    return state


def _damage(path: Path) -> str | None:
    """Return what is wrong with a checkpoint, or None if it is intact."""
    digest = path.with_suffix(".sha256")
    if not digest.is_file():
        return f"{digest.name} is missing"
    if sha256_of_files(path).encode() != digest.read_bytes().strip():
        return f"its content does not match {digest.name}"
    return None


def _newest_first(folder: Path) -> list[Path]:
    """Return the checkpoints of a folder; files of other names, such as `step-abc.pt`, are none."""
    paths = [path for path in folder.glob("step-*.pt") if _NAME.fullmatch(path.name) and path.is_file()]
    return sorted(paths, key=_step, reverse=True)


def _step(path: Path) -> int:
    return int(path.stem.removeprefix("step-"))
