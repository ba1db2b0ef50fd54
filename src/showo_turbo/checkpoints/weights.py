"""Weight files: reading nothing but tensors, and fitting them into a module.

A `.bin` file is a pickle, which can run code when it is read. It is only ever opened by torch's restricted reader,
which refuses anything but tensors.
"""

import pickle
import warnings
import zipfile
from collections.abc import Iterable
from hashlib import file_digest
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from showo_turbo.checkpoints.names import WEIGHT_FILES
from showo_turbo.errors import InputError

_NAMES_IN_ERRORS = 3


def find_weights(folder: Path) -> Path:
    """The weight file of a folder.

    Raises:
        InputError: when there is none.
    """
    found = [folder / name for name in WEIGHT_FILES if (folder / name).is_file()]
    if not found:
        raise InputError(f"folder {str(folder)!r} holds no weights: expected one of {', '.join(WEIGHT_FILES)} in it")
    return found[0]


def sha256(file: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with file.open("rb") as opened:
        return file_digest(opened, "sha256").hexdigest()


def read_weights(file: Path) -> dict[str, Tensor]:
    """Tensors of a weight file by name, on the CPU.

    Raises:
        InputError: when the file is truncated, is no weight file, or holds anything besides tensors.
    """
    state = _read_pickle(file) if file.suffix == ".bin" else _read_safetensors(file)
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise InputError(f"weight file {str(file)!r} is not a flat table of tensors: save a model's state_dict()")
    return state


def _read_safetensors(file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except (SafetensorError, OSError) as error:
        raise InputError(f"weight file {str(file)!r} is truncated or damaged ({error}): fetch it again") from error


def _read_pickle(file: Path) -> object:
    whole_archive = zipfile.is_zipfile(file)
    with file.open("rb") as opened:
        begins_archive = opened.read(2) == b"PK"
    if file.stat().st_size == 0 or (begins_archive and not whole_archive):
        raise InputError(f"weight file {str(file)!r} is truncated: fetch it again")
    try:
        with warnings.catch_warnings(action="ignore"):
            return torch.load(file, map_location="cpu", weights_only=True, mmap=whole_archive)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"weight file {str(file)!r} was refused: it holds more than tensors ({_reason(error)}), and reading that "
            f"could run code hidden in it; use a safetensors file"
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError) as error:
        raise InputError(f"weight file {str(file)!r} is damaged ({_reason(error)}): fetch it again") from error


def _reason(error: Exception) -> str:
    """The telling line of torch's long messages."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if line.startswith(("Trying to", "Unsupported"))]
    return next(iter([*telling, *lines]), type(error).__name__).rstrip(".")


def fit_weights(module: nn.Module, state: dict[str, Tensor], source: Path) -> None:
    """Put tensors in place of a module's own, cast to the module's dtypes; the module may be on the meta device.

    Raises:
        InputError: when keys are missing, unexpected, or of another shape.
    """
    expected = module.state_dict()
    problems = [
        *_listed("missing", (key for key in expected if key not in state)),
        *_listed("unexpected", (key for key in state if key not in expected)),
        *_listed("of another shape", _other_shapes(expected, state)),
    ]
    if problems:
        raise InputError(f"weight file {str(source)!r} does not fit the config: {'; '.join(problems)}")
    module.load_state_dict({key: value.to(expected[key].dtype) for key, value in state.items()}, assign=True)


def _other_shapes(expected: dict[str, Tensor], state: dict[str, Tensor]) -> Iterable[str]:
    for key in expected.keys() & state.keys():
        found, wanted = tuple(state[key].shape), tuple(expected[key].shape)
        if found != wanted:
            yield f"{key} is {found} where the config says {wanted}"


def _listed(problem: str, names: Iterable[str]) -> list[str]:
    names = sorted(names)
    if not names:
        return []
    more = f" and {len(names) - _NAMES_IN_ERRORS} more" if len(names) > _NAMES_IN_ERRORS else ""
    return [f"{problem}: {', '.join(names[:_NAMES_IN_ERRORS])}{more}"]
