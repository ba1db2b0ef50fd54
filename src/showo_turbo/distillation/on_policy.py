"""On-policy rollouts: images that the student generates during its training, labelled by the teacher."""

import random
from typing import Any

import torch

from showo_turbo.data import CaptionSample, SampleLoader
from showo_turbo.distillation.image_trajectories import ImageTrajectories
from showo_turbo.distillation.loss_terms import ImageTerm
from showo_turbo.distillation.rollouts import roll_out_images
from showo_turbo.distillation.sharded_teacher import in_lockstep
from showo_turbo.distillation.soft_labels import SoftLabels
from showo_turbo.distillation.start_states import start_states
from showo_turbo.distillation.trajectory_sources import ImageRollouts, OpenStudent
from showo_turbo.models.showo import Showo
from showo_turbo.pipelines.pipeline import ShowoPipeline


class OnPolicyRollouts(ImageRollouts):
    """Generate rollouts with the current student, and use them for a number of batches.

    The current rollouts are part of the state: the weights that generated them are gone when a run is resumed. With
    another number of processes, all processes generate new ones from the next prompts.
    """

    def __init__(
        self,
        pipe: ShowoPipeline,
        captions: SampleLoader[CaptionSample],
        image: ImageTerm,
        seed: int,
        teacher_rollouts: ImageRollouts,
        process: int = 0,
        processes: int = 1,
    ) -> None:
        """Set the sources of prompts and labels.

        Args:
            pipe: the teacher, which labels.
            captions: prompts, `image.on_policy.prompts` in a batch.
            image: the image term.
            seed: of the samples.
            teacher_rollouts: source of the rest of each batch.
            process: number of this process.
            processes: number of processes; each generates rollouts of its own.
        """
        self.pipe, self.captions, self.image, self.seed = pipe, captions, image, seed
        self.teacher_rollouts, self.process, self.processes = teacher_rollouts, process, processes
        self._next_group = 0  # of prompts, over all processes
        self._batches_left = 0
        self._rollouts: ImageTrajectories | None = None

    def images(self, batch: int, student: OpenStudent) -> ImageTrajectories:
        """Return random rollouts out of the current ones, and teacher rollouts for the rest of the batch."""
        if self._rollouts is None or not self._batches_left:
            with student() as model, in_lockstep(self.pipe.model):
                self._rollouts = self._roll_out(self._next_group + self.process, model)
            self._next_group += self.processes
            self._batches_left = self.image.on_policy.batches
        self._batches_left -= 1
        # The spelling of a seed must stay as it is, or runs are not reproducible across versions.
        rng = random.Random(f"{self.seed}/own way/0/{batch}")
        rollouts = self._rollouts.select(rng.sample(range(len(self._rollouts.codes)), self.image.on_policy_batch_size))
        if not self.image.teacher_batch_size:
            return rollouts
        others = self.teacher_rollouts.images(batch, student).to(rollouts.codes.device)  # stored ones are on the CPU
        return ImageTrajectories.concat([rollouts, others])

    def _roll_out(self, group: int, student: Showo) -> ImageTrajectories:
        """Generate new rollouts, `batch_size` at a time."""
        size, samples = self.image.batch_size, self.captions.batch(group)
        rng = random.Random(f"{self.seed}/draws/0/{group}")
        generator = torch.Generator().manual_seed(rng.getrandbits(48))
        rollouts = []
        for first in range(0, len(samples), size):
            chunk = samples[first : first + size]
            start = start_states(self.pipe, chunk, self.image.known_share, rng)
            prompts = [sample.text for sample in chunk]
            rollouts.append(roll_out_images(self.pipe, prompts, self.image, student, generator, start))
        return ImageTrajectories.concat(rollouts)

    def state_dict(self) -> dict[str, Any]:
        """Return the current rollouts as tensors and numbers on the CPU, and the position in the stream of prompts."""
        if self._rollouts is None:
            return {}
        rollouts = self._rollouts.to(torch.device("cpu"))
        labels = {str(end): [label.codes, label.probabilities] for end, label in rollouts.labels.items()}
        prompts = [list(prompt) for prompt in rollouts.prompts]
        return {
            "next_group": self._next_group,
            "batches_left": self._batches_left,
            "processes": self.processes,
            "roll_outs": [prompts, rollouts.codes, rollouts.unmask_steps, labels],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the position of a state, and its rollouts if the number of processes is the same."""
        if not state:
            return
        self._next_group = state["next_group"]
        if state["processes"] == self.processes:
            prompts, codes, unmask_steps, labels = state["roll_outs"]
            labels = {int(end): SoftLabels(*label) for end, label in labels.items()}
            self._batches_left = state["batches_left"]
            self._rollouts = ImageTrajectories(prompts, codes, unmask_steps, labels)
