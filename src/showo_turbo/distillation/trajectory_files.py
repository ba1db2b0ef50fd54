"""Files of trajectories, generated once by the teacher and read in every epoch.

    image-00000.safetensors   prompts, codes, unmask steps, and the labels of every segment end
    text-00000.safetensors    prompts, iterates

Rows of unequal length are concatenated in one tensor, with their lengths in another. Ids are int32 and probabilities
float16, so a soft label of 16 codes takes 96 bytes. The metadata of a file has the SHA-256 of its tensors, which is
verified when the file is read.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from showo_turbo.checkpoints import weight_files
from showo_turbo.configuration import ShowoConfig
from showo_turbo.distillation.image_trajectories import ImageTrajectories
from showo_turbo.distillation.soft_labels import SoftLabels
from showo_turbo.distillation.text_trajectories import JacobiTrajectory
from showo_turbo.errors import InputError, one_line
from showo_turbo.files import check_plain_file

MAX_STEPS = 1 << 16
"""Number of steps of the longest trajectory."""


def write_images(path: Path, trajectories: ImageTrajectories) -> None:
    """Write image trajectories, atomically."""
    ids, lengths = _concatenate(trajectories.prompts)
    tensors = {
        "prompt_ids": ids,
        "prompt_lengths": lengths,
        "codes": trajectories.codes.int(),
        "decided": trajectories.unmask_steps.int(),
    }
    for end, labels in trajectories.labels.items():
        tensors[f"label_codes_{end}"] = labels.codes.int()
        tensors[f"label_probabilities_{end}"] = labels.probabilities.half()
    _write(path, tensors)


def read_images(path: Path, config: ShowoConfig) -> ImageTrajectories:
    """Read image trajectories of a model.

    Raises:
        InputError: if the file is damaged, or holds ids that the model does not have.
    """
    with _errors_of(path):
        return _read_images(_read(path), config)


def _read_images(tensors: dict[str, Tensor], config: ShowoConfig) -> ImageTrajectories:
    ends = sorted(int(name.rsplit("_", 1)[1]) for name in tensors if name.startswith("label_codes_"))
    labels = {
        end: SoftLabels(tensors[f"label_codes_{end}"].long(), tensors[f"label_probabilities_{end}"].float())
        for end in ends
    }
    prompts = _split(tensors["prompt_ids"], tensors["prompt_lengths"])
    _check_range("prompt_ids", tensors["prompt_ids"], config.vocab_size)
    shape = (len(prompts), config.num_vq_tokens)
    for name in ("codes", "decided", *(f"label_codes_{end}" for end in ends)):
        if tensors[name].shape[:2] != shape:
            raise ValueError(f"{name} is {tuple(tensors[name].shape)}, not {shape}")
        if name == "decided":
            _check_range(name, tensors[name], MAX_STEPS, minimum=-1)  # of a code that is known at the start
        else:
            _check_range(name, tensors[name], config.codebook_size)
    for end, label in labels.items():
        if label.codes.shape != label.probabilities.shape or not 0 <= label.probabilities.sum() < float("inf"):
            raise ValueError(f"probabilities of label {end} do not fit its codes")
    return ImageTrajectories(prompts, tensors["codes"].long(), tensors["decided"].long(), labels)


def write_texts(path: Path, blocks: Sequence[JacobiTrajectory]) -> None:
    """Write Jacobi trajectories of one block length, atomically."""
    ids, lengths = _concatenate([block.prompt for block in blocks])
    _write(
        path,
        {
            "prompt_ids": ids,
            "prompt_lengths": lengths,
            "iterates": torch.cat([torch.zeros(0, dtype=torch.int32), *(block.iterates.int() for block in blocks)]),
            "iterate_counts": torch.tensor([len(block.iterates) for block in blocks]).int(),
        },
    )


def read_texts(path: Path, config: ShowoConfig) -> list[JacobiTrajectory]:
    """Read Jacobi trajectories of a model.

    Raises:
        InputError: if the file is damaged, or holds ids that the model does not have.
    """
    with _errors_of(path):
        tensors = _read(path)
        prompts = _split(tensors["prompt_ids"], tensors["prompt_lengths"])
        for name in ("prompt_ids", "iterates"):
            _check_range(name, tensors[name], config.vocab_size)
        iterates = tensors["iterates"].long().split(tensors["iterate_counts"].tolist())
        return [JacobiTrajectory(tuple(prompt), block) for prompt, block in zip(prompts, iterates, strict=True)]


@contextmanager
def _errors_of(path: Path) -> Iterator[None]:
    """Convert the errors of a file that is not as `write_images` or `write_texts` wrote it."""
    try:
        check_plain_file(path)
        yield
    except (OSError, SafetensorError, KeyError, ValueError, RuntimeError, TypeError, IndexError) as error:
        reason = one_line(error)
        raise InputError(
            f"trajectories {str(path)!r} are damaged ({reason}): delete the file, and it is generated again"
        ) from error


def _check_range(name: str, ids: Tensor, size: int, minimum: int = 0) -> None:
    """Raise `ValueError` unless ids are whole numbers from `minimum` to `size` - 1."""
    if ids.is_floating_point() or ids.dtype == torch.bool or ids.is_complex():
        raise ValueError(f"{name} holds {str(ids.dtype).removeprefix('torch.')}")
    if ids.numel() and not minimum <= int(ids.min()) <= int(ids.max()) < size:
        raise ValueError(f"{name} holds {int(ids.min())} to {int(ids.max())}, the model has {minimum} to {size - 1}")


def _concatenate(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    ids = torch.tensor([token for row in rows for token in row], dtype=torch.int32)
    return ids, torch.tensor([len(row) for row in rows], dtype=torch.int32)


def _split(ids: Tensor, lengths: Tensor) -> list[list[int]]:
    return [row.tolist() for row in ids.split(lengths.tolist())]


def _write(path: Path, tensors: dict[str, Tensor]) -> None:
    tensors = {name: tensor.contiguous().cpu() for name, tensor in tensors.items()}
    weight_files.write(path, tensors, {"sha256": _sha256(tensors)})


def _read(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file; raise `ValueError` if they do not match its checksum."""
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        expected = (file.metadata() or {}).get("sha256")  # files of earlier versions have none
    if expected not in (None, _sha256(tensors)):
        raise ValueError("its content does not match its checksum")
    return tensors


def _sha256(tensors: dict[str, Tensor]) -> str:
    digest = sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()
