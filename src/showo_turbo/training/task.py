"""What a training is of, as the loop sees it: a model, its optimizers, batches and their losses."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from torch import Tensor, nn
from torch.optim import Optimizer

from showo_turbo.errors import InputError

Batch = TypeVar("Batch")


@dataclass(frozen=True)
class StepLosses:
    """What one batch gave.

    Attributes:
        total: the loss to minimise, a scalar.
        parts: scalars for the log, by name.
        count: samples in the batch.
    """

    total: Tensor
    parts: dict[str, Tensor | float]
    count: int


class Task(ABC, Generic[Batch]):
    """What is trained; `model` is its module."""

    model: nn.Module

    @abstractmethod
    def optimizers(self) -> list[Optimizer]:
        """Optimizers over the model's parameters."""

    @abstractmethod
    def batch(self, number: int) -> Batch:
        """What there is to learn from, by its number from 0, on the model's device; no autocast is in force."""

    @abstractmethod
    def losses(self, average: nn.Module, batch: Batch) -> StepLosses:
        """Losses of a batch; `average` is the running average of the model (or the model)."""

    def sample_names(self, batch: Batch) -> list[str]:
        """What was in a batch, in words, where its number does not tell."""
        del batch
        return []

    @abstractmethod
    def export(self, model: nn.Module, folder: Path) -> None:
        """Write a model in the layout that the library loads."""

    def state_dict(self) -> dict[str, Any]:
        """What this process needs, when resumed, beyond the number of its next batch."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take a state back.

        Raises:
            InputError: when it is another task's.
        """
        if state:
            raise InputError(f"checkpoint holds {', '.join(state)}, which this training has no use for")
