"""One stage of a distillation as a task of the training loop."""

import random
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from showo_turbo.data import SampleLoader, TextSample
from showo_turbo.distillation.config import Stage
from showo_turbo.distillation.image_trajectories import ImageTrajectories
from showo_turbo.distillation.loss_terms import ImageTerm
from showo_turbo.distillation.objectives import (
    SampledIterate,
    SampledStates,
    image_consistency,
    language_modelling,
    text_consistency,
)
from showo_turbo.distillation.progress import passes_per_block
from showo_turbo.distillation.segments import segment_end
from showo_turbo.distillation.text_trajectories import JacobiTrajectory
from showo_turbo.distillation.trajectory_sources import ImageRollouts, TextRollouts
from showo_turbo.errors import InputError
from showo_turbo.models.showo import Showo
from showo_turbo.pipelines.pipeline import ShowoPipeline
from showo_turbo.training.adapters import merge_adapters
from showo_turbo.training.export import export_pipeline
from showo_turbo.training.optimizers import build_optimizers
from showo_turbo.training.processes import shards_weights
from showo_turbo.training.sharding import WholeCopy
from showo_turbo.training.task import StepLosses, Task

_BATCHES_PER_PROBE = 50
_BLOCKS_PER_PROBE = 4
_SHEET_PROMPTS = 8
_PROBE = ("passes_per_block", "last_probe", "sheet_prompts")
"""Attributes of the task that only log and sample sheet depend on."""


@dataclass(frozen=True)
class DistillationBatch:
    """Hold one batch of training data.

    Attributes:
        images: rollouts with their sampled states; None if the image term has no weight.
        blocks: blocks of answers with their sampled iterates; may be empty.
        texts: id lists for the language-modelling term.
    """

    images: SampledStates | None
    blocks: list[SampledIterate]
    texts: list[list[int]]


class ConsistencyTask(Task[Showo, DistillationBatch]):
    """Train a student on the trajectories of a teacher."""

    def __init__(
        self,
        stage: Stage,
        teacher: ShowoPipeline,
        student: Showo,
        images: ImageRollouts,
        answers: TextRollouts,
        texts: SampleLoader[TextSample] | None,
    ) -> None:
        """Set model and data.

        Args:
            stage: the stage's configuration.
            teacher: its prompts, tokenizers and vocabulary are the student's.
            student: the model to train, see `adapters.prepare_model`.
            images: image trajectories; not used if the image term has no weight.
            answers: text trajectories; not used if the text term has no weight.
            texts: for the language-modelling term; None if it has no weight.
        """
        self.stage, self.teacher = stage, teacher
        self.images, self.answers, self.texts = images, answers, texts
        self.passes_per_block: float | None = None
        self.last_probe: int | None = None
        self.sheet_prompts: list[str] = []
        self.model = student
        self.is_sharded = shards_weights(stage.loop.sharding)
        self.can_be_sharded = stage.optimizer.name == "adamw" and not stage.average_target
        rolls_out = stage.image.weight and stage.image.on_policy.prompts
        self.whole_copy = WholeCopy(student) if self.is_sharded and rolls_out else None

    def optimizers(self) -> list[Optimizer]:
        """Build the stage's optimizers."""
        return build_optimizers(self.model, self.stage.optimizer)

    def batch(self, number: int) -> DistillationBatch:
        """Return trajectories with sampled states, and texts, for the terms that have a weight."""
        stage, prompts = self.stage, self.teacher.prompts
        rng = random.Random(f"{stage.loop.seed}/picks/0/{number}")
        images, blocks, texts = None, [], []
        if stage.image.weight:
            trajectories = self.images.images(number, self.whole_student)
            if not self.sheet_prompts:
                self.sheet_prompts = [prompts.decode(prompt[2:]) for prompt in trajectories.prompts[:_SHEET_PROMPTS]]
            own_rng = random.Random(f"{stage.loop.seed}/latents/0/{number}")
            images = sample_states(trajectories.to(self.model.device), stage.image, rng, own_rng)
        if stage.text.weight:
            blocks = self.answers.texts(number)
            if blocks and not self.is_sharded and self.last_probe != number // _BATCHES_PER_PROBE:
                self.last_probe = number // _BATCHES_PER_PROBE
                probe = blocks[:_BLOCKS_PER_PROBE]
                self.passes_per_block = passes_per_block(self.model, probe, prompts.vocabulary)
        iterates = [sample_iterate(block, stage.text.segments, rng) for block in blocks]
        if stage.language.weight:
            assert self.texts is not None  # given for this term
            rows = [prompts.language_modelling(sample.text) for sample in self.texts.batch(number)]
            texts = [row[: stage.language.max_length] for row in rows]
        return DistillationBatch(images, iterates, texts)

    def losses(self, ema_model: Showo, batch: DistillationBatch) -> StepLosses:
        """Compute the weighted sum of all terms that have a weight."""
        stage, vocabulary = self.stage, self.teacher.prompts.vocabulary
        target = ema_model if stage.average_target else self.model
        parts: dict[str, Tensor] = {}
        if batch.images is not None:
            parts["image"] = image_consistency(self.model, target, batch.images, vocabulary, stage.image.self_weight)
        if stage.text.weight:
            parts["text"], parts["autoregressive"] = text_consistency(
                self.model, target, batch.blocks, vocabulary, self.is_sharded
            )
        if stage.language.weight:
            parts["language"] = language_modelling(self.model, batch.texts, vocabulary)
        weights = {
            "image": stage.image.weight,
            "text": stage.text.weight,
            "autoregressive": stage.text.weight * stage.text.autoregressive_weight,
            "language": stage.language.weight,
        }
        weighted = (weights[name] * part for name, part in parts.items())
        total = sum(weighted, torch.zeros((), device=self.model.device))
        probes = {} if self.passes_per_block is None else {"passes_per_block": self.passes_per_block}
        return StepLosses(total, parts | probes, stage.samples_per_batch)

    def whole_student(self) -> AbstractContextManager[Showo]:
        """Open a model with the student's weights that computes in this process alone. All processes must call it."""
        return nullcontext(self.model) if self.whole_copy is None else self.whole_copy.updated(self.model)

    def sample_names(self, batch: DistillationBatch) -> list[str]:
        """Return the prompts, the answered turns of dialogues, and the texts of a batch."""
        end = self.teacher.prompts.vocabulary.end_of_text_id
        prompts = [] if batch.images is None else batch.images.trajectories.prompts
        turns = [block.trajectory.prompt for block in batch.blocks]
        rows = [
            *(prompt[2:] for prompt in prompts),
            *(turn[len(turn) - turn[::-1].index(end) :] for turn in turns),
            *(text[1:] for text in batch.texts),
        ]
        return [self.teacher.prompts.decode(row) for row in rows]

    def state_dict(self) -> dict[str, Any]:
        """Return the state of on-policy rollouts, of the probe for the log, and the prompts of the sample sheet."""
        probe = {name: getattr(self, name) for name in _PROBE}
        return {"images": self.images.state_dict(), **probe}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state.

        Raises:
            InputError: if it is of an earlier version.
        """
        if not state:
            return
        if "images" not in state:
            raise InputError("checkpoint is of an earlier version of showo_turbo: choose another output")
        self.images.load_state_dict(state["images"])
        for name in _PROBE:
            setattr(self, name, state[name])

    def export(self, model: Showo, folder: Path) -> None:
        """Write a complete checkpoint with float16 weights, a sample sheet and the loss curves."""
        pipe = replace(self.teacher, model=merge_adapters(model), recommended=self.stage.sampling)
        export_pipeline(folder, pipe, self.sheet_prompts)


def sample_states(
    trajectories: ImageTrajectories, term: ImageTerm, rng: random.Random, latents_rng: random.Random
) -> SampledStates:
    """Sample a state of every rollout, with the end of its segment, and the number that chooses its latent."""
    length = term.num_inference_steps
    steps = [rng.randrange(0, term.first_states or length, term.stride) for _ in trajectories.prompts]
    ends = [segment_end(step, length, term.segments) for step in steps]
    uniforms = [latents_rng.random() for _ in steps]
    numbers = (torch.tensor(values, device=trajectories.codes.device) for values in (steps, ends, uniforms))
    return SampledStates(trajectories, *numbers)


def sample_iterate(trajectory: JacobiTrajectory, segments: int, rng: random.Random) -> SampledIterate:
    """Sample an iterate of a block before the last, with the end of its segment."""
    if trajectory.steps == 0:
        return SampledIterate(trajectory, 0, 0)
    step = rng.randrange(trajectory.steps)
    return SampledIterate(trajectory, step, segment_end(step, trajectory.steps, segments))
