"""Read and write one weight file: the shapes of its tensors, and the tensors one at a time.

A `.bin` file is a pickle, which can run code when it is read. It is only opened by torch's restricted unpickler, which
refuses anything but tensors.

Decisions:
- `describe` reads no tensor data, so a large file that does not fit is refused at once.
- `stream` holds one tensor of the file at a time. A `.bin` file is memory-mapped, and pages that were read stay
  resident until the map is closed; so the file is mapped again after every `_BYTES_PER_MAP`. (Files in torch's format
  from before 2020 cannot be mapped and are read whole.) Checksums are compared before the first tensor is returned.
"""

import pickle
import re
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from showo_turbo.checkpoints.bin_archives import check_checksums, check_former_layout, check_layout
from showo_turbo.checkpoints.names import MAX_HEADER_BYTES, MAX_TENSORS
from showo_turbo.errors import InputError, one_line
from showo_turbo.files import atomic_file, check_plain_file
from showo_turbo.validation import shown

_BYTES_PER_MAP = 2**27

_MAX_REPETITION = 2
"""Bytes of all tensors of a `.bin` file, as a multiple of its size: tied weights share theirs."""

_UNSUPPORTED = re.compile(r"GLOBAL (\S+)")
_ESCAPE_CODES = re.compile(r"\x1b\[[0-9;]*m")


def describe(file: Path) -> dict[str, Tensor]:
    """Return shapes and dtypes of a file's tensors, as tensors on the meta device by name.

    Raises:
        InputError: if the file is truncated, is not a weight file, or holds anything besides tensors.
    """
    try:
        check_plain_file(file)
    except OSError as error:
        raise InputError(f"weight file {str(file)!r} cannot be read ({error.strerror})") from error
    if file.suffix == ".bin":
        return _load_pickle(file, "meta")
    _check_header(file)
    try:
        with safe_open(file, framework="pt") as opened:
            return {name: opened.get_tensor(name).to("meta") for name in opened.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"weight file {str(file)!r} is truncated or damaged ({one_line(error)}): fetch it again"
        ) from error


def _check_header(file: Path) -> None:
    """Raise `InputError` if the header of a safetensors file is longer than that of `MAX_TENSORS` tensors."""
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
    if MAX_HEADER_BYTES < length < file.stat().st_size:
        raise InputError(
            f"weight file {str(file)!r} has a header of {length:,} bytes, at most {MAX_HEADER_BYTES:,} are read: "
            f"expected at most {MAX_TENSORS:,} tensors"
        )


def write(file: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write tensors by name as a safetensors file, atomically.

    Raises:
        OSError: if the disk is full or the like.
    """
    with atomic_file(file) as temporary:
        temporary.touch()
        mode = temporary.stat().st_mode
        try:
            save_file(tensors, temporary, metadata)
        except SafetensorError as error:
            raise OSError(f"{str(file)!r} cannot be written: {error}") from error
        temporary.chmod(mode)  # safetensors makes the file readable by its owner only


def stream(file: Path) -> Iterator[tuple[str, Tensor]]:
    """Iterate over a file's tensors by name, on the CPU. Each is valid until the next one is read.

    Raises:
        InputError: as `describe`.
    """
    return _stream_pickle(file) if file.suffix == ".bin" else _stream_safetensors(file)


def _stream_safetensors(file: Path) -> Iterator[tuple[str, Tensor]]:
    layout = describe(file)
    with safe_open(file, framework="pt", backend="pread") as opened:
        for name in layout:
            yield name, opened.get_tensor(name)


def _stream_pickle(file: Path) -> Iterator[tuple[str, Tensor]]:
    if not zipfile.is_zipfile(file):
        yield from _load_pickle(file, "cpu").items()
        return
    check_checksums(file)
    for names in _batches(describe(file)):
        state = _load_pickle(file, "cpu")
        for name in names:
            yield name, state[name]


def _batches(layout: dict[str, Tensor]) -> Iterator[list[str]]:
    """Group the names of tensors by at most `_BYTES_PER_MAP`; a larger tensor is a group of its own."""
    names: list[str] = []
    size = 0
    for name, tensor in layout.items():
        if names and size + tensor.nbytes > _BYTES_PER_MAP:
            yield names
            names, size = [], 0
        names.append(name)
        size += tensor.nbytes
    if names:
        yield names


def _load_pickle(file: Path, device: str) -> dict[str, Tensor]:
    is_archive = zipfile.is_zipfile(file)
    with file.open("rb") as opened:
        has_archive_magic = opened.read(2) == b"PK"
    if file.stat().st_size == 0 or (has_archive_magic and not is_archive):
        raise InputError(f"weight file {str(file)!r} is truncated: fetch it again")
    (check_layout if is_archive else check_former_layout)(file)
    try:
        with warnings.catch_warnings(action="ignore"):
            state = torch.load(file, map_location=device, weights_only=True, mmap=is_archive)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"weight file {str(file)!r} was refused: it holds more than tensors ({_reason(error)}), and reading that "
            f"could run code hidden in it; use a safetensors file"
        ) from error
    except Exception as error:  # a damaged pickle raises exceptions of any type
        raise InputError(f"weight file {str(file)!r} is damaged ({_reason(error)}): fetch it again") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise InputError(f"weight file {str(file)!r} is not a flat table of tensors: save a model's state_dict()")
    if unnamed := [name for name in state if not isinstance(name, str)]:
        raise InputError(
            f"weight file {str(file)!r} has tensors under {shown(unnamed[0])}, which is no name: save a model's "
            "state_dict()"
        )
    for name, tensor in state.items():
        if tensor.is_nested or tensor.is_quantized or tensor.layout is not torch.strided:
            raise InputError(
                f"weight file {str(file)!r} has a sparse, nested or quantized tensor {shown(name)}: save it dense"
            )
    if sum(tensor.nbytes for tensor in state.values()) > _MAX_REPETITION * file.stat().st_size:
        raise InputError(
            f"weight file {str(file)!r} has tensors of more bytes than it holds, since they share them: save clones"
        )
    return state


def _reason(error: Exception) -> str:
    """Return the informative line of torch's long messages."""
    text = _ESCAPE_CODES.sub("", str(error))
    if unsupported := _UNSUPPORTED.search(text):
        return f"a {unsupported[1]}"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    informative = [line for line in lines if line.startswith(("Trying to", "Unsupported"))]
    return one_line(next(iter([*informative, *lines]), type(error).__name__))
