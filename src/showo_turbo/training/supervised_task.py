"""Supervised training of the transformer as a task of the training loop; pre-training and fine-tuning are instances.

    samples --Term.batch--> SupervisedBatch --supervised_loss--> mean cross entropy * weight --+--> total loss
                                                                       (one for each term)    -+

The terms differ in their data and in the ids that they predict: those of the codebook, or all.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.optim import Optimizer

from showo_turbo.models.showo import Showo
from showo_turbo.training.optimizers import OptimizerConfig, build_optimizers
from showo_turbo.training.processes import gather_from_all, process_state
from showo_turbo.training.supervised_batches import SupervisedBatch, supervised_loss
from showo_turbo.training.task import StepLosses, Task
from showo_turbo.vocabulary import Vocabulary


@dataclass(frozen=True)
class NamedBatch:
    """Hold a batch and the names of its samples, which locate them in logs."""

    batch: SupervisedBatch
    names: list[str]


@dataclass(frozen=True)
class Term:
    """Define a term of the loss.

    Attributes:
        weight: in the total loss.
        batch: returns a batch by its number, from 0.
        predicts_codes: labels are codes, which are predicted among the codebook's ids; otherwise among all ids.
        held_out: likewise for batches of held-out samples, the same in every call.
        num_held_out: number of held-out batches.
    """

    weight: float
    batch: Callable[[int], NamedBatch]
    predicts_codes: bool = False
    held_out: Callable[[int], NamedBatch] | None = None
    num_held_out: int = 0


class SupervisedTask(Task[Showo, dict[str, NamedBatch]]):
    """Train a model on the sum of terms."""

    def __init__(
        self,
        model: Showo,
        vocabulary: Vocabulary,
        terms: Mapping[str, Term],
        optimizer: OptimizerConfig,
        export: Callable[[Showo, Path], None],
        draw_samples: Callable[[Showo, Path], None] | None = None,
    ) -> None:
        """Set model and data.

        Args:
            model: is trained, see `adapters.prepare_model`.
            vocabulary: its ids.
            terms: by their names in the log.
            optimizer: of the trainable weights.
            export: see `Task.export`.
            draw_samples: see `Task.draw_samples`; None draws none.
        """
        self.model, self.vocabulary, self.terms, self.optimizer = model, vocabulary, terms, optimizer
        self._export, self._draw_samples = export, draw_samples
        self.can_be_sharded = optimizer.name == "adamw"

    def optimizers(self) -> list[Optimizer]:
        """Build the configured optimizers."""
        return build_optimizers(self.model, self.optimizer)

    def batch(self, number: int) -> dict[str, NamedBatch]:
        """Return a batch of each term."""
        return {name: self._on_device(term.batch(number)) for name, term in self.terms.items()}

    def losses(self, ema_model: Showo, batch: dict[str, NamedBatch]) -> StepLosses:
        """Compute the weighted sum of the mean cross entropies of all terms."""
        parts: dict[str, Tensor | float] = {
            name: self._loss(self.model, self.terms[name], one) for name, one in batch.items()
        }
        total = torch.zeros((), device=self.model.device)
        for name, part in parts.items():
            total = total + self.terms[name].weight * part
        return StepLosses(total, parts, sum(len(one.names) for one in batch.values()))

    def sample_names(self, batch: dict[str, NamedBatch]) -> list[str]:
        """Return the names of the samples of a batch."""
        return [name for one in batch.values() for name in one.names]

    def validate(self, model: Showo) -> dict[str, float]:
        """Return the mean losses of the held-out batches; each process computes a part of them.

        All processes compute equally many batches, which a sharded model needs, and do not count those beyond the last.
        """
        state = process_state()
        sums: dict[str, list[tuple[float, int]]] = {}
        for name, term in self.terms.items():
            if term.held_out is None:
                continue
            losses = []
            for first in range(0, term.num_held_out, state.num_processes):
                number = first + state.process_index
                batch = self._on_device(term.held_out(number % term.num_held_out))
                loss = float(self._loss(model, term, batch))
                losses += [loss] if number < term.num_held_out else []
            sums[name] = gather_from_all((sum(losses), len(losses)))
        means = {
            name: sum(loss for loss, _ in parts) / sum(count for _, count in parts) for name, parts in sums.items()
        }
        total = sum(self.terms[name].weight * mean for name, mean in means.items())
        return {"loss": round(total, 4)} | {name: round(mean, 4) for name, mean in means.items()} if means else {}

    def draw_samples(self, model: Showo, file: Path) -> None:
        """Write a sample sheet, if there is one."""
        if self._draw_samples is not None:
            self._draw_samples(model, file)

    def export(self, model: Showo, folder: Path) -> None:
        """Write the model."""
        self._export(model, folder)

    def _loss(self, model: Showo, term: Term, named: NamedBatch) -> Tensor:
        codes = (self.vocabulary.image_offset, self.vocabulary.mask_id) if term.predicts_codes else ()
        return supervised_loss(model, named.batch, *codes)

    def _on_device(self, named: NamedBatch) -> NamedBatch:
        return NamedBatch(named.batch.to(self.model.device), named.names)
