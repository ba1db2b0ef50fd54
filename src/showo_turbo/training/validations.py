"""Validations of a training on held-out samples: their log, the best model so far, and when to stop early.

validation.jsonl   a line for each validation: step and losses
samples/           sample images of each validation, if the task draws some
best/              export of the model with the lowest loss
"""

import logging
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from showo_turbo.errors import InputError
from showo_turbo.files import append_json_line, drop_json_lines_after
from showo_turbo.training.ema_model import EmaModel
from showo_turbo.training.loop_config import LoopConfig
from showo_turbo.training.task import Task

if TYPE_CHECKING:
    from accelerate import Accelerator

VALIDATION_LOG = "validation.jsonl"
BEST_FOLDER = "best"

logger = logging.getLogger(__name__)


@dataclass
class _Best:
    """Hold the validation with the lowest loss, and the number of validations since then."""

    loss: float = math.inf
    step: int = -1
    since: int = 0


class Validations:
    """Validate the model of a task every `validation_steps` steps."""

    def __init__(self, task: Task[Any, Any], config: LoopConfig, accelerator: "Accelerator") -> None:
        """Start without a validation."""
        self.task, self.config, self.accelerator = task, config, accelerator
        self.folder = Path(config.output)
        self.best = _Best()

    @property
    def end_training(self) -> bool:
        """Whether `patience` validations in a row had no lower loss than the best one."""
        return 0 < self.config.patience <= self.best.since

    def is_due(self, step: int) -> bool:
        """Return whether the model is validated after a step; step 0 is the model that training starts from."""
        every = self.config.validation_steps
        return every > 0 and (step % every == 0 or step == self.config.steps)

    def run(self, step: int, ema: EmaModel) -> None:
        """Validate a model; log the losses, draw samples, and export the model if its loss is the lowest so far.

        All processes call it; the main process writes. A full disk costs the files, not the run.

        Raises:
            InputError: if the task has no held-out samples.
        """
        with torch.no_grad(), self.accelerator.autocast():
            losses = ema.evaluate(self.task.validate)
        if not losses:
            raise InputError(
                f"loop.validation_steps is {self.config.validation_steps}, but this training has no held-out samples: "
                "leave it out"
            )
        self.accelerator.log({f"validation/{name}": loss for name, loss in losses.items()}, step=step)
        is_best = losses["loss"] < self.best.loss  # never, if it is NaN
        self.best = (
            _Best(losses["loss"], step) if is_best else _Best(**vars(self.best) | {"since": self.best.since + 1})
        )
        with ema.whole() as model:
            if not self.accelerator.is_main_process:
                return
            append_json_line(self.folder / VALIDATION_LOG, {"step": step, **losses})
            try:
                self.task.draw_samples(model, self.folder / "samples" / f"step-{step:08d}.png")
                if is_best:
                    (self.folder / BEST_FOLDER).mkdir(exist_ok=True)
                    self.task.export(model, self.folder / BEST_FOLDER)
            except OSError as error:
                logger.warning("the model of step %d could not be saved (%s)", step, error)

    def state_dict(self) -> dict[str, Any]:
        """Return the best validation so far."""
        return asdict(self.best)

    def resume(self, step: int, state: dict[str, Any]) -> None:
        """Resume after a step; drop the validations that a killed run logged later.

        Args:
            step: the step; the validation of step 0 is repeated.
            state: result of `state_dict`; empty for a run that starts.
        """
        self.best = _Best(**state)
        if self.accelerator.is_main_process:
            drop_json_lines_after(self.folder / VALIDATION_LOG, step or -1)
