"""Losses of the student (Show-o Turbo, arXiv 2502.05415, section 3.3).

All are means over the selected positions, so their scale depends neither on the batch size nor on the lengths in it.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def soft_cross_entropy(logits: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of -sum(targets * log softmax(logits)) where the mask is set; 0, with gradient 0, if nowhere.

    Args:
        logits: (..., ids), of the student.
        targets: probabilities, float32 (..., ids).
        mask: bool (...).
    """
    losses = -(targets * logits.float().log_softmax(-1)).sum(-1)
    return torch.where(mask, losses, 0.0).sum() / mask.sum().clamp(min=1)


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cross entropy of ids; 0, with gradient 0, if there are none.

    Args:
        logits: (count, ids).
        labels: long (count,).
    """
    return F.cross_entropy(logits.float(), labels, reduction="sum") / max(len(labels), 1)


def after_first_difference(iterate: Tensor, end: Tensor) -> Tensor:
    """Mask the positions of a block from the first difference of two iterates, long (batch, n), to its end.

    Up to the first difference both have the same input, so there is nothing to learn.
    """
    return (iterate != end).cumsum(1) > 0


def up_to_end(ids: Tensor, end_of_text_id: int) -> Tensor:
    """Mask the positions of answers, long (batch, n), up to and including the first end of text."""
    is_end = ids == end_of_text_id
    return is_end.cumsum(1) - is_end.long() == 0
