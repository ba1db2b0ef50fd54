"""The processes of one training: their connection, and what the main process does for all of them."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from showo_turbo.errors import InputError
from showo_turbo.locks import lock_folder


def make_accelerator(**options: Any) -> Accelerator:
    """Build accelerate's Accelerator; on a CPU it needs `cpu=True`, or the processes are not connected."""
    return Accelerator(cpu=not torch.accelerator.is_available(), **options)


@contextmanager
def lock_output(folder: Path) -> Iterator[None]:
    """Let the processes of this training be the only writers of a folder in the block.

    Raises:
        InputError: in every process, if another training writes it.
    """
    accelerator, errors = make_accelerator(), [""]
    with ExitStack() as stack:
        if accelerator.is_main_process:
            try:
                stack.enter_context(lock_folder(folder))
            except (InputError, OSError) as error:
                errors = [str(error)]
        broadcast_object_list(errors)
        if errors[0]:
            raise InputError(errors[0])
        yield
