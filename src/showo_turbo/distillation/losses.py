"""What a student is measured by (Show-o Turbo, arXiv 2502.05415, section 3.3).

All of them are means over the positions that count, so neither the batch nor the lengths in it change their scale.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def soft_cross_entropy(logits: Tensor, targets: Tensor, kept: Tensor) -> Tensor:
    """Mean over the kept positions of -sum(targets * log softmax(logits)); 0, with gradient 0, if none is kept.

    Args:
        logits: (..., ids), of the student.
        targets: probabilities, float32 (..., ids).
        kept: bool (...).
    """
    losses = -(targets * logits.float().log_softmax(-1)).sum(-1)
    return torch.where(kept, losses, 0.0).sum() / kept.sum().clamp(min=1)


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross entropy of ids; 0, with gradient 0, if there is none.

    Args:
        logits: (count, ids).
        labels: long (count,).
    """
    return F.cross_entropy(logits.float(), labels, reduction="sum") / max(len(labels), 1)


def after_first_difference(iterate: Tensor, end: Tensor) -> Tensor:
    """Which positions of a block count: from the first one on at which two iterates, long (batch, n), differ.

    Before it both have read the same ids, so there is nothing to learn.
    """
    return (iterate != end).cumsum(1) > 0


def up_to_end(ids: Tensor, end_of_text_id: int) -> Tensor:
    """Which positions of answers, long (batch, n), are read: up to the first end of text, which is one of them."""
    is_end = ids == end_of_text_id
    return is_end.cumsum(1) - is_end.long() == 0
