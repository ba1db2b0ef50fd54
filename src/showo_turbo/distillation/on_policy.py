"""Roll-outs on the student's own way, made while it learns."""

import random
from typing import Any

import torch

from showo_turbo.data import MixedStream
from showo_turbo.distillation import rollouts as teacher
from showo_turbo.distillation.image_trajectories import ImageTrajectories
from showo_turbo.distillation.soft_labels import SoftLabels
from showo_turbo.distillation.terms import ImageTerm
from showo_turbo.distillation.trajectory_sources import RollOuts, samples_of
from showo_turbo.models.showo import Showo
from showo_turbo.pipelines.pipeline import ShowoPipeline


class StudentTrajectories:
    """Drawn by the student as it is, labelled by the teacher, and kept for a number of batches.

    The roll-outs in use are part of the state, since the student that drew them is no more when a run is resumed.
    """

    def __init__(
        self, pipe: ShowoPipeline, captions: MixedStream, image: ImageTerm, seed: int, teacher_way: RollOuts
    ) -> None:
        """Take samples from the stream by the number of the batch, and what is not the student's way from another."""
        self.pipe, self.captions, self.image, self.seed = pipe, captions, image, seed
        self.teacher_way = teacher_way
        self._group, self._roll_outs = -1, None

    def images(self, batch: int, student: Showo) -> ImageTrajectories:
        """Some of the roll-outs in use, and the teacher's."""
        group = batch // self.image.on_policy.batches
        if group != self._group:
            self._group, self._roll_outs = group, self._draw(group, student)
        rng = random.Random(f"{self.seed}/own way/{self.captions.rank}/{batch}")
        own = self._roll_outs.rows(rng.sample(range(len(self._roll_outs.codes)), self.image.own_roll_outs))
        if not self.image.teacher_roll_outs:
            return own
        others = self.teacher_way.images(batch, student).to(own.codes.device)  # stored ones come from the disk
        return ImageTrajectories.joined([own, others])

    def state_dict(self) -> dict[str, Any]:
        """The roll-outs in use, as tensors and numbers, which any other process can read."""
        if self._roll_outs is None:
            return {}
        one = self._roll_outs.to(torch.device("cpu"))
        labels = {end: (label.codes, label.probabilities) for end, label in one.labels.items()}
        prompts = [list(prompt) for prompt in one.prompts]
        return {"group": self._group, "roll_outs": (prompts, one.codes, one.decided, labels)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with these."""
        if state:
            prompts, codes, decided, labels = state["roll_outs"]
            kept: dict[int, SoftLabels] = {end: SoftLabels(*label) for end, label in labels.items()}
            self._group, self._roll_outs = state["group"], ImageTrajectories(prompts, codes, decided, kept)

    def _draw(self, group: int, student: Showo) -> ImageTrajectories:
        """New roll-outs, `batch_size` at a time."""
        size = self.image.batch_size
        texts = [sample.text for sample in samples_of(self.captions, group, self.image.on_policy.prompts)]
        chunks = [texts[first : first + size] for first in range(0, len(texts), size)]
        rng = random.Random(f"{self.seed}/draws/{self.captions.rank}/{group}")
        source = torch.Generator().manual_seed(rng.getrandbits(48))
        return ImageTrajectories.joined(
            [teacher.draw(self.pipe, chunk, self.image, student, source) for chunk in chunks]
        )
