"""The training loop that image tokenizer and transformer share.

A task knows its model, its optimizers and the loss of one step; the loop knows steps, learning rates, the running
average of the weights, checkpoints and the log. Data is drawn from (seed, step), so a resumed run sees what an
uninterrupted one would have seen, and a checkpoint needs no random state.
"""

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm
from transformers import get_wsd_schedule

from showo_turbo.errors import InputError


@dataclass(frozen=True)
class LoopConfig:
    """How long and how a training runs.

    Attributes:
        output: folder of the run: `last.pt` (checkpoint), `log.jsonl` (curve) and what the task exports.
        steps: optimizer steps in all.
        seed: of weights and data.
        warmup_steps: linear rise of the learning rate.
        decay_share: share of the steps, at the end, over which the learning rate falls linearly to zero.
        ema_decay: of the average of the weights that is evaluated and exported.
        clip_norm: largest gradient norm.
        log_steps: steps between two lines of the log.
        checkpoint_minutes: minutes between two checkpoints.
        threads: processor threads.
    """

    output: str = "runs/unnamed"
    steps: int = 1000
    seed: int = 0
    warmup_steps: int = 100
    decay_share: float = 0.4
    ema_decay: float = 0.999
    clip_norm: float = 1.0
    log_steps: int = 50
    checkpoint_minutes: float = 3.0
    threads: int = 2

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise InputError(f"loop.steps is {self.steps}; a training has at least 1 step")
        if not 0 <= self.decay_share <= 1:
            raise InputError(f"loop.decay_share is {self.decay_share}; it is a share between 0 and 1")


class Task(Protocol):
    """What is trained."""

    model: nn.Module

    def optimizers(self) -> list[Optimizer]:
        """Optimizers over the model's parameters."""

    def losses(self, model: nn.Module, step: int) -> dict[str, Tensor]:
        """Scalar losses of one step by name; `loss` is the one to minimise."""

    def export(self, model: nn.Module, folder: Path) -> None:
        """Write the averaged model in the layout that the library loads."""


def train(task: Task, config: LoopConfig) -> None:
    """Run a task to its last step, from its checkpoint if the output folder holds one."""
    torch.set_num_threads(config.threads)
    folder = Path(config.output)
    folder.mkdir(parents=True, exist_ok=True)
    accelerator = Accelerator()
    model = accelerator.prepare(task.model)
    average = AveragedModel(task.model, multi_avg_fn=get_ema_multi_avg_fn(config.ema_decay))
    optimizers = [accelerator.prepare(optimizer) for optimizer in task.optimizers()]
    schedules = [_schedule(optimizer, config) for optimizer in optimizers]
    parts = [task.model, average, *optimizers, *schedules]
    start, seconds_before = _resume(folder / "last.pt", parts)
    log = _Log(folder / "log.jsonl", seconds_before)
    saved_at = time.monotonic()
    with tqdm(total=config.steps, initial=start, desc=folder.name, mininterval=5) as bar:
        for step in range(start, config.steps):
            losses = task.losses(model, step)
            accelerator.backward(losses["loss"])
            norm = accelerator.clip_grad_norm_(model.parameters(), config.clip_norm)
            for optimizer, schedule in zip(optimizers, schedules, strict=True):
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
            average.update_parameters(task.model)
            log.add({**losses, "gradient_norm": norm})
            bar.update()
            if (step + 1) % config.log_steps == 0:
                bar.set_postfix(log.write(step + 1))
            if time.monotonic() - saved_at > config.checkpoint_minutes * 60 or step + 1 == config.steps:
                _save(folder / "last.pt", parts, step + 1, log.seconds)
                task.export(average.module, folder)
                saved_at = time.monotonic()


def _schedule(optimizer: Optimizer, config: LoopConfig) -> torch.optim.lr_scheduler.LambdaLR:
    return get_wsd_schedule(
        optimizer,
        num_warmup_steps=config.warmup_steps,
        num_decay_steps=max(1, round(config.steps * config.decay_share)),
        num_training_steps=config.steps,
        decay_type="linear",
    )


def _save(path: Path, parts: list, step: int, seconds: float) -> None:
    """Write a checkpoint beside the old one, then swap, so that a whole one is there at any moment."""
    partial = path.with_suffix(".partial")
    torch.save({"step": step, "seconds": seconds, "parts": [part.state_dict() for part in parts]}, partial)
    os.replace(partial, path)


def _resume(path: Path, parts: list) -> tuple[int, float]:
    if not path.exists():
        return 0, 0.0
    saved = torch.load(path, weights_only=True)
    for part, state in zip(parts, saved["parts"], strict=True):
        part.load_state_dict(state)
    return saved["step"], saved["seconds"]


class _Log:
    """Means of the losses since the last line, one JSON object a line, with the wall time of all sessions."""

    def __init__(self, path: Path, seconds_before: float) -> None:
        self.path, self.sums, self.count = path, {}, 0
        self.start = time.monotonic() - seconds_before

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.start

    def add(self, values: dict[str, Tensor]) -> None:
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + value.detach()
        self.count += 1

    def write(self, step: int) -> dict[str, float]:
        means = {name: round(float(total) / self.count, 4) for name, total in self.sums.items()}
        with self.path.open("a") as file:
            file.write(json.dumps({"step": step, "seconds": round(self.seconds, 1), **means}) + "\n")
        self.sums, self.count = {}, 0
        return means
