"""FSDP2: weights, gradients, moments and EMA, sharded over the processes of a training.

Decisions:
- torch's `fully_shard` is called directly, since accelerate has FSDP on GPUs only; so it is tested on CPUs, by gloo.
- The root is the module whose forward pass is the whole loss: embeddings and head, which a task uses outside of the
  transformer's forward pass too, are whole there. Each layer of the transformer is gathered when it is computed.
- Checkpoints hold whole tensors, like those of a training that is not sharded. So a run may be resumed on another
  number of processes, sharded or not.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from showo_turbo.models.phi import PhiLayer


def shard(root: nn.Module, device: torch.device) -> None:
    """Shard the parameters of a module, in place, over all processes."""
    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    for module in root.modules():
        if isinstance(module, PhiLayer):
            fully_shard(module, mesh=mesh)
    fully_shard(root, mesh=mesh)


def whole(state: Any, keep: bool = True) -> Any:
    """Return a state with whole tensors, on the CPU, in place of sharded ones. All processes must call it.

    Args:
        state: a tensor, or dicts and lists of tensors and other values.
        keep: return the tensors; otherwise None in their place, where another process uses them.
    """
    if isinstance(state, DTensor):
        tensor = state.full_tensor()
        return tensor.cpu() if keep else None
    if isinstance(state, dict):
        return {key: whole(value, keep) for key, value in state.items()}
    if isinstance(state, list):
        return [whole(value, keep) for value in state]
    return state


def load_whole(stateful: Any, state: dict[str, Any]) -> None:
    """Load a state of whole tensors into a module, an optimizer or a schedule, whose parameters may be sharded."""
    if isinstance(stateful, nn.Module):
        own = stateful.state_dict()
        state = {name: _like(own.get(name), value) for name, value in state.items()}
    elif hasattr(stateful, "param_groups"):
        parameters = [parameter for group in stateful.param_groups for parameter in group["params"]]
        moments = {
            number: {name: _like(parameters[number], value) for name, value in values.items()}
            for number, values in state["state"].items()
        }
        state = state | {"state": moments}
    stateful.load_state_dict(state)


def _like(own: Any, value: Any) -> Any:
    """Return this process's shard of a tensor if its own one is sharded and has the same shape; or the value itself."""
    if isinstance(own, DTensor) and isinstance(value, Tensor) and value.shape == own.shape:
        return distribute_tensor(value.to(own.device), own.device_mesh, own.placements, src_data_rank=None)
    return value
