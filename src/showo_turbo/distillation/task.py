"""One stage as a task of the training loop."""

import random
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn
from torch.optim import Optimizer

from showo_turbo.checkpoints.saving import save_checkpoint
from showo_turbo.data import MixedStream
from showo_turbo.distillation.curriculum import Stage
from showo_turbo.distillation.image_trajectories import ImageTrajectories
from showo_turbo.distillation.objectives import (
    ImagePicks,
    TextPick,
    image_consistency,
    language_modelling,
    text_consistency,
)
from showo_turbo.distillation.progress import passes_per_block, sample_sheet
from showo_turbo.distillation.segments import segment_end
from showo_turbo.distillation.student import make_student, without_adapters
from showo_turbo.distillation.text_trajectories import JacobiTrajectory
from showo_turbo.distillation.trajectories import Trajectories, samples_of
from showo_turbo.pipeline import ShowoPipeline
from showo_turbo.training.curves import plot_curve
from showo_turbo.training.loop import StepLosses, Task
from showo_turbo.training.optimizers import build_optimizers

_BATCHES_PER_PROBE = 50
_BLOCKS_PROBED = 4


class Distillation(Task):
    """A student on its way along a teacher's trajectories."""

    def __init__(
        self,
        stage: Stage,
        teacher: ShowoPipeline,
        trajectories: Trajectories,
        texts: MixedStream | None,
        sheet_prompts: Sequence[str] = (),
        process: int = 0,
    ) -> None:
        """Put the parts together.

        Args:
            stage: what to learn.
            teacher: what the student starts from.
            trajectories: of the teacher.
            texts: for the language-modelling term; needed unless its weight is 0.
            sheet_prompts: for the sample sheet; no sheet without them.
            process: number of this process, each of which picks states of its own.
        """
        self.stage, self.teacher, self.trajectories, self.texts = stage, teacher, trajectories, texts
        self.sheet_prompts, self.process, self.passes_per_block = sheet_prompts, process, 0.0
        self.model = make_student(teacher.model, stage)

    def optimizers(self) -> list[Optimizer]:
        """As configured."""
        return build_optimizers(self.model, self.stage.optimizer)

    def losses(self, average: nn.Module, batch: int) -> StepLosses:
        """The weighted sum of all terms."""
        stage, vocabulary = self.stage, self.teacher.prompts.vocabulary
        target = getattr(average, "module", average) if stage.average_target else self.model
        rng = random.Random(f"{stage.loop.seed}/picks/{self.process}/{batch}")
        images = pick_states(self.trajectories.images(batch), stage, rng, self.model.device)
        blocks = [pick_iterates(block, stage.text.segments, rng) for block in self.trajectories.texts(batch)]
        image = image_consistency(self.model, target, images, vocabulary, stage.image.self_weight)
        text, autoregressive = text_consistency(self.model, target, blocks, vocabulary)
        if batch % _BATCHES_PER_PROBE == 0:
            probed = [pick.trajectory for pick in blocks[:_BLOCKS_PROBED]]
            self.passes_per_block = passes_per_block(self.model, probed, vocabulary)
        parts = {"image": image, "text": text, "autoregressive": autoregressive}
        total = stage.image.weight * image
        total = total + stage.text.weight * (text + stage.text.autoregressive_weight * autoregressive)
        if stage.language.weight:
            parts["language"] = language_modelling(self.model, self._texts(batch), vocabulary)
            total = total + stage.language.weight * parts["language"]
        parts["passes_per_block"] = self.passes_per_block
        return StepLosses(total, parts, len(images.steps) + len(blocks))

    def export(self, model: nn.Module, folder: Path) -> None:
        """Write a checkpoint that loads by itself, weights in float16, a sample sheet and the curve."""
        parts = self.teacher.prompts, self.teacher.image_tokenizer, self.stage.sampling, self.teacher.vision_tower
        student = without_adapters(model)
        if self.teacher.image_tokenizer is not None and self.sheet_prompts:
            sample_sheet(ShowoPipeline(student, *parts), self.sheet_prompts).save(folder / "samples.png")
        save_checkpoint(folder / "model", student.half(), *parts)
        if (folder / "log.jsonl").exists():
            plot_curve(folder / "log.jsonl", folder / "curve.png")

    def _texts(self, batch: int) -> list[list[int]]:
        term, prompts = self.stage.language, self.teacher.prompts
        samples = samples_of(self.texts, batch, term.batch_size)
        return [prompts.language_modelling(sample.text)[: term.max_length] for sample in samples]


def pick_states(trajectories: ImageTrajectories, stage: Stage, rng: random.Random, device: torch.device) -> ImagePicks:
    """A random state of every roll-out, with the end of its segment."""
    length, segments = stage.image.num_inference_steps, stage.image.segments
    steps = [rng.randrange(length) for _ in trajectories.prompts]
    ends = [segment_end(step, length, segments) for step in steps]
    return ImagePicks(trajectories.to(device), torch.tensor(steps, device=device), torch.tensor(ends, device=device))


def pick_iterates(trajectory: JacobiTrajectory, segments: int, rng: random.Random) -> TextPick:
    """A random iterate of a block before the last, with the end of its segment."""
    if trajectory.steps == 0:
        return TextPick(trajectory, 0, 0)
    step = rng.randrange(trajectory.steps)
    return TextPick(trajectory, step, segment_end(step, trajectory.steps, segments))
