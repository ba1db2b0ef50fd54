"""Checkpoints of a training on the disk, which survive a power cut, a full disk and a damaged file.

checkpoints/step-00000800/             complete: it has this name when all files are written and synced
    shard-00001-model-00001-of-00001.safetensors   tensors, see `checkpoint_io`
    values.json                        everything else
    sha256.json                        SHA-256 of the other files, verified when they are read
checkpoints/step-00000400/             the checkpoint before, in case the newest is damaged
checkpoints/step-00000600.damaged/     a damaged one, set aside when the next checkpoint is written
checkpoints/.step-00001200.0.partial/  is being written, or was when its run was killed
"""

import logging
import re
import shutil
from pathlib import Path
from typing import Any

from showo_turbo.errors import InputError
from showo_turbo.files import atomic_file, json_bytes, parse_json, read_json, read_text, sha256_of_files

MAX_CHECKPOINTS = 2
"""Number of intact checkpoints that stay on the disk."""

_NAME = re.compile(r"step-(\d{8,})")
_NAME_OF_EARLIER_VERSIONS = re.compile(r"step-\d{8,}\.pt")
_VALUES, _DIGESTS = "values.json", "sha256.json"
_MAX_VALUES_BYTES = 1 << 30

logger = logging.getLogger(__name__)


def partial_folder(folder: Path, step: int) -> Path:
    """Return where all processes write the checkpoint of a step until it is complete."""
    return folder / f".step-{step:08d}.0.partial"


def complete_checkpoint(partial: Path, values: dict[str, Any]) -> Path:
    """Add values and digests to the written tensors, and rename the folder; return it.

    The newest `MAX_CHECKPOINTS` intact checkpoints stay.

    Raises:
        OSError: if the disk is full or the like; all earlier checkpoints are then still there.
    """
    folder, name = partial.parent, partial.name.split(".")[1]
    path = folder / name
    _write_synced(partial / _VALUES, values)
    _write_synced(partial / _DIGESTS, {file.name: sha256_of_files(file) for file in sorted(partial.iterdir())})
    if path.exists():  # damaged: a run resumes after its newest intact checkpoint
        shutil.rmtree(path)
    partial.rename(path)
    intact = 1
    for other in _newest_first(folder):
        if other == path:
            continue
        if intact == MAX_CHECKPOINTS:
            shutil.rmtree(other)
        elif _damage(other) is None:
            intact += 1
        else:
            aside = other.with_name(f"{other.name}.damaged")
            shutil.rmtree(aside, ignore_errors=True)
            other.rename(aside)
    return path


def newest_step(folder: Path) -> int | None:
    """Return the step of the newest checkpoint by its name, or None if there is no checkpoint.

    Raises:
        InputError: if the checkpoints are of an earlier version.
    """
    newest = next(iter(_newest_first(folder)), None)
    return None if newest is None else _step(newest)


def find_newest(folder: Path) -> Path | None:
    """Return the newest intact checkpoint; warn about damaged ones. Return None if there is none at all.

    Raises:
        InputError: if there are checkpoints, and all of them are damaged or of an earlier version.
    """
    paths = _newest_first(folder)
    for path in paths:
        damage = _damage(path)
        if damage is None:
            return path
        logger.warning("checkpoint %s is skipped: %s", path, damage)
    if paths or any(folder.glob("step-*.damaged")):
        raise InputError(
            f"all checkpoints in {str(folder)!r} are damaged: restore one, choose another output, or remove the folder "
            "to start at step 0"
        )
    return None


def read_values(path: Path) -> dict[str, Any]:
    """Read the values of an intact checkpoint.

    Raises:
        InputError: if they are not those of a training.
    """
    try:
        values = parse_json(read_text(path / _VALUES, max_bytes=_MAX_VALUES_BYTES))
    except (OSError, ValueError) as error:
        raise refused(path) from error
    if not isinstance(values, dict):
        raise refused(path)
    return values


def refused(path: Path) -> InputError:
    """Return the error of a checkpoint whose content is not that of this training."""
    return InputError(
        f"checkpoint {str(path)!r} was refused: it is not one of this training; choose another output, or remove it to "
        "resume from the checkpoint before"
    )


def _write_synced(path: Path, values: dict[str, Any]) -> None:
    with atomic_file(path, fsync=True) as temporary:
        temporary.write_bytes(json_bytes(values))


def _damage(path: Path) -> str | None:
    """Return what is wrong with a checkpoint, or None if it is intact."""
    try:
        digests = read_json(path / _DIGESTS)
    except InputError:
        return f"{_DIGESTS} is missing or damaged"
    for file in sorted({*(one.name for one in path.iterdir()), *digests, _VALUES} - {_DIGESTS}):
        if file not in digests:
            return f"{_DIGESTS} lacks {file}"
        if Path(file).name != file or not (path / file).is_file():
            return f"{file} is missing"
        if sha256_of_files(path / file) != digests[file]:
            return f"the content of {file} does not match {_DIGESTS}"
    return None


def _newest_first(folder: Path) -> list[Path]:
    """Return the checkpoints of a folder; folders of other names, such as `step-abc`, are none.

    Raises:
        InputError: if the checkpoints are of an earlier version.
    """
    paths = [path for path in folder.glob("step-*") if _NAME.fullmatch(path.name) and path.is_dir()]
    earlier = [path for path in folder.glob("step-*.pt") if _NAME_OF_EARLIER_VERSIONS.fullmatch(path.name)]
    if earlier and not paths:
        raise InputError(
            f"checkpoint {str(max(earlier))!r} is of an earlier version of showo_turbo, which wrote one file: finish "
            "the run with that version, or choose another output"
        )
    return sorted(paths, key=_step, reverse=True)


def _step(path: Path) -> int:
    return int(path.name.removeprefix("step-"))
