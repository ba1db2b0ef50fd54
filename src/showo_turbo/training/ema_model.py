"""The model that a training validates and exports: the EMA of the weights, or the weights, sharded or not."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

from torch import nn
from torch.distributed.fsdp import FSDPModule

from showo_turbo.training.sharding import WholeCopy

T = TypeVar("T")


class EmaModel:
    """Open the EMA of the model, or the model if there is no EMA, for use outside of the steps."""

    def __init__(self, model: nn.Module, root: nn.Module, copy: WholeCopy[nn.Module] | None) -> None:
        """Set the model.

        Args:
            model: the model.
            root: the `RootModule` around it, which is sharded if the model is.
            copy: for the weights of a sharded model; None if it is not sharded.
        """
        self.model, self.root, self.copy = model, root, copy

    def evaluate(self, function: Callable[[nn.Module], T]) -> T:
        """Return the result of a function of the model in evaluation mode. All processes must call it."""
        was_training = self.model.training
        self.model.eval()
        if isinstance(self.root, FSDPModule):
            result: T = self.root(function, self.model)
            self.root.reshard()  # without a backward pass, embeddings and head would stay whole
        else:
            result = function(self.model)
        self.model.train(was_training)
        return result

    def whole(self) -> AbstractContextManager[nn.Module]:
        """Open the model for one process alone, the main one. All processes must call it."""
        return nullcontext(self.model) if self.copy is None else self.copy.updated(self.model)
