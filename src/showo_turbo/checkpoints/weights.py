"""The weights of a checkpoint folder, in one file or in shards, and fitting them into a module.

    folder --open_weights--> Weights --(lora.merge_adapter)--> Weights --fit_weights--> module

`Weights` is a description with a way to read: what does not fit is refused before any data is read, and then the data
comes one tensor at a time, so that the module's own weights are all that is ever held.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from showo_turbo.checkpoints.names import INDEX_SUFFIX, WEIGHT_FILES
from showo_turbo.checkpoints.weight_files import describe, stream
from showo_turbo.errors import InputError
from showo_turbo.files import read_json

WRAPPERS = ("module.", "_orig_mod.", "_fsdp_wrapped_module.")
"""What `DistributedDataParallel`, `torch.compile` and `FullyShardedDataParallel` put before every name."""

Store = Callable[[str, Tensor], Tensor]
"""What a module keeps of a weight, given its name and the weight in the module's dtype."""

_NAMES_IN_ERRORS = 3


@dataclass(frozen=True)
class Weights:
    """Tensors by name, described but not yet read.

    Attributes:
        source: where they come from, for errors.
        layout: shapes and dtypes: tensors on the meta device, by name.
        stream: reads the tensors, in any order, on the CPU. Each may be used until the next is asked for.
    """

    source: str
    layout: Mapping[str, Tensor]
    stream: Callable[[], Iterator[tuple[str, Tensor]]]


def find_weights(folder: Path, names: Iterable[str] = WEIGHT_FILES) -> tuple[Path, ...]:
    """The weight files of a folder: one file, or an index and its shards. Of several the first of `names` counts.

    Raises:
        InputError: when there is none, or an index names shards that are not there.
    """
    names = tuple(names)
    for name in names:
        if (folder / name).is_file():
            return (folder / name,)
        if (folder / (name + INDEX_SUFFIX)).is_file():
            index = folder / (name + INDEX_SUFFIX)
            return (index, *(folder / shard for shard in sorted(set(_read_index(index).values()))))
    raise InputError(
        f"folder {str(folder)!r} holds no weights: expected one of {', '.join(names)} in it, or shards with their "
        f"{INDEX_SUFFIX[1:]}"
    )


def open_weights(folder: Path, names: Iterable[str] = WEIGHT_FILES) -> Weights:
    """The weights of a folder, with what wraps all of their names taken off.

    Raises:
        InputError: when there are none, a file is damaged or holds anything besides tensors, or a shard is incomplete.
    """
    first, *shards = find_weights(folder, names)
    source = f"weight {'index' if shards else 'file'} {str(first)!r}"
    files = shards or [first]
    layouts = {file: describe(file) for file in files}
    if shards:
        layouts = _indexed(first, layouts)
    wrapper = _wrapper([name for layout in layouts.values() for name in layout])

    def read() -> Iterator[tuple[str, Tensor]]:
        for file, layout in layouts.items():
            yield from ((name[len(wrapper) :], tensor) for name, tensor in stream(file) if name in layout)

    layout = {name[len(wrapper) :]: tensor for layout in layouts.values() for name, tensor in layout.items()}
    return Weights(source, layout, read)


def weights_of_file(file: Path) -> Weights:
    """The weights of one file.

    Raises:
        InputError: when it is missing, damaged or holds anything besides tensors.
    """
    if not file.is_file():
        raise InputError(f"weight file {str(file)!r} does not exist")
    return Weights(f"weight file {str(file)!r}", describe(file), lambda: stream(file))


def _read_index(index: Path) -> dict[str, str]:
    """File names by tensor name."""
    files = read_json(index).get("weight_map")
    if not isinstance(files, dict) or not files or not all(isinstance(file, str) for file in files.values()):
        raise InputError(f"weight index {str(index)!r} has no weight_map from names of tensors to names of files")
    if outside := [file for file in files.values() if Path(file).name != file]:
        raise InputError(f"weight index {str(index)!r} names {outside[0]!r}: shards must lie beside their index")
    if missing := sorted({file for file in files.values() if not (index.parent / file).is_file()}):
        raise InputError(
            f"weight index {str(index)!r} names {len(set(files.values()))} files, of which {_listed(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} missing: put {'it' if len(missing) == 1 else 'them'} beside the "
            f"index"
        )
    return files


def _indexed(index: Path, layouts: dict[Path, dict[str, Tensor]]) -> dict[Path, dict[str, Tensor]]:
    """Of the tensors in shards those that their index names."""
    chosen = {file: {} for file in layouts}
    for name, shard in _read_index(index).items():
        file = index.parent / shard
        if name not in layouts[file]:
            raise InputError(f"weight file {str(file)!r} lacks {name}, which {index.name} says it holds")
        chosen[file][name] = layouts[file][name]
    return chosen


def _wrapper(names: list[str]) -> str:
    """What all names begin with that is no part of the model."""
    found = ""
    while wrapper := next((one for one in WRAPPERS if names and all(n.startswith(found + one) for n in names)), None):
        found += wrapper
    return found


def fit_weights(module: nn.Module, weights: Weights, store: Store = lambda name, tensor: tensor) -> None:
    """Put tensors in place of a module's own, cast to the module's dtypes; the module may be on the meta device.

    Each is stored as `store` makes of it before the next one is read.

    Raises:
        InputError: when keys are missing, unexpected, or of another shape; before any data is read.
    """
    expected = module.state_dict()
    _check_fit(expected, weights)
    fitted = {name: store(name, _own(tensor, expected[name].dtype)) for name, tensor in weights.stream()}
    module.load_state_dict(fitted, assign=True)


@torch.no_grad()
def average_weights(module: nn.Module, others: Sequence[Weights]) -> None:
    """Put the mean of a module's weights and of others' in place of its own (model soups, arXiv 2203.05482).

    Raises:
        InputError: when others do not fit the module; before any data is read.
    """
    mean, count = module.state_dict(), 1 + len(others)
    for weights in others:
        _check_fit(mean, weights)
    for tensor in mean.values():
        tensor.div_(count)
    for weights in others:
        for name, tensor in weights.stream():
            mean[name].add_(tensor.to(mean[name].dtype), alpha=1 / count)


def _check_fit(expected: Mapping[str, Tensor], weights: Weights) -> None:
    """Refuse weights that are not just those of a module."""
    problems = {
        "missing": expected.keys() - weights.layout.keys(),
        "unexpected": weights.layout.keys() - expected.keys(),
        "of another shape": _other_shapes(expected, weights.layout),
    }
    if found := [f"{problem}: {_listed(names)}" for problem, names in problems.items() if names]:
        raise InputError(f"{weights.source} does not fit the config: {'; '.join(found)}")


def _own(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return tensor.to(dtype, copy=True, memory_format=torch.contiguous_format)


def _other_shapes(expected: Mapping[str, Tensor], layout: Mapping[str, Tensor]) -> list[str]:
    return [
        f"{key} is {tuple(layout[key].shape)} where the config says {tuple(expected[key].shape)}"
        for key in expected.keys() & layout.keys()
        if layout[key].shape != expected[key].shape
    ]


def _listed(names: Iterable[str]) -> str:
    names = sorted(names)
    more = f" and {len(names) - _NAMES_IN_ERRORS} more" if len(names) > _NAMES_IN_ERRORS else ""
    return f"{', '.join(names[:_NAMES_IN_ERRORS])}{more}"
