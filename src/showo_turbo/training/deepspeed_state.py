"""The state of a training by DeepSpeed, as checkpoints store it."""

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Shard, distribute_tensor
from torch.optim.lr_scheduler import LRScheduler

from showo_turbo.training.run_state import RunState
from showo_turbo.training.sharding import whole

if TYPE_CHECKING:
    from showo_turbo.training.deepspeed_engine import Zero2

MOMENTS = ("exp_avg", "exp_avg_sq")
"""AdamW's state of a parameter, besides the number of steps, which is that of all."""


class Rows:
    """Divide the rows of tensors among the processes, on their CPUs."""

    def __init__(self) -> None:
        """Connect the CPUs of all processes."""
        self.mesh = DeviceMesh.from_group(torch.distributed.new_group(backend="gloo"), "cpu")

    def __call__(self, tensor: Tensor) -> DTensor:
        """Copy the rows of this process of a tensor that all processes have."""
        part = distribute_tensor(tensor.detach(), self.mesh, [Shard(0)], src_data_rank=None)
        local, shape, stride = part.to_local().clone(), tensor.shape, tensor.stride()
        return DTensor.from_local(local, self.mesh, part.placements, run_check=False, shape=shape, stride=stride)


class DeepSpeedState(RunState):
    """Hold the state of a training; tensors that DeepSpeed shards are copies on the CPU."""

    def __init__(self, parallel: "Zero2", schedules: Sequence[LRScheduler]) -> None:
        super().__init__(parallel.task.model, parallel.average, parallel.optimizers, schedules)
        self.parallel, self.read = parallel, dict[str, Tensor]()
        self.steps = [state["step"] for state in self.optimizers[0].state.values()]

    def tensors(self) -> dict[str, Tensor]:
        """Return weights, EMA and moments by name."""
        from deepspeed.utils import safe_get_full_optimizer_state

        tensors = super().tensors()
        for name, parameter in self.model.named_parameters():
            if parameter.requires_grad:
                tensors[f"optimizer.{name}.step"] = self.steps[0].clone()
                for moment in MOMENTS:
                    whole_moment = safe_get_full_optimizer_state(parameter, moment)
                    tensors[f"optimizer.{name}.{moment}"] = self.parallel.rows(whole_moment)
        return tensors

    def allocate(self, stored: Collection[str]) -> dict[str, Tensor]:
        """Return tensors for a checkpoint to be read into; moments that it lacks stay zero."""
        tensors = self.tensors().items()
        self.read = {name: one for name, one in tensors if name in stored or not name.startswith("optimizer.")}
        return self.read

    def load_values(self, values: Mapping[str, Any]) -> None:
        """Restore the result of `values`, and hand DeepSpeed the tensors that were read."""
        from deepspeed.utils import safe_set_full_optimizer_state

        super().load_values(values)
        device = self.parallel.accelerator.device
        for name, parameter in self.model.named_parameters():
            self.parallel.set_weight(parameter, whole(self.read[f"model.{name}"]).to(device))
            for moment in MOMENTS:
                if (rows := self.read.get(f"optimizer.{name}.{moment}")) is not None:
                    safe_set_full_optimizer_state(parameter, whole(rows).to(device), moment)
        taken = [int(one) for name, one in self.read.items() if name.startswith("optimizer.") and one.ndim == 0]
        for step in self.steps:
            step.fill_(max(taken, default=0))
        self.read = {}
