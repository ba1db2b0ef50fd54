"""The interface between the training loop and what it trains: a model, optimizers, batches and their losses."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from torch import Tensor, nn
from torch.optim import Optimizer

from showo_turbo.errors import InputError

T = TypeVar("T")
Model = TypeVar("Model", bound=nn.Module)
Batch = TypeVar("Batch")


@dataclass(frozen=True)
class StepLosses:
    """Hold the losses of one batch.

    Attributes:
        total: the loss to minimise, a scalar.
        parts: scalars for the log, by name.
        count: samples in the batch.
    """

    total: Tensor
    parts: dict[str, Tensor | float]
    count: int


class Task(ABC, Generic[Model, Batch]):
    """Define a training.

    Attributes:
        model: the module that is trained.
        can_be_sharded: `losses` and `validate` are the only methods that compute with the sharded weights, in the same
            number of forward passes in all processes.
    """

    model: Model
    can_be_sharded = False

    @abstractmethod
    def optimizers(self) -> list[Optimizer]:
        """Build the optimizers of the model's parameters."""

    @abstractmethod
    def batch(self, number: int) -> Batch:
        """Return batch `number`, from 0 over all processes, on the model's device; runs outside of autocast."""

    @abstractmethod
    def losses(self, ema_model: Model, batch: Batch) -> StepLosses:
        """Compute the losses of a batch; `ema_model` is the EMA of the model, or the model if there is no EMA."""

    def sample_names(self, batch: Batch) -> list[str]:
        """Describe the samples of a batch, for the log of skipped steps; empty if the batch number is enough."""
        del batch
        return []

    def validate(self, model: Model) -> dict[str, float]:
        """Return the mean losses of held-out samples over all processes, `loss` is the one to minimise; empty without.

        Args:
            model: the EMA of the model, or the model if there is no EMA; in evaluation mode, without gradients.
        """
        del model
        return {}

    def draw_samples(self, model: Model, file: Path) -> None:
        """Write an image that shows what a model draws, if the task has one."""

    @abstractmethod
    def export(self, model: Model, folder: Path) -> None:
        """Write a model in the layout that the library loads."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state of this process that does not follow from the number of its next batch."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state of this process, or of another one if there are more processes than before.

        Raises:
            InputError: if it is the state of another task.
        """
        if state:
            raise InputError(f"checkpoint holds {', '.join(state)}, which this training does not use")


class RootModule(nn.Module):
    """Call functions that compute with a model in the forward pass of a module whose parameters are the model's."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, function: Callable[..., T], *arguments: Any) -> T:
        """Return the result of a function."""
        return function(*arguments)
