"""DeepSpeed's ZeRO-2 and ZeRO-3, as accelerate's config file chooses.

Decisions:
- Stage and offload of the optimizer are those of accelerate's config file. Everything else is the training's own
  configuration: weights are float32, and losses are computed under autocast, as without DeepSpeed.
- DeepSpeed skips a step if the norm of the averaged gradients is NaN or infinite. So a process whose loss is NaN or
  infinite makes its gradients NaN, and all processes skip the step.
- DeepSpeed's own checkpoints are not used: reading one executes what it holds. Weights and moments are gathered one at
  a time, and each process keeps its rows, as checkpoints of FSDP2 have them. A run resumes with or without DeepSpeed.
- Moments are allocated before the first step: DeepSpeed gathers those of a parameter only if they exist.
- ZeRO-3 leaves empty parameters in the model between forward passes; FSDP2 shards its EMA.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim.lr_scheduler import LRScheduler

from showo_turbo.training.deepspeed_state import MOMENTS, DeepSpeedState, Rows
from showo_turbo.training.ema_model import EmaModel
from showo_turbo.training.loop_config import LoopConfig
from showo_turbo.training.parallelism import DataParallel, average_of
from showo_turbo.training.run_state import RunState
from showo_turbo.training.sharding import WholeCopy, shard
from showo_turbo.training.task import RootModule, StepLosses, Task

if TYPE_CHECKING:
    from accelerate import Accelerator


class Zero2(DataParallel):
    """Hold a part of gradients and moments in each process (ZeRO-2)."""

    def __init__(self, task: Task[Any, Any], config: LoopConfig, accelerator: "Accelerator") -> None:
        """Start DeepSpeed's engine with the model of a task and its AdamW."""
        import deepspeed

        self.task, self.config, self.accelerator = task, config, accelerator
        self.average = average_of(task.model.to(accelerator.device), config)
        self.ema = EmaModel(task.model if self.average is None else self.average.module, RootModule(task.model), None)
        self.optimizers = task.optimizers()
        self.engine, *_ = deepspeed.initialize(
            model=_TupleRoot(task.model),
            optimizer=self.optimizers[0],
            config=_engine_config(config, accelerator),
            dist_init_required=False,
        )
        self.rows = Rows()
        if accelerator.state.deepspeed_plugin.offload_optimizer_device == "cpu":
            for group in self.optimizers[0].param_groups:
                group["fused"] = True  # several times faster on a CPU
        for part in self.partitions():
            moments = {name: torch.zeros_like(part, requires_grad=False) for name in MOMENTS}
            self.optimizers[0].state[part] = {"step": torch.zeros(()), **moments}
        self.link_moments()

    def partitions(self) -> list[Tensor]:
        """Return the weights that this process updates: parts of many parameters, end to end in one tensor or a few."""
        return self.engine.optimizer.single_partition_of_fp32_groups

    def link_moments(self) -> None:
        """Let DeepSpeed find the moments of a parameter in those of the partitions."""
        from deepspeed.utils import lazy_init_hp_params_optimizer_state

        for group, part in zip(self.engine.optimizer.bit16_groups, self.partitions(), strict=True):
            lazy_init_hp_params_optimizer_state(group, part, self.optimizers[0].state)

    def run_state(self, schedules: Sequence[LRScheduler]) -> RunState:
        """Return the state of model, EMA, optimizer and schedules."""
        return DeepSpeedState(self, schedules)

    def losses(self, batch: Any) -> StepLosses:
        """Compute the losses of a batch."""
        return StepLosses(*self.engine(self.task.losses, self.ema.model, batch))

    def backward(self, loss: Tensor) -> None:
        """Accumulate the gradients of a loss, which are NaN if the loss is NaN or infinite."""
        self.engine.backward(loss if torch.isfinite(loss) else loss * torch.nan, scale_wrt_gas=False)

    def step(self, finite: bool) -> Tensor | None:
        """Update weights and EMA, unless gradients are NaN or infinite, as `backward` makes them; clear gradients."""
        del finite
        self.engine.step()
        if not self.engine.was_step_applied():
            return None
        if self.average is not None:
            self.update_average()
        return torch.as_tensor(self.engine.get_global_grad_norm())

    def update_average(self) -> None:
        """Update the EMA by the weights."""
        assert self.average is not None
        self.average.update_parameters(self.task.model)

    def set_weight(self, parameter: nn.Parameter, weight: Tensor) -> None:
        """Set a parameter, and the copy of it that DeepSpeed updates."""
        from deepspeed.utils import safe_set_full_fp32_param

        parameter.data.copy_(weight)
        if parameter.requires_grad:
            safe_set_full_fp32_param(parameter, weight)


class Zero3(Zero2):
    """Hold a part of weights, gradients, moments and EMA in each process (ZeRO-3)."""

    def __init__(self, task: Task[Any, Any], config: LoopConfig, accelerator: "Accelerator") -> None:
        """Start DeepSpeed's engine, and shard the EMA."""
        copy = WholeCopy(task.model, accelerator.is_main_process)
        super().__init__(task, config, accelerator)
        task.model.register_state_dict_post_hook(lambda model, state, prefix, _: self.store_rows(model, state, prefix))
        ema_root = self.engine if self.average is None else RootModule(self.average)
        if self.average is not None:
            shard(ema_root, accelerator.device)
        self.ema = EmaModel(self.ema.model, ema_root, copy)

    def partitions(self) -> list[Tensor]:
        """Return the weights that this process updates."""
        return self.engine.optimizer.fp32_partitioned_groups_flat

    def link_moments(self) -> None:
        """Do nothing: ZeRO-3 finds the moments by itself."""

    def update_average(self) -> None:
        """Update the sharded EMA by the weights, which are gathered one at a time."""
        assert self.average is not None
        weight = 1 - self.config.ema_decay if self.average.n_averaged else 1.0
        for mean, parameter in zip(self.average.module.parameters(), self.task.model.parameters(), strict=True):
            if parameter.requires_grad:
                with _gathered(parameter), torch.no_grad():
                    assert isinstance(mean, DTensor)
                    rows = distribute_tensor(parameter.detach(), mean.device_mesh, mean.placements, src_data_rank=None)
                    mean.to_local().lerp_(rows.to_local(), weight)
        self.average.n_averaged += 1

    def store_rows(self, model: nn.Module, state: dict[str, Any], prefix: str) -> None:
        """Gather one parameter at a time, and put the rows of this process into a `state_dict` of the model."""
        for name, parameter in model.named_parameters():
            with _gathered(parameter):
                state[prefix + name] = self.rows(parameter)

    def set_weight(self, parameter: nn.Parameter, weight: Tensor) -> None:
        """Set a sharded parameter, and the copy of it that DeepSpeed updates."""
        with _gathered(parameter, modifier_rank=0):
            super().set_weight(parameter, weight)


def _gathered(parameter: nn.Parameter, **options: Any) -> AbstractContextManager[None]:
    """Gather a sharded parameter in the block."""
    import deepspeed

    return deepspeed.zero.GatheredParameters([parameter], **options)


class _TupleRoot(RootModule):
    """Return losses as a tuple: ZeRO-3 gathers weights for the backward pass at the tensors that it finds in it."""

    def forward(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Return the fields of `StepLosses`."""
        losses = super().forward(function, *arguments)
        return losses.total, losses.parts, losses.count


def _engine_config(config: LoopConfig, accelerator: "Accelerator") -> dict[str, Any]:
    """Return the configuration of DeepSpeed's engine, with which every call of its `step` is a step."""
    plugin = accelerator.state.deepspeed_plugin
    offload = {"device": plugin.offload_optimizer_device}
    precision = {"enabled": accelerator.mixed_precision == "bf16", "dtype": "bfloat16"}
    return {
        "train_micro_batch_size_per_gpu": 1,  # for DeepSpeed's own statistics
        "managed_gradient_accumulation": False,
        "gradient_clipping": 0.0 if math.isinf(config.clip_norm) else config.clip_norm,
        "zero_optimization": {"stage": plugin.zero_stage, "offload_optimizer": offload},
        "zero_force_ds_cpu_optimizer": False,  # which is compiled when it is first used
        "torch_autocast": {**precision, "lower_precision_safe_modules": []},  # gradients are averaged in float32
        "steps_per_print": math.inf,
    }
