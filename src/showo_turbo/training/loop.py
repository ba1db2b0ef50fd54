"""The training loop, the only one in the project.

A task knows its model, its optimizers and the loss of one step; the loop knows steps, learning rates, the running
average of the weights, checkpoints and the log.

Decisions:
- Data is drawn from (seed, step) or from a position that the task's state holds, so a resumed run sees what an
  uninterrupted one would have seen, and a checkpoint needs no random state.
- What a step computes is the `forward` of one module, so that accelerate's wrappers (DDP, autocast) fit whatever
  a task calls its model for. What it learns from comes before, in full precision: teachers and tokenizers work there.
- A loss or gradient that is no finite number changes nothing: weights, optimizers and average stay as they were, the
  step and its samples are named in `skipped.jsonl`, and training goes on, or ends if there are too many in a row.
- A disk that is full costs a checkpoint, not the run; of the last step it ends the run with a word.
"""

import logging
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.tracking import get_available_trackers
from accelerate.utils import gather_object, parse_flag_from_env
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm
from transformers import get_constant_schedule_with_warmup, get_wsd_schedule

from showo_turbo.errors import InputError
from showo_turbo.files import append_json_line, drop_json_lines_after
from showo_turbo.training.log import TrainingLog
from showo_turbo.training.run_manifest import claim
from showo_turbo.training.state import newest_step, read_newest, write_checkpoint
from showo_turbo.training.task import StepLosses, Task
from showo_turbo.validation import check_fraction, check_integer, check_number, check_seed

logger = logging.getLogger(__name__)


_NO_MATTER = ("output", "steps", "max_skipped", "log_steps", "checkpoint_minutes", "tracker", "threads")
"""Of a LoopConfig, what a run may be gone on with otherwise."""


@dataclass(frozen=True)
class LoopConfig:
    """How long and how a training runs.

    Attributes:
        output: folder of the run: `checkpoints/`, `log.jsonl` (curve), `skipped.jsonl` and what the task exports.
        steps: optimizer steps in all.
        seed: of weights and data.
        warmup_steps: linear rise of the learning rate.
        decay_share: share of the steps, at the end, over which the learning rate falls linearly to zero; 0 keeps it.
        ema_decay: of the running average of the weights, which is what is exported; 0 exports the weights themselves.
        clip_norm: largest gradient norm.
        gradient_accumulation_steps: batches a step.
        max_skipped: so many steps in a row without a finite loss end the training.
        log_steps: steps between two lines of the log, which also has the last step.
        checkpoint_minutes: minutes between two checkpoints.
        tracker: "tensorboard", "wandb", "trackio" or whatever accelerate knows; none if left out.
        threads: processor threads; as many as torch likes if left out.
    """

    output: str = "runs/unnamed"
    steps: int = 1000
    seed: int = 0
    warmup_steps: int = 100
    decay_share: float = 0.4
    ema_decay: float = 0.999
    clip_norm: float = 1.0
    gradient_accumulation_steps: int = 1
    max_skipped: int = 20
    log_steps: int = 50
    checkpoint_minutes: float = 3.0
    tracker: str | None = None
    threads: int | None = None

    def __post_init__(self) -> None:
        for name in ("steps", "gradient_accumulation_steps", "max_skipped", "log_steps"):
            check_integer(f"loop.{name}", getattr(self, name), 1)
        if self.threads is not None:
            check_integer("loop.threads", self.threads, 1)
        check_seed("loop.seed", self.seed)
        check_integer("loop.warmup_steps", self.warmup_steps, 0)
        check_number("loop.checkpoint_minutes", self.checkpoint_minutes, 0)
        for name in ("decay_share", "ema_decay"):
            check_fraction(f"loop.{name}", getattr(self, name))
        if not self.clip_norm > 0:
            raise InputError(f"loop.clip_norm is {self.clip_norm}: choose more than 0; .inf clips nothing")

    @property
    def setting(self) -> dict[str, Any]:
        """What the weights follow from, of a run that may be made longer; see `training.setting`."""
        return {name: value for name, value in asdict(self).items() if name not in _NO_MATTER}


class _Step(nn.Module):
    """One batch as the forward pass of a module, whose parameters are the model's."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.model = task.model
        self.losses = task.losses

    def forward(self, average: nn.Module, batch: Any) -> StepLosses:
        return self.losses(average, batch)


def check_environment(config: LoopConfig) -> None:
    """Refuse what cannot be here, before any work.

    Raises:
        InputError: when the tracker is not installed, there are more processes than devices for them, or accelerate is
            told another precision than float32 or bfloat16.
    """
    trackers = [one.value for one in get_available_trackers()]
    if config.tracker is not None and config.tracker not in trackers:
        raise InputError(
            f"loop.tracker is {config.tracker!r}, and installed here: {', '.join(trackers) or 'none'}; "
            "choose one of these, or leave it out"
        )
    processes, devices = int(os.environ.get("LOCAL_WORLD_SIZE", "1")), torch.accelerator.device_count()
    if 0 < devices < processes and not parse_flag_from_env("ACCELERATE_USE_CPU"):
        raise InputError(
            f"{processes} processes were started for {devices} device(s): start one for each, or set "
            "ACCELERATE_USE_CPU=true to compute on processors"
        )
    precision = _accelerator().mixed_precision
    if precision not in ("no", "bf16"):
        raise InputError(f"accelerate's mixed precision is {precision!r}: choose 'bf16' or 'no'")


def claim_run(config: LoopConfig, setting: dict[str, Any], what: str) -> None:
    """See that an output folder holds no run of another setting, which is all that weights follow from but `config`.

    Raises:
        InputError: when it does.
    """
    output = Path(config.output)
    made = newest_step(output / "checkpoints") is not None
    setting = setting | {"loop": config.setting, "mixed_precision": _accelerator().mixed_precision}
    claim(output / "run.json", setting, what, made)


def use_threads(config: LoopConfig) -> None:
    """Have torch use as many processor threads as configured, from now on."""
    if config.threads is not None:
        torch.set_num_threads(config.threads)


def train(task: Task, config: LoopConfig) -> None:
    """Run a task to its last step, from its newest checkpoint if the output folder holds one.

    Raises:
        InputError: as `check_environment`; when too many steps in a row have no finite loss, or the last one cannot be
            saved.
    """
    check_environment(config)
    use_threads(config)
    accelerator = _accelerator(log_with=config.tracker, project_dir=config.output if config.tracker else None)
    Path(config.output).mkdir(parents=True, exist_ok=True)
    if config.tracker:
        accelerator.init_trackers(Path(config.output).name)
    _Run(task, config, accelerator).to_the_end()
    accelerator.wait_for_everyone()  # what the first process exports is there when any of them returns
    for tracker in accelerator.trackers:  # `end_training` would also end the processes' group, which a next stage needs
        tracker.finish()


def _accelerator(**options: Any) -> Accelerator:
    """Accelerate, as launched; it has to be told that there is no device, or processes do not find each other."""
    return Accelerator(cpu=not torch.accelerator.is_available(), **options)


class _Run:
    """One call of `train`."""

    def __init__(self, task: Task, config: LoopConfig, accelerator: Accelerator) -> None:
        self.task, self.config, self.accelerator = task, config, accelerator
        self.folder = Path(config.output)
        self.step_module = accelerator.prepare(_Step(task))
        self.average = _running_average(task.model, config.ema_decay)
        self.optimizers = [accelerator.prepare(optimizer) for optimizer in task.optimizers()]
        self.schedules = [_schedule(optimizer, config) for optimizer in self.optimizers]
        self.step, self.skipped_in_a_row = 0, 0
        seconds = self._resume()
        curve, self.skipped = self.folder / "log.jsonl", self.folder / "skipped.jsonl"
        if accelerator.is_main_process:  # a killed run had gone on past its newest checkpoint
            drop_json_lines_after(curve, self.step)
            drop_json_lines_after(self.skipped, self.step - 1)
        self.log = TrainingLog(curve, accelerator, seconds)
        self.saved_at = time.monotonic()

    def to_the_end(self) -> None:
        """All steps that are left."""
        config, visible = self.config, self.accelerator.is_local_main_process
        with tqdm(
            total=config.steps, initial=self.step, desc=self.folder.name, mininterval=5, disable=not visible
        ) as bar:
            while self.step < config.steps:
                self._take_step()
                self.step += 1
                bar.update()
                done = self.step == config.steps
                if (done or self.step % config.log_steps == 0) and self.log.steps:
                    bar.set_postfix(self.log.write(self.step))
                if self._agreed(done or time.monotonic() - self.saved_at > config.checkpoint_minutes * 60):
                    self._save()

    def _take_step(self) -> None:
        """Forward and back over the batches of a step; the weights change if all is finite."""
        count = self.config.gradient_accumulation_steps
        batches, given = [], []
        for number in range(self.step * count, (self.step + 1) * count):
            batches.append(self.task.batch(number))
            given.append(self.step_module(self.average, batches[-1]))
            self.accelerator.backward(given[-1].total / count)
        norm = self.accelerator.clip_grad_norm_(self.task.model.parameters(), self.config.clip_norm)
        finite = bool(torch.isfinite(norm)) and all(bool(torch.isfinite(one.total)) for one in given)
        if self._agreed(finite):
            self._update()
            for losses in given:
                self.log.add({"loss": losses.total, **losses.parts, "gradient_norm": norm}, losses.count)
        else:
            self._skip([name for batch in batches for name in self.task.sample_names(batch)])
        for schedule in self.schedules:
            schedule.step()
        for optimizer in self.optimizers:
            optimizer.zero_grad()

    def _update(self) -> None:
        self.skipped_in_a_row = 0
        for optimizer in self.optimizers:
            optimizer.step()
        if isinstance(self.average, AveragedModel):
            self.average.update_parameters(self.task.model)

    def _skip(self, samples: list[str]) -> None:
        self.skipped_in_a_row += 1
        append_json_line(self.skipped, {"step": self.step, "samples": samples})
        if self.skipped_in_a_row >= self.config.max_skipped:
            raise InputError(
                f"training in {self.config.output!r}: the last {self.skipped_in_a_row} steps had no finite loss "
                "(skipped.jsonl names their samples): look at the samples, or start again elsewhere with a lower rate"
            )

    def _agreed(self, finite: bool) -> bool:
        """Whether all processes say so."""
        flag = torch.tensor(float(finite), device=self.accelerator.device)
        return self.accelerator.reduce(flag, "mean").item() == 1.0

    def _parts(self) -> list[Any]:
        return [self.task.model, self.average, *self.optimizers, *self.schedules]

    def _save(self) -> None:
        """Export and checkpoint, in this order: what a killed run had not exported, the checkpoint before will make up.

        What fails is reported, and the last good checkpoint stays.

        Raises:
            InputError: when it was the last step that could not be saved.
        """
        self.saved_at = time.monotonic()
        tasks = gather_object([self.task.state_dict()])
        if not self.accelerator.is_main_process:
            return
        parts = [part.state_dict() for part in self._parts()]
        state = {"step": self.step, "seconds": self.log.seconds, "tasks": tasks, "parts": parts}
        try:
            self.task.export(
                self.average.module if isinstance(self.average, AveragedModel) else self.average, self.folder
            )
            write_checkpoint(self.folder / "checkpoints", self.step, state)
        except OSError as error:
            if self.step == self.config.steps:
                raise InputError(
                    f"training in {self.config.output!r}: the last step could not be saved ({error}): make room, and "
                    "start it again to go on from its newest checkpoint"
                ) from error
            logger.warning("step %d could not be saved (%s): the last good checkpoint stays", self.step, error)

    def _resume(self) -> float:
        """Go on from the newest checkpoint, if there is one; the seconds spent so far."""
        saved = read_newest(self.folder / "checkpoints")
        if saved is None:
            return 0.0
        for part, state in zip(self._parts(), saved["parts"], strict=True):
            part.load_state_dict(state)
        if self.accelerator.process_index < len(saved["tasks"]):  # a process more than there were begins its own
            self.task.load_state_dict(saved["tasks"][self.accelerator.process_index])
        self.step = saved["step"]
        return saved["seconds"]


def _running_average(model: nn.Module, decay: float) -> nn.Module:
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay)) if decay else model


def _schedule(optimizer: Optimizer, config: LoopConfig) -> LRScheduler:
    decay_steps = round(config.steps * config.decay_share)
    if decay_steps == 0:
        return get_constant_schedule_with_warmup(optimizer, config.warmup_steps)
    return get_wsd_schedule(
        optimizer,
        num_warmup_steps=config.warmup_steps,
        num_decay_steps=decay_steps,
        num_training_steps=config.steps,
        decay_type="linear",
    )
