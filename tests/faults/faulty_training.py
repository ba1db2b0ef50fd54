"""Run a command of `showo-turbo` with a fault: faulty_training.py FAULT RANK COMMAND SETTING..

The fault is in the process of a rank, at its first batch after two steps, and not after a restart by torchrun.
"""

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import torch

from showo_turbo.cli.main import run
from showo_turbo.distillation.consistency_task import ConsistencyTask
from showo_turbo.training import checkpoint_io
from showo_turbo.training.supervised_task import SupervisedTask
from showo_turbo.training.task import StepLosses

SLOW_SECONDS = 8.0


def kill(*ignored: Any) -> NoReturn:
    """End this process at once."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def add_fault(fault: str, rank: int, processes: int) -> None:
    """Change the classes of tasks, or the function that writes checkpoints, so that the fault happens."""
    faulty_batch = 2 * processes + rank
    if fault == "killed in a write":
        complete = checkpoint_io.complete_checkpoint

        def complete_half(partial: Path, values: dict[str, Any]) -> Path:
            if values["step"] == 3:
                for file in partial.iterdir():
                    os.truncate(file, file.stat().st_size // 2)
                kill()
            return complete(partial, values)

        checkpoint_io.complete_checkpoint = complete_half
        return
    for task in (SupervisedTask, ConsistencyTask):
        batch, losses = task.batch, task.losses

        def faulty(self: Any, number: int, batch: Callable[..., Any] = batch) -> Any:
            if number == faulty_batch:
                {"killed": kill, "slow": lambda: time.sleep(SLOW_SECONDS), "nan": lambda: None}[fault]()
            self.number = number
            return batch(self, number)

        def nan_losses(self: Any, *given: Any, losses: Callable[..., StepLosses] = losses) -> StepLosses:
            found = losses(self, *given)
            factor = torch.nan if fault == "nan" and self.number == faulty_batch else 1.0
            return StepLosses(found.total * factor, found.parts, found.count)

        task.batch, task.losses = faulty, nan_losses


if __name__ == "__main__":
    fault, rank, *sys.argv[1:] = sys.argv[1:]
    is_faulty = os.environ.get("RANK", "0") == rank and os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0"
    if fault != "none" and is_faulty:
        add_fault(fault, int(rank), int(os.environ.get("WORLD_SIZE", "1")))
    run()
