"""Masks and logits equal those of the published model."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from showo_turbo.models.omni_attention import causal_mask, text_to_image_mask, understanding_mask
from showo_turbo.models.showo import Showo
from showo_turbo.processing.prompts import PromptBuilder, left_pad
from showo_turbo.vocabulary import Vocabulary

MASKS = {
    "t2i": text_to_image_mask,
    "cfg": text_to_image_mask,
    "t2i_full": text_to_image_mask,
    "mmu": understanding_mask,
    "lm": lambda ids, vocabulary: causal_mask(ids.shape[1]).expand(len(ids), -1, -1, -1),
}


@pytest.fixture(scope="module")
def expected(golden: Path) -> dict[str, np.ndarray]:
    return dict(np.load(golden / "forward.npz"))


def mask_of(case: str, expected: dict[str, np.ndarray], vocabulary: Vocabulary) -> tuple[Tensor, Tensor]:
    ids = torch.from_numpy(expected[f"{case}_input_ids"]).long()
    return ids, MASKS[case](ids, vocabulary)


@pytest.mark.parametrize("case", MASKS)
def test_masks(case: str, expected: dict[str, np.ndarray], tiny_vocabulary: Vocabulary) -> None:
    _, mask = mask_of(case, expected, tiny_vocabulary)
    np.testing.assert_array_equal(mask.numpy(), expected[f"{case}_attention_mask"] == 0)


@pytest.mark.parametrize("case", MASKS)
def test_logits(case: str, expected: dict[str, np.ndarray], tiny_model: Showo, tiny_vocabulary: Vocabulary) -> None:
    ids, mask = mask_of(case, expected, tiny_vocabulary)
    with torch.no_grad():
        logits = tiny_model.logits(tiny_model(ids, mask))
    np.testing.assert_allclose(logits.numpy(), expected[f"{case}_logits"], atol=3e-5)


def test_head_on_chosen_ids(tiny_model: Showo, tiny_vocabulary: Vocabulary) -> None:
    first, last = tiny_vocabulary.image_offset, tiny_vocabulary.mask_id
    with torch.no_grad():
        hidden = tiny_model(torch.arange(20)[None])
        codebook = tiny_model.logits(hidden[:, 3:5], first, last)
        torch.testing.assert_close(codebook, tiny_model.logits(hidden)[:, 3:5, first:last])


def test_prompts_of_the_logits(
    expected: dict[str, np.ndarray], tiny_prompts: PromptBuilder, tiny_vocabulary: Vocabulary
) -> None:
    rows = [tiny_prompts.text_to_image(prompt) for prompt in ("a red car", "two dogs in the snow")]
    prefix = left_pad([*rows, [0] * 17], tiny_vocabulary.pad_id)
    np.testing.assert_array_equal(prefix.ids[:2], expected["t2i_input_ids"][:, :17])
