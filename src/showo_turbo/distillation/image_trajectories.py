"""The teacher's way from masked codes to images, recorded (Show-o Turbo, arXiv 2502.05415, section 3.2).

    step          0    1    2    3          decided   2  0  3  1     the step that settled each place
    u^0  ? ? ? ?  |    |    |    |          codes     7  5  1  2     what it settled on
    u^1  ? 5 ? ?  <----+    |    |
    u^2  ? 5 ? 2  <---------+    |          u^k is `codes` where `decided` < k, and masks elsewhere,
    u^3  7 5 ? 2  <--------------+          so two numbers a place are the whole trajectory
    u^4  7 5 1 2

Decisions:
- The roll-out is the sampler's own loop with the most probable candidates (top_k 1, temperature 0), so there is no
  second image loop.
- Who walks and who labels may be two: on a student's own way the teacher says what it would have drawn at each place,
  given what the student has settled before. The student then meets its own mistakes, and chooses among images that are
  equally good, where a teacher's choice would be a whim to be learnt by heart.
- A place's soft label for a segment that ends at e is the teacher's distribution at the last step before e at which the
  place was open: it is frozen at the step that decides the place. One roll-out yields the labels of all segments.
- The published code takes its snapshots one step late where there are several segments; here they are taken on time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from showo_turbo.distillation.soft_labels import SoftLabels
from showo_turbo.generation.image_denoiser import ImageDenoiser
from showo_turbo.generation.trajectory import State


@dataclass(frozen=True)
class ImageTrajectories:
    """Roll-outs of a batch of prompts.

    Attributes:
        prompts: id lists, one a row.
        codes: long (batch, n), the finished images.
        decided: long (batch, n), the step, from 0, that settled each place.
        labels: by segment end, soft labels (batch, n); see the module.
    """

    prompts: Sequence[Sequence[int]]
    codes: Tensor
    decided: Tensor
    labels: dict[int, SoftLabels]

    def rows(self, chosen: Sequence[int]) -> "ImageTrajectories":
        """Some of the roll-outs."""
        labels = {end: SoftLabels(one.codes[chosen], one.probabilities[chosen]) for end, one in self.labels.items()}
        prompts = [self.prompts[row] for row in chosen]
        return ImageTrajectories(prompts, self.codes[chosen], self.decided[chosen], labels)

    def to(self, device: torch.device) -> "ImageTrajectories":
        """The same on a device."""
        labels = {end: SoftLabels(x.codes.to(device), x.probabilities.to(device)) for end, x in self.labels.items()}
        return ImageTrajectories(self.prompts, self.codes.to(device), self.decided.to(device), labels)

    @classmethod
    def joined(cls, parts: Sequence["ImageTrajectories"]) -> "ImageTrajectories":
        """The roll-outs of several batches."""
        labels = {
            end: SoftLabels(
                torch.cat([part.labels[end].codes for part in parts]),
                torch.cat([part.labels[end].probabilities for part in parts]),
            )
            for end in parts[0].labels
        }
        prompts = [prompt for part in parts for prompt in part.prompts]
        codes, decided = (torch.cat([getattr(part, name) for part in parts]) for name in ("codes", "decided"))
        return cls(prompts, codes, decided, labels)

    def known(self, steps: Tensor) -> Tensor:
        """Which places are settled in the states `steps`, long (batch,): bool (batch, n)."""
        return self.decided < steps[:, None]

    def labels_at(self, ends: Tensor) -> SoftLabels:
        """The soft labels of every row's segment end, long (batch,)."""
        chosen, *others = self.labels.items()
        labels = chosen[1]
        for end, candidate in others:
            labels = candidate.where((ends == end)[:, None].expand_as(self.codes), labels)
        return labels


class Walker(Protocol):
    """Who decides what is drawn."""

    def advance(self, state: State) -> State:
        """The state after one step, as `ImageDenoiser.advance`."""


class Leaps:
    """A sampler of few steps on a way of many: what it says of a state holds for the `stride` steps after it."""

    def __init__(self, denoiser: ImageDenoiser, stride: int) -> None:
        """Walk one way from its beginning, drawing as the denoiser's scheduler does."""
        self.denoiser, self.stride = denoiser, stride

    def advance(self, state: State) -> State:
        """See `Walker`."""
        if state.forward_passes % self.stride == 0:
            self._said = self.denoiser.logits(state)
        return self.denoiser.unmask(state, self._said[~state.settled])


@torch.no_grad()
def record_images(
    denoiser: ImageDenoiser,
    prompts: Sequence[Sequence[int]],
    start: State,
    ends: Sequence[int],
    label_size: int | None = None,
    walker: Walker | None = None,
) -> ImageTrajectories:
    """Let a teacher label a way from masked codes to images, and keep what a student is to learn from.

    Args:
        denoiser: the teacher with guidance and a scheduler of greedy candidates (top_k 1, temperature 0).
        prompts: those of the denoiser.
        start: images of which nothing is known, see `generation.image.blank_state`.
        ends: segment ends whose labels are wanted.
        label_size: codes kept of every distribution; all if left out.
        walker: who decides what is drawn; the teacher itself if left out.
    """
    state, labels, kept = start, None, {}
    decided = torch.zeros_like(start.ids)
    while not state.done:
        is_open, logits = ~state.settled, denoiser.masked_logits(state)
        fresh = SoftLabels.of(logits.to(is_open.device), label_size)
        labels = fresh.view(is_open.shape) if labels is None else labels.replaced(is_open, fresh)
        after = denoiser.unmask(state, logits) if walker is None else walker.advance(state)
        decided = torch.where(after.settled & is_open, state.forward_passes, decided)
        state = after
        if state.forward_passes in ends:
            kept[state.forward_passes] = labels
    kept = {
        end: kept.get(end, labels) for end in ends
    }  # where all was settled early, its labels are those of later ends
    return ImageTrajectories(prompts, denoiser.vocabulary.ids_to_codes(state.ids), decided, kept)
