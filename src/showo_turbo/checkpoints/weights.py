"""Load the weights of a checkpoint folder, in one file or in shards, into a module.

    folder --open_weights--> Weights --(lora.merge_adapter)--> Weights --fit_weights--> module

`Weights` holds shapes and dtypes and a way to read the data. Weights that do not fit are refused before any data is
read; then the data is read one tensor at a time, so that memory holds little more than the module's own weights.
"""

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from showo_turbo.checkpoints.names import INDEX_SUFFIX, MAX_TENSORS, WEIGHT_FILES
from showo_turbo.checkpoints.weight_files import describe, stream
from showo_turbo.errors import InputError
from showo_turbo.files import read_json
from showo_turbo.validation import shown

WRAPPERS = ("module.", "_orig_mod.", "_fsdp_wrapped_module.")
"""Prefixes that `DistributedDataParallel`, `torch.compile` and `FullyShardedDataParallel` add to every name."""

Store = Callable[[str, Tensor], Tensor]
"""Convert a weight, given its name and its value in the module's dtype, to the tensor that the module stores."""

_NAMES_IN_ERRORS = 3
_FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
_INTEGERS = (torch.int64, torch.int32)


@dataclass(frozen=True)
class Weights:
    """Describe tensors by name before they are read.

    Attributes:
        source: file or folder, for error messages.
        layout: shapes and dtypes, as tensors on the meta device by name.
        stream: reads the tensors, in any order, on the CPU. Each is valid until the next one is read.
    """

    source: str
    layout: Mapping[str, Tensor]
    stream: Callable[[], Iterator[tuple[str, Tensor]]]


def find_weights(folder: Path, names: Iterable[str] = WEIGHT_FILES) -> tuple[Path, ...]:
    """Return the weight files of a folder: one file, or an index and its shards. The first of `names` that exists wins.

    Raises:
        InputError: if there is none, or an index names shards that do not exist.
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
    """Describe the weights of a folder; a prefix of `WRAPPERS` that all names have is removed.

    Raises:
        InputError: if there are none, a file is damaged or holds anything besides tensors, or a shard is incomplete.
    """
    first, *shards = find_weights(folder, names)
    source = f"weight {'index' if shards else 'file'} {str(first)!r}"
    files = shards or [first]
    layouts = {file: describe(file) for file in files}
    if shards:
        layouts = _indexed_tensors(first, layouts)
    prefix = _wrapper_prefix([name for layout in layouts.values() for name in layout])

    def read() -> Iterator[tuple[str, Tensor]]:
        for file, layout in layouts.items():
            yield from ((name[len(prefix) :], tensor) for name, tensor in stream(file) if name in layout)

    layout = {name[len(prefix) :]: tensor for layout in layouts.values() for name, tensor in layout.items()}
    return Weights(source, layout, read)


def weights_of_file(file: Path) -> Weights:
    """Describe the weights of one file.

    Raises:
        InputError: if it is missing, damaged or holds anything besides tensors.
    """
    if not file.is_file():
        raise InputError(f"weight file {str(file)!r} does not exist")
    return Weights(f"weight file {str(file)!r}", describe(file), lambda: stream(file))


def _read_index(index: Path) -> dict[str, str]:
    """Read the file names by tensor name."""
    files = read_json(index).get("weight_map")
    if not isinstance(files, dict) or not files or not all(isinstance(file, str) for file in files.values()):
        raise InputError(f"weight index {str(index)!r} has no weight_map from names of tensors to names of files")
    if len(files) > MAX_TENSORS:
        raise InputError(f"weight index {str(index)!r} has {len(files):,} names, at most {MAX_TENSORS:,} are read")
    if outside := [file for file in files.values() if Path(file).name != file or not file.isprintable()]:
        raise InputError(f"weight index {str(index)!r} names {shown(outside[0])}: shards must lie beside their index")
    if missing := sorted({file for file in files.values() if not (index.parent / file).is_file()}):
        raise InputError(
            f"weight index {str(index)!r} names {len(set(files.values()))} files, of which {_listed(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} missing: put {'it' if len(missing) == 1 else 'them'} beside the "
            f"index"
        )
    return files


def _indexed_tensors(index: Path, layouts: dict[Path, dict[str, Tensor]]) -> dict[Path, dict[str, Tensor]]:
    """Select the tensors in shards that their index names."""
    chosen: dict[Path, dict[str, Tensor]] = {file: {} for file in layouts}
    for name, shard in _read_index(index).items():
        file = index.parent / shard
        if name not in layouts[file]:
            raise InputError(f"weight file {str(file)!r} lacks {name}, which {index.name} says it holds")
        chosen[file][name] = layouts[file][name]
    return chosen


def _wrapper_prefix(names: list[str]) -> str:
    """Return the prefix of `WRAPPERS`, nested or not, that all names share."""
    prefix = ""
    while wrapper := next((one for one in WRAPPERS if names and all(n.startswith(prefix + one) for n in names)), None):
        prefix += wrapper
    return prefix


def fit_weights(module: nn.Module, weights: Weights, store: Store = lambda name, tensor: tensor) -> None:
    """Replace a module's weights, cast to the module's dtypes; the module may be on the meta device.

    Args:
        module: the module to fill.
        weights: the new weights.
        store: converts each weight before the next one is read, such as to a quantized one.

    Raises:
        InputError: if keys are missing, unexpected, of another shape, or hold numbers of another kind; before any data
            is read. If a value is NaN or infinite in the module's dtype.
    """
    expected = module.state_dict()
    _check_fit(expected, weights)
    fitted = {}
    for name, tensor in weights.stream():
        own = tensor.to(expected[name].dtype, copy=True, memory_format=torch.contiguous_format)
        check_finite(name, own, weights.source)
        fitted[name] = store(name, own)
    module.load_state_dict(fitted, assign=True)


@torch.no_grad()
def average_weights(mean: Mapping[str, Tensor], others: Sequence[Weights], shares: Sequence[float]) -> None:
    """Replace weights by a weighted mean of them and of others (model soups, arXiv 2203.05482).

    Args:
        mean: the first model's weights by name, changed in place.
        others: the weights of the others.
        shares: of the first model and of the others, with a sum of 1.

    Raises:
        InputError: if others do not fit the first; before any data is read. If a value of theirs is NaN or infinite.
    """
    for weights in others:
        _check_fit(mean, weights)
    for tensor in mean.values():
        tensor.mul_(shares[0])
    for weights, share in zip(others, shares[1:], strict=True):
        for name, tensor in weights.stream():
            own = tensor.to(mean[name])
            check_finite(name, own, weights.source)
            mean[name].add_(own, alpha=share)


def check_layers(weights: Weights, layers: str, count: int) -> None:
    """Check the number of layers before a module with all of them is built.

    Args:
        weights: the weights.
        layers: what the names of the layers' weights start with, before the number.
        count: number of layers in the config.

    Raises:
        InputError: if it differs from the number of layers in the weights.
    """
    found = {name[len(layers) :].partition(".")[0] for name in weights.layout if name.startswith(layers)}
    if len(found) != count:
        raise InputError(
            f"{weights.source} does not fit the config: it has {len(found)} layers where the config says {count}"
        )


def check_finite(name: str, tensor: Tensor, source: str) -> None:
    """Raise `InputError` if a floating-point tensor has values that are NaN or infinite."""
    if tensor.is_floating_point() and tensor.numel() and not all(torch.isfinite(one) for one in torch.aminmax(tensor)):
        dtype = str(tensor.dtype).removeprefix("torch.")
        raise InputError(
            f"{source} has values of {name} that are NaN or infinite in {dtype}: load it in another dtype, or use "
            "weights of an earlier step"
        )


def check_numbers(weights: Weights, integers: Container[str] = ()) -> None:
    """Raise `InputError` if weights are not real floating-point numbers of 16 bits or more, or whole numbers.

    Args:
        weights: the weights.
        integers: names of those that are whole numbers.
    """
    for name, tensor in weights.layout.items():
        expected, names = (_INTEGERS, "int64") if name in integers else (_FLOATS, "float32, bfloat16 or float16")
        if tensor.dtype not in expected:
            kind = str(tensor.dtype).removeprefix("torch.")
            raise InputError(f"{weights.source} has {kind} numbers in {name}: expected {names}")


def _check_fit(expected: Mapping[str, Tensor], weights: Weights) -> None:
    """Raise `InputError` if names or shapes differ from those of a module."""
    layout = weights.layout
    problems = {
        "missing": expected.keys() - layout.keys(),
        "unexpected": layout.keys() - expected.keys(),
        "of another shape": [
            f"{key} is {tuple(layout[key].shape)} where the config says {tuple(expected[key].shape)}"
            for key in expected.keys() & layout.keys()
            if layout[key].shape != expected[key].shape
        ],
    }
    if found := [f"{problem}: {_listed(names)}" for problem, names in problems.items() if names]:
        raise InputError(f"{weights.source} does not fit the config: {'; '.join(found)}")
    check_numbers(weights, {name for name, tensor in expected.items() if not tensor.is_floating_point()})


def _listed(names: Iterable[str]) -> str:
    names = sorted(name if name.isprintable() else repr(name) for name in names)
    more = f" and {len(names) - _NAMES_IN_ERRORS} more" if len(names) > _NAMES_IN_ERRORS else ""
    return f"{', '.join(names[:_NAMES_IN_ERRORS])}{more}"
