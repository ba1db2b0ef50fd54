"""Soft labels: distributions over image codes, truncated to the most probable codes.

Full distributions for all positions of all images are most of a trajectory's size (512 px: 1,024 positions of 8,192
codes). Nearly all of it is noise, so trajectories store the `label_size` most probable codes, renormalised, or all of
them if `label_size` is left out.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class SoftLabels:
    """Hold distributions, each over `m` codes.

    Attributes:
        codes: long (..., m), codebook indices.
        probabilities: float32 (..., m), summing to 1.
    """

    codes: Tensor
    probabilities: Tensor

    @classmethod
    def from_logits(cls, logits: Tensor, label_size: int | None = None) -> "SoftLabels":
        """Take the `label_size` most probable codes of logits (..., codebook_size), or all if it is left out."""
        best = logits.float().topk(min(label_size or logits.shape[-1], logits.shape[-1]))
        return cls(best.indices, best.values.softmax(-1))

    def where(self, mask: Tensor, other: "SoftLabels") -> "SoftLabels":
        """Return these distributions where the mask, bool (...), is set and the other ones elsewhere."""
        codes = torch.where(mask[..., None], self.codes, other.codes)
        return SoftLabels(codes, torch.where(mask[..., None], self.probabilities, other.probabilities))

    @classmethod
    def zeros(cls, shape: torch.Size, like: "SoftLabels") -> "SoftLabels":
        """Return labels of a leading shape without any probability, with as many codes as `like`."""
        return cls(
            like.codes.new_zeros(*shape, like.codes.shape[-1]),
            like.probabilities.new_zeros(*shape, like.codes.shape[-1]),
        )

    def masked_scatter(self, mask: Tensor, source: "SoftLabels") -> "SoftLabels":
        """Return a copy with the distributions where the mask, bool (...), is set replaced by `source`, in order."""
        codes, probabilities = self.codes.clone(), self.probabilities.clone()
        codes[mask], probabilities[mask] = source.codes, source.probabilities
        return SoftLabels(codes, probabilities)

    def dense(self, codebook_size: int) -> Tensor:
        """Return the probabilities of all codes, float32 (..., codebook_size)."""
        table = torch.zeros(*self.codes.shape[:-1], codebook_size, dtype=torch.float32, device=self.codes.device)
        return table.scatter(-1, self.codes, self.probabilities)
