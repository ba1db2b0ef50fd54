"""A teacher whose weights are sharded over the processes: a forward pass gathers one layer after another.

    process 0   | pass   pass   pass   pass   |          a process with more passes than the others
    process 1   | pass   pass   gather gather |          gathers layers for them until all are done
                in_lockstep                   end

Decisions:
- A gather needs all processes, and the number of passes depends on their samples: answers end early, some rollouts
  start from partly known images, one process has more files to write. So the processes agree before each pass, and
  those that have none left take part in the gathers. This does not depend on what a pass is for.
- Between rollouts, a process holds its shards alone. In a rollout, embeddings and head are whole, since they are used
  outside of the layers too, and one layer, with the next one under way.
- Layers are gathered where `packed_forward` calls their functions; it does not call their modules.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor
from torch.distributed.fsdp import FSDPModule

from showo_turbo.models.packed_forward import LayerOps, Rotary, combine, project, project_keys_values
from showo_turbo.models.phi import PhiLayer
from showo_turbo.models.showo import Showo
from showo_turbo.training.sharding import shard


def shard_teacher(model: Showo, device: torch.device) -> None:
    """Shard the weights of a teacher over all processes, in place and layer by layer.

    Args:
        model: the teacher, which may be on the CPU.
        device: of the shards.
    """
    shard(model.requires_grad_(False).eval(), device)
    passes = _GatheredPasses(model, device)
    model.layer_ops = _GatheredLayerOps(
        passes.project, passes.project_keys_values, combine=passes.combine, passes=passes
    )


def in_lockstep(model: Showo) -> AbstractContextManager[None]:
    """Let all processes take the same number of forward passes of a sharded teacher in the block.

    All processes must enter it equally often; blocks may be nested. Other models compute as they are.
    """
    ops = model.layer_ops
    return ops.passes.lockstep() if isinstance(ops, _GatheredLayerOps) else nullcontext()


class _GatheredPasses:
    """Gather the layers of a sharded teacher, each for the time of its part of a forward pass."""

    def __init__(self, model: Showo, device: torch.device) -> None:
        """Set the teacher."""
        self.root = cast(FSDPModule, model)
        self.layers = cast("list[FSDPModule]", list(model.showo.model.layers))
        self.device, self.is_open = device, False

    @contextmanager
    def lockstep(self) -> Iterator[None]:
        """See `in_lockstep`. After an error in the block, this process takes part in no more passes."""
        if self.is_open:
            yield
            return
        self.root.unshard()
        self.is_open = True
        try:
            yield
            while self._any_needs_a_pass(False):
                for number, layer in enumerate(self.layers):
                    self._gather(number)
                    layer.reshard()
        finally:
            self.is_open = False
            for module in (*self.layers, self.root):
                module.reshard()

    def project(self, layer: PhiLayer, hidden: Tensor, rotary: Rotary) -> tuple[Tensor, Tensor, Tensor]:
        """See `packed_forward.project`."""
        self._begin(layer)
        return project(layer, hidden, rotary)

    def project_keys_values(self, layer: PhiLayer, hidden: Tensor, rotary: Rotary) -> tuple[Tensor, Tensor]:
        """See `packed_forward.project_keys_values`."""
        self._begin(layer)
        return project_keys_values(layer, hidden, rotary)

    def combine(self, layer: PhiLayer, hidden: Tensor, normed: Tensor, mixed: Tensor) -> Tensor:
        """See `packed_forward.combine`, the last function of a layer."""
        result = combine(layer, hidden, normed, mixed)
        cast(FSDPModule, layer).reshard()
        return result

    def _begin(self, layer: PhiLayer) -> None:
        """Gather a layer; the first one begins a pass."""
        number = self.layers.index(cast(FSDPModule, layer))
        if number == 0:
            self.layers[-1].reshard()  # a pass without scored rows has left it gathered
            self._any_needs_a_pass(True)
        self._gather(number)

    def _gather(self, number: int) -> None:
        """Gather a layer, and begin to gather the one after it."""
        with torch.inference_mode(False), torch.no_grad():
            self.layers[number].unshard()
            if number + 1 < len(self.layers):
                self.layers[number + 1].unshard(async_op=True)

    def _any_needs_a_pass(self, needs_one: bool) -> bool:
        """Return whether any process needs a pass. All of them call it before each pass."""
        any_needs_one = torch.tensor(int(needs_one), device=self.device)
        torch.distributed.all_reduce(any_needs_one, torch.distributed.ReduceOp.MAX)
        return bool(any_needs_one)


@dataclass(frozen=True, kw_only=True)
class _GatheredLayerOps(LayerOps):
    """Hold the functions of layers that are gathered for them."""

    passes: _GatheredPasses
