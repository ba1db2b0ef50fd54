"""The processes of one training: their connection, what they exchange, and what the main process does for all of them.

accelerate is an optional dependency, imported only when one of these functions is called.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import torch

from showo_turbo.errors import InputError
from showo_turbo.extras import require_module
from showo_turbo.locks import lock_folder

if TYPE_CHECKING:
    from accelerate import Accelerator, PartialState

T = TypeVar("T")


def make_accelerator(**options: Any) -> "Accelerator":
    """Build accelerate's Accelerator; on a CPU it needs `cpu=True`, or the processes are not connected.

    Raises:
        InputError: if accelerate is not installed.
    """
    accelerate = require_module("accelerate", "training")
    return accelerate.Accelerator(cpu=not (torch.accelerator.is_available() or uses_deepspeed()), **options)


def uses_deepspeed() -> bool:
    """Return whether accelerate's launcher was given a config file for DeepSpeed."""
    return os.environ.get("ACCELERATE_USE_DEEPSPEED", "false").lower() == "true"


def zero_stage() -> int:
    """Return the ZeRO stage in accelerate's config file for DeepSpeed, or 0; call `make_accelerator` before."""
    return make_accelerator().state.deepspeed_plugin.zero_stage if uses_deepspeed() else 0


def shards_weights(sharding: str) -> bool:
    """Return whether a process holds a part of the weights only; call `make_accelerator` before.

    Args:
        sharding: see `LoopConfig`.
    """
    return zero_stage() == 3 or (sharding != "none" and process_state().num_processes > 1)


def process_state() -> "PartialState":
    """Return the index and device of this process, and the number of processes. Call `make_accelerator` before.

    Raises:
        InputError: if accelerate is not installed.
    """
    return require_module("accelerate", "training").PartialState()


def gather_from_all(value: T) -> list[T]:
    """Return the picklable values of all processes, in the order of their indices."""
    from accelerate.utils import gather_object

    return gather_object([value])


def numbers_of_all(accelerator: "Accelerator", value: float) -> list[float]:
    """Return a number of this process and those of all others."""
    return accelerator.gather(torch.tensor([float(value)], device=accelerator.device)).tolist()


def broadcast_from_main(value: T) -> T:
    """Return the picklable value of the main process in all processes."""
    from accelerate.utils import broadcast_object_list

    (result,) = broadcast_object_list([value])
    return result


def run_on_main(function: Callable[[], T]) -> T:
    """Run a function in the main process, and return its result in all processes.

    Raises:
        Exception: of the function, in all processes.
    """
    if not torch.distributed.is_initialized():
        return function()
    result: T | None = None
    failure: Exception | None = None
    if process_state().is_main_process:
        try:
            result = function()
        except (InputError, OSError) as error:
            failure = error
    result, failure = broadcast_from_main((result, failure))
    if failure is not None:
        raise failure
    return cast(T, result)


@contextmanager
def errors_of_lost_processes() -> Iterator[None]:
    """Convert the errors of a connection in the block to one line.

    Raises:
        InputError: if another process of the training ended, or did not answer in `loop.timeout_minutes`.
    """
    try:
        yield
    except RuntimeError as error:
        reason = str(error)
        if not isinstance(error, torch.distributed.DistError) and "/gloo/" not in reason:
            raise
        state = process_state()
        silent = "Timed out" in reason or "timeout" in reason
        raise InputError(
            f"process {state.process_index} of {state.num_processes} "
            + (
                "had no answer from another one in loop.timeout_minutes"
                if silent
                else "lost the connection to another one"
            )
            + ": find out which one ended or hangs, and start the training again to resume from its newest checkpoint"
        ) from error


@contextmanager
def lock_output(folder: Path) -> Iterator[None]:
    """Let the processes of this training be the only writers of a folder in the block.

    Raises:
        InputError: in every process, if another training writes it.
    """
    accelerator, error = make_accelerator(), ""
    with ExitStack() as stack:
        if accelerator.is_main_process:
            try:
                stack.enter_context(lock_folder(folder))
            except (InputError, OSError) as failure:
                error = str(failure)
        error = broadcast_from_main(error)
        if error:
            raise InputError(error)
        yield
