"""Checkpoints by torch.distributed.checkpoint (DCP): each process writes and reads its part of the tensors.

Decisions:
- The tensors are safetensors files, one or more for each process. DCP's default storage has a pickled index, and
  unpickles whatever is not a tensor: reading it executes what it holds. Here everything else is JSON.
- Sharded tensors are written by the processes that hold them. Of tensors that all processes hold, each copies and
  writes an equal part, so that a machine holds one copy of the state in memory, whatever the number of its processes.
- A copy to the CPU's memory is what a training waits for. The memory is kept from one checkpoint to the next:
  allocating it takes longer than copying.
- The processes agree on the end of a write in a group of their own, beside the collectives of the training.
"""

import logging
from collections.abc import Iterable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, cast
from warnings import filterwarnings

import torch
from torch import Tensor
from torch.distributed import ProcessGroup
from torch.distributed.checkpoint import (
    CheckpointException,
    HuggingFaceStorageReader,
    HuggingFaceStorageWriter,
    async_save,
    load,
)
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata
from torch.distributed.checkpoint.planner import SavePlan
from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions
from torch.distributed.checkpoint.storage import WriteResult
from torch.distributed.tensor import DTensor

from showo_turbo.files import remove_partial_files
from showo_turbo.training.state import complete_checkpoint, partial_folder, refused

MAX_FILE_BYTES = 1 << 30
"""Size beyond which a process begins another file: safetensors holds a file in memory when it writes it."""


class CheckpointIO:
    """Write the checkpoints of a training in the background, one at a time, and read them.

    Attributes:
        step: step of the checkpoint that was started last.
    """

    def __init__(self, folder: Path, timeout_minutes: float) -> None:
        """Connect the processes; all of them call it.

        Args:
            folder: the checkpoints; partial ones of killed runs are removed.
            timeout_minutes: time that a process waits for another one.
        """
        logging.getLogger("c10d-NullHandler-dcp_logger").setLevel(logging.WARNING)  # not a line for each function
        self.folder, self.step = folder, 0
        self._group: ProcessGroup | None = None
        self._rank, self._count = 0, 1
        if torch.distributed.is_initialized():
            timeout = timedelta(minutes=timeout_minutes)
            self._group = cast(ProcessGroup, torch.distributed.new_group(backend="gloo", timeout=timeout))
            self._rank, self._count = torch.distributed.get_rank(), torch.distributed.get_world_size()
        else:  # DCP warns at each call, in its thread
            filterwarnings("ignore", message="torch.distributed is disabled, unavailable or uninitialized")
        self._stager = DefaultStager(StagingOptions(False, False, False, False))
        self._writing: Any = None
        self._remove_partial()

    def start(self, step: int, shared: Mapping[str, Tensor], own: Mapping[str, Tensor], values: dict[str, Any]) -> None:
        """Copy the state of a step and begin to write it; all processes call it, after `wait`.

        Args:
            step: the step.
            shared: tensors that all processes hold, or that are sharded over them.
            own: tensors of this process alone.
            values: everything else as JSON values; those of the main process are written.
        """
        replicated = [name for name, tensor in shared.items() if not isinstance(tensor, DTensor)]
        replicated.sort(key=lambda name: -shared[name].numel())
        of_others = set(replicated) - set(replicated[self._rank :: self._count])
        written: dict[str, dict[str, Tensor]] = {}  # DCP is slow with many keys, and joins those of nested dicts
        addresses: set[int] = set()
        for name, tensor in {**shared, **own}.items():
            if name not in of_others:
                kind, _, rest = name.partition(".")
                written.setdefault(kind, {})[rest] = _as_safetensors_writes(tensor, addresses)
        self.step = step
        self._writing = async_save(
            written,
            storage_writer=_Storage(partial_folder(self.folder, step), values),
            process_group=self._group,
            async_stager=self._stager,
        )

    def wait(self) -> str:
        """Wait for the end of the write that was started last.

        Returns:
            why a file could not be written, the same in all processes; empty if all is well.
        """
        writing, self._writing = self._writing, None
        try:
            if writing is not None:
                writing.result()
        except CheckpointException as error:
            failures = [failure for failure, _ in error.failures.values()]
            for failure in failures:
                if not isinstance(failure, OSError):
                    raise failure from error
            self._remove_partial()
            return str(failures[0])
        return ""

    def read(self, path: Path, tensors: dict[str, Tensor]) -> None:
        """Read tensors in place, whole or sharded, from a checkpoint; all processes call it.

        Raises:
            InputError: if the checkpoint lacks one, or has it in another shape.
        """
        try:
            load(tensors, storage_reader=HuggingFaceStorageReader(str(path)), process_group=self._group)
        except CheckpointException as error:
            raise refused(path) from error

    def close(self) -> None:
        """Release the memory of copies and the connection."""
        self._stager.close()
        if self._group is not None:
            torch.distributed.destroy_process_group(self._group)

    def _remove_partial(self) -> None:
        if self._rank == 0:
            remove_partial_files(self.folder)


def _as_safetensors_writes(tensor: Tensor, addresses: set[int]) -> Tensor:
    """Return a contiguous tensor that shares its memory with no other one, whose addresses are in `addresses`."""
    if isinstance(tensor, DTensor):  # a parameter, or like one
        return tensor
    if tensor.data_ptr() in addresses or not tensor.is_contiguous():
        return tensor.clone(memory_format=torch.contiguous_format)
    addresses.add(tensor.data_ptr())
    return tensor


def stored_tensors(path: Path) -> dict[str, TensorStorageMetadata]:
    """Return sizes and dtypes of the tensors of an intact checkpoint by name.

    Raises:
        InputError: if its files are not those that `CheckpointIO` writes.
    """
    try:
        metadata = HuggingFaceStorageReader(str(path)).read_metadata()
    except Exception as error:  # of any type: the files are anything
        raise refused(path) from error
    return cast(dict[str, TensorStorageMetadata], metadata.state_dict_metadata)


def empty_tensors(names: Iterable[str], stored: Mapping[str, TensorStorageMetadata]) -> dict[str, Tensor]:
    """Return tensors on the CPU for some of the stored ones to be read into."""
    return {name: torch.empty(stored[name].size, dtype=stored[name].properties.dtype) for name in names}


class _Storage(HuggingFaceStorageWriter):
    """Write safetensors files to a partial folder, and complete it when all processes have written theirs."""

    def __init__(self, partial: Path, values: dict[str, Any]) -> None:
        super().__init__(str(partial), save_distributed=True)
        self.per_thread_copy_ahead = 0  # the tensors are staged on the CPU already
        self.values = values

    def prepare_global_plan(self, plans: list[SavePlan]) -> list[SavePlan]:
        """Deal the tensors to files of limited size."""
        self.fqn_to_index_mapping, size = {}, 0
        for item in (item for plan in plans for item in plan.items):
            assert item.tensor_data is not None  # all are tensors
            size += item.tensor_data.chunk.sizes.numel() * item.tensor_data.properties.dtype.itemsize
            self.fqn_to_index_mapping.setdefault(item.index.fqn, 1 + size // MAX_FILE_BYTES)
        return super().prepare_global_plan(plans)

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        """Complete the checkpoint, in the main process."""
        complete_checkpoint(Path(self.path), self.values)
