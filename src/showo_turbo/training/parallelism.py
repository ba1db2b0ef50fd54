"""How the processes of a training hold its weights and take a step together: each all of them, or each a part."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from showo_turbo.training.compilation import compile_layers
from showo_turbo.training.ema_model import EmaModel
from showo_turbo.training.loop_config import LoopConfig
from showo_turbo.training.processes import numbers_of_all, shards_weights, zero_stage
from showo_turbo.training.run_state import RunState
from showo_turbo.training.sharding import WholeCopy, shard, whole
from showo_turbo.training.task import RootModule, StepLosses, Task

if TYPE_CHECKING:
    from accelerate import Accelerator


class DataParallel:
    """Hold all weights in each process; several processes average their gradients (DDP).

    Attributes:
        ema: the EMA of the model, or the model if there is no EMA.
        optimizers: optimizers of the model.
    """

    def __init__(self, task: Task[Any, Any], config: LoopConfig, accelerator: "Accelerator") -> None:
        """Prepare the model of a task, its EMA and its optimizers."""
        self.task, self.config, self.accelerator = task, config, accelerator
        self.root = accelerator.prepare(RootModule(task.model))
        self.average = average_of(task.model, config)
        if config.compile:
            compile_layers(task.model)
        self.ema = EmaModel(task.model if self.average is None else self.average.module, self.root, None)
        self.optimizers = [accelerator.prepare(optimizer) for optimizer in task.optimizers()]

    def run_state(self, schedules: Sequence[LRScheduler]) -> RunState:
        """Return the state of model, EMA, optimizers and schedules."""
        return RunState(self.task.model, self.average, self.optimizers, schedules)

    def losses(self, batch: Any) -> StepLosses:
        """Compute the losses of a batch."""
        return self.root(self.task.losses, self.ema.model, batch)

    def backward(self, loss: Tensor) -> None:
        """Accumulate the gradients of a loss, which is divided by the batches of a step already."""
        self.accelerator.backward(loss)

    def step(self, finite: bool) -> Tensor | None:
        """Update weights and EMA, unless losses or gradients are NaN or infinite; clear the gradients.

        Args:
            finite: whether all losses of this process are finite.

        Returns:
            the norm of the gradients over all processes; None if nothing was updated.
        """
        norm = whole(self.accelerator.clip_grad_norm_(self.task.model.parameters(), self.config.clip_norm))
        taken = all(numbers_of_all(self.accelerator, finite and bool(torch.isfinite(norm))))
        if taken:
            for optimizer in self.optimizers:
                optimizer.step()
            if self.average is not None:
                self.average.update_parameters(self.task.model)
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        return norm if taken else None


class FullyShardedDataParallel(DataParallel):
    """Hold a part of the weights, gradients, moments and EMA in each process (FSDP2)."""

    def __init__(self, task: Task[Any, Any], config: LoopConfig, accelerator: "Accelerator") -> None:
        """Shard the model of a task and its EMA."""
        self.task, self.config, self.accelerator = task, config, accelerator
        copy = WholeCopy(task.model, accelerator.is_main_process)
        self.root = ema_root = RootModule(task.model)
        self.average = average_of(task.model, config)
        if config.compile:
            compile_layers(task.model)
        if self.average is not None:
            ema_root = RootModule(self.average)
        for module in {self.root, ema_root}:
            shard(module, accelerator.device)
        self.ema = EmaModel(task.model if self.average is None else self.average.module, ema_root, copy)
        self.optimizers = [accelerator.prepare(optimizer) for optimizer in task.optimizers()]


def average_of(model: nn.Module, config: LoopConfig) -> AveragedModel | None:
    """Return the EMA of a model, which starts as a copy; None if it is not configured."""
    if not config.ema_decay:
        return None
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(config.ema_decay))


def distribute(task: Task[Any, Any], config: LoopConfig, accelerator: "Accelerator") -> DataParallel:
    """Distribute the training of a task over the processes as configured."""
    if stage := zero_stage():
        from showo_turbo.training.deepspeed_engine import Zero2, Zero3

        return (Zero3 if stage == 3 else Zero2)(task, config, accelerator)
    if shards_weights(config.sharding):
        return FullyShardedDataParallel(task, config, accelerator)
    return DataParallel(task, config, accelerator)
