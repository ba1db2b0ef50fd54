"""Recorded image rollouts of a teacher, from masked codes to images (Show-o Turbo, arXiv 2502.05415, section 3.2).

    step          0    1    2    3          unmask_steps   2  0  3  1     the step that unmasked each position
    u^0  ? ? ? ?  |    |    |    |          codes          7  5  1  2     its code
    u^1  ? 5 ? ?  <----+    |    |
    u^2  ? 5 ? 2  <---------+    |          u^k is `codes` where `unmask_steps` < k, and masked elsewhere,
    u^3  7 5 ? 2  <--------------+          so two numbers per position are the whole trajectory
    u^4  7 5 1 2

Decisions:
- A rollout is the sampler's own loop with greedy candidates (top_k 1, temperature 0), so there is no second image loop.
- The rollout policy may differ from the teacher that labels. In an on-policy rollout the student unmasks, and the
  teacher gives its distribution at every position, given the student's codes so far. So the student trains on its own
  mistakes, and chooses freely among equally good images, where a teacher rollout would impose an arbitrary choice.
- A position's soft label for a segment that ends at e is the teacher's distribution at the last step before e at which
  the position was masked: it is frozen at the step that unmasks the position. One rollout yields the labels of all
  segments.
- With several segments, the published code takes its snapshots one step late; here they are taken on time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from showo_turbo.distillation.soft_labels import SoftLabels
from showo_turbo.generation.image_denoiser import ImageDenoiser
from showo_turbo.generation.trajectory import State
from showo_turbo.vocabulary import Vocabulary


@dataclass(frozen=True)
class ImageTrajectories:
    """Hold the rollouts of a batch of prompts.

    Attributes:
        prompts: id lists, one per row.
        codes: long (batch, n), the finished images.
        unmask_steps: long (batch, n), the step, from 0, that unmasked each position; -1 for codes known at the start.
        labels: soft labels (batch, n) by segment end; see the module.
    """

    prompts: Sequence[Sequence[int]]
    codes: Tensor
    unmask_steps: Tensor
    labels: dict[int, SoftLabels]

    def select(self, rows: Sequence[int]) -> "ImageTrajectories":
        """Return the rollouts of some rows."""
        labels = {end: SoftLabels(one.codes[rows], one.probabilities[rows]) for end, one in self.labels.items()}
        return ImageTrajectories([self.prompts[row] for row in rows], self.codes[rows], self.unmask_steps[rows], labels)

    def to(self, device: torch.device) -> "ImageTrajectories":
        """Return a copy on a device."""
        labels = {end: SoftLabels(x.codes.to(device), x.probabilities.to(device)) for end, x in self.labels.items()}
        return ImageTrajectories(self.prompts, self.codes.to(device), self.unmask_steps.to(device), labels)

    @classmethod
    def concat(cls, batches: Sequence["ImageTrajectories"]) -> "ImageTrajectories":
        """Concatenate the rollouts of several batches."""
        labels = {
            end: SoftLabels(
                torch.cat([batch.labels[end].codes for batch in batches]),
                torch.cat([batch.labels[end].probabilities for batch in batches]),
            )
            for end in batches[0].labels
        }
        prompts = [prompt for batch in batches for prompt in batch.prompts]
        codes = torch.cat([batch.codes for batch in batches])
        return cls(prompts, codes, torch.cat([batch.unmask_steps for batch in batches]), labels)

    def settled(self, steps: Tensor) -> Tensor:
        """Mask the settled positions of each row's state `steps`, long (batch,): bool (batch, n)."""
        return self.unmask_steps < steps[:, None]

    def image_ids(self, steps: Tensor, vocabulary: Vocabulary) -> Tensor:
        """Return the token ids of each row's state `steps`, long (batch,): long (batch, n)."""
        return torch.where(self.settled(steps), vocabulary.codes_to_ids(self.codes), vocabulary.mask_id)

    def labels_at(self, ends: Tensor) -> SoftLabels:
        """Return the soft labels (batch, n) of each row's segment end, long (batch,)."""
        (_, labels), *others = self.labels.items()
        for end, candidate in others:
            labels = candidate.where((ends == end)[:, None].expand_as(self.codes), labels)
        return labels


class RolloutPolicy(Protocol):
    """Define which positions a rollout unmasks, and with which codes."""

    def advance(self, state: State) -> State:
        """Return the state after one step, as `ImageDenoiser.advance` does."""


class FewStepPolicy:
    """Roll out a sampler of few steps on a trajectory of many: one forward pass serves `stride` steps."""

    def __init__(self, denoiser: ImageDenoiser, stride: int) -> None:
        """Wrap a denoiser for one rollout from its first state; its scheduler samples the codes."""
        self.denoiser, self.stride = denoiser, stride

    def advance(self, state: State) -> State:
        """Return the state after one step, see `RolloutPolicy`."""
        if state.forward_passes % self.stride == 0:
            self._logits = self.denoiser.logits(state)
        return self.denoiser.unmask(state, self._logits[~state.settled])


@torch.no_grad()
def record_images(
    denoiser: ImageDenoiser,
    prompts: Sequence[Sequence[int]],
    start: State,
    ends: Sequence[int],
    label_size: int | None = None,
    policy: RolloutPolicy | None = None,
) -> ImageTrajectories:
    """Record a rollout from masked codes to images, with the teacher's soft labels at the segment ends.

    Args:
        denoiser: the teacher with guidance and a scheduler of greedy candidates (top_k 1, temperature 0).
        prompts: those of the denoiser.
        start: images of which some or all codes are masked, see `start_states`.
        ends: segment ends to record the labels of.
        label_size: codes stored of every distribution; all if left out.
        policy: the rollout policy; the teacher itself if left out.
    """
    state, labels, labels_by_end = start, None, {}
    unmask_steps = torch.where(start.settled, -1, 0)
    while not state.done:
        masked, logits = ~state.settled, denoiser.masked_logits(state)
        current = SoftLabels.from_logits(logits.to(masked.device), label_size)
        labels = (labels or SoftLabels.zeros(masked.shape, current)).masked_scatter(masked, current)
        after = denoiser.unmask(state, logits) if policy is None else policy.advance(state)
        unmask_steps = torch.where(after.settled & masked, state.forward_passes, unmask_steps)
        state = after
        if state.forward_passes in ends:
            labels_by_end[state.forward_passes] = labels
    assert labels is not None  # the first state has masked positions
    # A rollout that ends early has its last labels at all later ends.
    labels_by_end = {end: labels_by_end.get(end, labels) for end in ends}
    return ImageTrajectories(prompts, denoiser.vocabulary.ids_to_codes(state.ids), unmask_steps, labels_by_end)
