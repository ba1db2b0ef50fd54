"""One stage as a task of the training loop."""

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from showo_turbo.checkpoints.saving import save_checkpoint
from showo_turbo.components import Components
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
from showo_turbo.distillation.student import without_adapters
from showo_turbo.distillation.text_trajectories import JacobiTrajectory
from showo_turbo.distillation.trajectory_sources import Answers, RollOuts, samples_of
from showo_turbo.models.showo import Showo
from showo_turbo.pipelines.pipeline import ShowoPipeline
from showo_turbo.training.curves import plot_curve
from showo_turbo.training.optimizers import build_optimizers
from showo_turbo.training.task import StepLosses, Task

_BATCHES_PER_PROBE = 50
_BLOCKS_PROBED = 4
_SHEET_PROMPTS = 8


@dataclass(frozen=True)
class DistillationBatch:
    """What a student learns from in one batch.

    Attributes:
        images: roll-outs; None if the image term has no weight.
        blocks: of answers; there may be none.
        texts: id lists for the language-modelling term.
    """

    images: ImagePicks | None
    blocks: list[TextPick]
    texts: list[list[int]]


class Distillation(Task[DistillationBatch]):
    """A student on its way along a teacher's trajectories."""

    def __init__(
        self,
        stage: Stage,
        teacher: ShowoPipeline,
        student: Showo,
        roll_outs: RollOuts,
        answers: Answers,
        texts: MixedStream | None,
        process: int = 0,
    ) -> None:
        """Put the parts together.

        Args:
            stage: what to learn.
            teacher: whose prompts, tokenizers and vocabulary the student has.
            student: what learns, see `student.make_student`.
            roll_outs: image trajectories; not asked for if the image term has no weight.
            answers: text trajectories; not asked for if the text term has no weight.
            texts: for the language-modelling term; None if that has no weight.
            process: number of this process, each of which picks states of its own.
        """
        self.stage, self.teacher, self.texts = stage, teacher, texts
        self.roll_outs, self.answers = roll_outs, answers
        self.process = process
        self.passes_per_block: float | None = None
        self.sheet_prompts: list[str] = []
        self.model = student

    def optimizers(self) -> list[Optimizer]:
        """As configured."""
        return build_optimizers(self.model, self.stage.optimizer)

    def batch(self, number: int) -> DistillationBatch:
        """Trajectories with the states that the student sees of them, and texts; of terms that have a weight."""
        stage, probe = self.stage, number % _BATCHES_PER_PROBE == 0 or self.passes_per_block is None
        rng = random.Random(f"{stage.loop.seed}/picks/{self.process}/{number}")
        images = self._images(number, rng) if stage.image.weight else None
        blocks = self.answers.texts(number) if stage.text.weight else []
        if blocks and probe:
            vocabulary = self.teacher.prompts.vocabulary
            self.passes_per_block = passes_per_block(self.model, blocks[:_BLOCKS_PROBED], vocabulary)
        picks = [pick_iterates(block, stage.text.segments, rng) for block in blocks]
        return DistillationBatch(images, picks, self._texts(number) if stage.language.weight else [])

    def losses(self, average: nn.Module, batch: DistillationBatch) -> StepLosses:
        """The weighted sum of all terms that have a weight."""
        stage, vocabulary = self.stage, self.teacher.prompts.vocabulary
        target = getattr(average, "module", average) if stage.average_target else self.model
        parts: dict[str, Tensor] = {}
        if stage.image.weight:
            parts["image"] = image_consistency(self.model, target, batch.images, vocabulary, stage.image.self_weight)
        if stage.text.weight:
            parts["text"], parts["autoregressive"] = text_consistency(self.model, target, batch.blocks, vocabulary)
        if stage.language.weight:
            parts["language"] = language_modelling(self.model, batch.texts, vocabulary)
        weights = {
            "image": stage.image.weight,
            "text": stage.text.weight,
            "autoregressive": stage.text.weight * stage.text.autoregressive_weight,
            "language": stage.language.weight,
        }
        total = sum(weights[name] * part for name, part in parts.items())
        probes = {} if self.passes_per_block is None else {"passes_per_block": self.passes_per_block}
        return StepLosses(total, parts | probes, stage.samples_per_batch)

    def sample_names(self, batch: DistillationBatch) -> list[str]:
        """Prompts, the turns of dialogues that are answered, and texts."""
        end = self.teacher.prompts.vocabulary.end_of_text_id
        prompts = [] if batch.images is None else batch.images.trajectories.prompts
        turns = [one.trajectory.prompt for one in batch.blocks]
        rows = [
            *(prompt[2:] for prompt in prompts),
            *(turn[len(turn) - turn[::-1].index(end) :] for turn in turns),
            *(text[1:] for text in batch.texts),
        ]
        return [self.teacher.prompts.decode(row) for row in rows]

    def state_dict(self) -> dict[str, Any]:
        """Roll-outs that do not follow from the number of the batch."""
        return self.roll_outs.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take them back."""
        self.roll_outs.load_state_dict(state)

    def _images(self, number: int, rng: random.Random) -> ImagePicks:
        trajectories = self.roll_outs.images(number, self.model)
        if not self.sheet_prompts:
            shown = trajectories.prompts[:_SHEET_PROMPTS]
            self.sheet_prompts = [self.teacher.prompts.decode(prompt[2:]) for prompt in shown]
        return pick_states(trajectories, self.stage, rng, self.model.device)

    def _texts(self, number: int) -> list[list[int]]:
        term, prompts = self.stage.language, self.teacher.prompts
        samples = samples_of(self.texts, number, term.batch_size)
        return [prompts.language_modelling(sample.text)[: term.max_length] for sample in samples]

    def export(self, model: nn.Module, folder: Path) -> None:
        """Write a checkpoint that loads by itself, weights in float16, a sample sheet and the curve."""
        teacher, student = self.teacher, without_adapters(model)
        components = Components(
            student, teacher.prompts, teacher.image_tokenizer, self.stage.sampling, teacher.vision_tower
        )
        if teacher.image_tokenizer is not None and self.sheet_prompts:
            sample_sheet(ShowoPipeline(**vars(components)), self.sheet_prompts).save(folder / "samples.png")
        student.half()
        save_checkpoint(folder / "model", components)
        plot_curve(folder / "log.jsonl", folder / "curve.png")


def pick_states(trajectories: ImageTrajectories, stage: Stage, rng: random.Random, device: torch.device) -> ImagePicks:
    """A random state of every roll-out, with the end of its segment."""
    length, segments = stage.image.num_inference_steps, stage.image.segments
    steps = [rng.randrange(0, length, stage.image.stride) for _ in trajectories.prompts]
    ends = [segment_end(step, length, segments) for step in steps]
    return ImagePicks(trajectories.to(device), torch.tensor(steps, device=device), torch.tensor(ends, device=device))


def pick_iterates(trajectory: JacobiTrajectory, segments: int, rng: random.Random) -> TextPick:
    """A random iterate of a block before the last, with the end of its segment."""
    if trajectory.steps == 0:
        return TextPick(trajectory, 0, 0)
    step = rng.randrange(trajectory.steps)
    return TextPick(trajectory, step, segment_end(step, trajectory.steps, segments))
