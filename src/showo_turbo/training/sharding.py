"""FSDP2: weights, gradients, moments and EMA, sharded over the processes of a training.

Decisions:
- torch's `fully_shard` is called directly, since accelerate has FSDP on GPUs only; so it is tested on CPUs, by gloo.
- The root is the module whose forward pass is the whole loss: embeddings and head, which a task uses outside of the
  transformer's forward pass too, are whole there. Each layer of the transformer is gathered when it is computed.
- What draws images or writes files needs the weights in one process alone: a `WholeCopy`, which is in the CPU's memory
  between uses.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any, Generic, TypeVar

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from showo_turbo.models.phi import PhiLayer

Model = TypeVar("Model", bound=nn.Module)


def shard(root: nn.Module, device: torch.device) -> None:
    """Shard the parameters of a module, in place, over all processes."""
    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    for module in root.modules():
        if isinstance(module, PhiLayer):
            module.unpack()  # inference may have stored weights transposed, which `fully_shard` refuses
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


class WholeCopy(Generic[Model]):
    """Hold a copy of a model that is sharded afterwards, in the CPU's memory between uses."""

    def __init__(self, model: Model, is_here: bool = True) -> None:
        """Copy a model before it is sharded.

        Args:
            model: the model.
            is_here: whether this process has a copy; the others only take part in gathering its weights.
        """
        self._copy = deepcopy(model).cpu() if is_here else None

    @contextmanager
    def updated(self, sharded: Model) -> Iterator[Model]:
        """Yield the copy with the weights of the sharded model, on its device; without a copy, the sharded model.

        All processes must call it.
        """
        weights = whole(sharded.state_dict(), keep=self._copy is not None)
        if self._copy is None:
            yield sharded
            return
        self._copy.load_state_dict(weights)
        try:
            yield self._copy.to(next(sharded.parameters()).device)
        finally:
            self._copy.cpu()  # a GPU has room for it between steps only
