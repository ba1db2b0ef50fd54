"""Training checkpoints that survive a power cut, a full disk and a damaged file.

checkpoints/step-00000800.pt        written atomically and synced to the disk
checkpoints/step-00000800.sha256    SHA-256 of its content, verified when it is read
checkpoints/step-00000400.pt        the checkpoint before, in case the newest is damaged
"""

import logging
from pathlib import Path
from typing import Any

import torch

from showo_turbo.files import atomic_file, sha256_of_files

MAX_CHECKPOINTS = 2
"""Number of checkpoints that stay on the disk."""

logger = logging.getLogger(__name__)


def write_checkpoint(folder: Path, step: int, state: dict[str, Any]) -> Path:
    """Write a state of tensors, numbers and strings, then remove all but the newest `MAX_CHECKPOINTS` checkpoints.

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
    for old in _newest_first(folder)[MAX_CHECKPOINTS:]:
        old.unlink()
        old.with_suffix(".sha256").unlink(missing_ok=True)
    for partial in folder.glob(".*.partial"):  # left by a killed process
        partial.unlink(missing_ok=True)
    return path


def newest_step(folder: Path) -> int | None:
    """Return the step of the newest checkpoint by its file name, or None if there is no checkpoint."""
    newest = next(iter(_newest_first(folder)), None)
    return None if newest is None else int(newest.stem.removeprefix("step-"))


def read_newest(folder: Path) -> dict[str, Any] | None:
    """Read the newest intact checkpoint to the CPU; warn about damaged ones. Return None if there is none."""
    for path in _newest_first(folder):
        digest = path.with_suffix(".sha256")
        if not digest.exists():
            logger.warning("checkpoint %s is skipped: %s is missing", path, digest.name)
        elif sha256_of_files(path) != digest.read_text().strip():
            logger.warning("checkpoint %s is skipped: its content does not match %s", path, digest.name)
        else:
            return torch.load(path, map_location="cpu", weights_only=True)
    return None


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*.pt"), reverse=True)
