"""One stage of a distillation with distribution matching, as a task of the training loop."""

import random
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch.optim import Optimizer

from showo_turbo.distillation.consistency_task import ConsistencyTask, DistillationBatch
from showo_turbo.distillation.distribution_matching import (
    RemaskedImages,
    StudentAndScore,
    distribution_matching,
    draw_images,
)
from showo_turbo.models.showo import Showo
from showo_turbo.training.optimizers import build_optimizers
from showo_turbo.training.processes import process_state
from showo_turbo.training.task import StepLosses, Task


@dataclass(frozen=True)
class MatchingBatch:
    """Hold one batch of training data.

    Attributes:
        consistency: trajectories of the teacher.
        images: images of the student.
        weight: weight of distribution matching in the total loss.
    """

    consistency: DistillationBatch
    images: RemaskedImages
    weight: float


class DistributionMatchingTask(Task[StudentAndScore, MatchingBatch]):
    """Train a student on the trajectories of a teacher and on its own images, and a score of these images."""

    def __init__(self, consistency: ConsistencyTask, score: Showo) -> None:
        """Add distribution matching to a task.

        Args:
            consistency: the task of the other terms.
            score: a copy of the teacher, see `adapters.prepare_model`.
        """
        self.consistency, self.stage = consistency, consistency.stage
        self.model = StudentAndScore(consistency.model, score)

    def optimizers(self) -> list[Optimizer]:
        """Build the stage's optimizers, for student and score."""
        optimizer, scale = self.stage.optimizer, self.stage.image.distribution_matching.score_lr_scale
        scaled = replace(optimizer, lr=scale * optimizer.lr, muon_lr=scale * optimizer.muon_lr)
        return self.consistency.optimizers() + build_optimizers(self.model.score, scaled)

    def batch(self, number: int) -> MatchingBatch:
        """Return a batch of the other terms, and images of the current student from the same prompts."""
        stage, term, loop = self.stage, self.stage.image.distribution_matching, self.stage.loop
        batch = self.consistency.batch(number)
        assert batch.images is not None  # distribution matching needs the image term
        rng = random.Random(f"{loop.seed}/matching/0/{number}")
        sampling = rng.choice(term.samplings(stage.sampling))
        images = draw_images(
            self.consistency.teacher,
            self.model.student,
            batch.images.trajectories,
            sampling,
            stage.image.guidance_scale,
            rng,
        )
        step = number // (loop.gradient_accumulation_steps * process_state().num_processes)
        return MatchingBatch(batch, images, term.weight if step >= loop.warmup_steps else 0.0)

    def losses(self, ema_model: StudentAndScore, batch: MatchingBatch) -> StepLosses:
        """Add the losses of student and score to those of the other terms."""
        vocabulary = self.consistency.teacher.prompts.vocabulary
        others = self.consistency.losses(ema_model.student, batch.consistency)
        matching, score, gap = distribution_matching(self.model, batch.images, vocabulary)
        total = others.total + batch.weight * matching + score
        return StepLosses(total, others.parts | {"score": score, "score_gap": gap}, others.count)

    def sample_names(self, batch: MatchingBatch) -> list[str]:
        """Return the texts of a batch, see `ConsistencyTask.sample_names`."""
        return self.consistency.sample_names(batch.consistency)

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the other terms."""
        return self.consistency.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state."""
        self.consistency.load_state_dict(state)

    def export(self, model: StudentAndScore, folder: Path) -> None:
        """Write the student, see `ConsistencyTask.export`."""
        self.consistency.export(model.student, folder)
