"""Losses equal the recorded values of the published training code, and their properties hold."""

import numpy as np
import pytest
import torch

from showo_turbo.distillation.losses import after_first_difference, cross_entropy, soft_cross_entropy, up_to_end
from showo_turbo.distillation.objectives import language_modelling
from showo_turbo.models.omni_attention import causal_mask
from showo_turbo.models.showo import Showo
from showo_turbo.vocabulary import Vocabulary


@pytest.mark.parametrize("case", range(4))
def test_soft_cross_entropy_and_its_gradient_equal_the_published_ones(
    recorded: dict[str, np.ndarray], case: int
) -> None:
    predicts, targets, ignored = (
        torch.from_numpy(recorded[f"sce{case}/{name}"]) for name in ("predicts", "targets", "padding_mask")
    )
    predicts.requires_grad_()
    loss = soft_cross_entropy(predicts, targets.softmax(-1), ~ignored)
    loss.backward()
    torch.testing.assert_close(loss.item(), float(recorded[f"sce{case}/loss"]), atol=1e-5, rtol=1e-6)
    expected = torch.from_numpy(recorded[f"sce{case}/grad_predicts"])
    torch.testing.assert_close(predicts.grad, expected, atol=1e-6, rtol=1e-5)


def test_the_language_modelling_loss_equals_the_published_one(
    recorded: dict[str, np.ndarray], tiny_student: Showo, tiny_vocabulary: Vocabulary
) -> None:
    ids, labels = (torch.from_numpy(recorded[f"lm/{name}"]).long() for name in ("input_ids", "labels"))
    rows = [row[label != -100].tolist() for row, label in zip(ids, labels, strict=True)]
    with torch.no_grad():
        loss = language_modelling(tiny_student, rows, tiny_vocabulary)
        hidden = tiny_student(ids, causal_mask(ids.shape[1]))
        plain = cross_entropy(
            tiny_student.logits(hidden[:, :-1][labels[:, 1:] != -100]), labels[:, 1:][labels[:, 1:] != -100]
        )
    torch.testing.assert_close(plain.item(), float(recorded["lm/loss"]), atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(loss.item(), float(recorded["lm/loss"]), atol=1e-4, rtol=1e-5)


def test_an_empty_mask_gives_loss_zero_with_gradient_zero() -> None:
    logits = torch.randn(2, 3, 5, requires_grad=True)
    soft_cross_entropy(logits, logits.detach().softmax(-1), torch.zeros(2, 3, dtype=torch.bool)).backward()
    assert (logits.grad == 0).all()
    assert cross_entropy(torch.empty(0, 5), torch.empty(0, dtype=torch.long)) == 0


def test_masks_of_text_positions() -> None:
    before, after = torch.tensor([[1, 2, 3, 4], [1, 2, 3, 4]]), torch.tensor([[1, 9, 3, 9], [1, 2, 3, 4]])
    assert after_first_difference(before, after).tolist() == [[False, True, True, True], [False] * 4]
    assert up_to_end(torch.tensor([[5, 0, 5, 0], [0, 5, 5, 5], [5, 5, 5, 5]]), 0).tolist() == [
        [True, True, False, False],
        [True, False, False, False],
        [True] * 4,
    ]
