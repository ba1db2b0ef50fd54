"""Distributions over image codes as targets, of which only the most probable codes are kept.

A full distribution for every place of every image is most of what a trajectory weighs (512 px: 1,024 places of 8,192
codes). Nearly all of it is noise, so trajectories keep the `label_size` best codes, renormalised; all of them if asked.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class SoftLabels:
    """Distributions, each over `m` codes.

    Attributes:
        codes: long (..., m), codebook indices.
        probabilities: float32 (..., m), summing to 1.
    """

    codes: Tensor
    probabilities: Tensor

    @classmethod
    def of(cls, logits: Tensor, label_size: int | None = None) -> "SoftLabels":
        """The best codes of scores (..., codebook_size); all of them if `label_size` is left out."""
        best = logits.float().topk(min(label_size or logits.shape[-1], logits.shape[-1]))
        return cls(best.indices, best.values.softmax(-1))

    def where(self, chosen: Tensor, other: "SoftLabels") -> "SoftLabels":
        """These distributions where `chosen`, bool (...), and the others elsewhere."""
        codes = torch.where(chosen[..., None], self.codes, other.codes)
        return SoftLabels(codes, torch.where(chosen[..., None], self.probabilities, other.probabilities))

    def view(self, shape: torch.Size) -> "SoftLabels":
        """The same distributions, laid out as `shape`."""
        return SoftLabels(self.codes.view(*shape, -1), self.probabilities.view(*shape, -1))

    def replaced(self, chosen: Tensor, others: "SoftLabels") -> "SoftLabels":
        """These distributions, but where `chosen`, bool (...), those of `others`, one for each chosen place."""
        codes, probabilities = self.codes.clone(), self.probabilities.clone()
        codes[chosen], probabilities[chosen] = others.codes, others.probabilities
        return SoftLabels(codes, probabilities)

    def dense(self, codebook_size: int) -> Tensor:
        """Probabilities of all codes, float32 (..., codebook_size)."""
        table = torch.zeros(*self.codes.shape[:-1], codebook_size, device=self.codes.device)
        return table.scatter(-1, self.codes, self.probabilities)
