"""Half precision makes the choices of float32; probabilities and confidences are float32 for any logits.

Fraction of positions of the golden checkpoint, whose weights are random, at which the best id equals that of float32:

    stored as    arithmetic
    float16      float32, as on the CPU                     100.0 %
    float16      float16, as on GPUs                        100.0 %
    bfloat16     float32, as on the CPU                      99.1 %
    bfloat16     bfloat16, as on GPUs                        97.6 %

All changes are between logits that are closer than 0.1 at a spread of 5.6: such ties are 7 % of the positions of this
checkpoint. The arithmetic of GPUs is emulated on the CPU here.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from showo_turbo.checkpoints import loading
from showo_turbo.generation.scheduler import UnmaskingScheduler
from showo_turbo.models.omni_attention import causal_mask, text_to_image_mask, understanding_mask
from showo_turbo.models.showo import Showo
from showo_turbo.processing.prompts import PromptBuilder, left_pad
from showo_turbo.vocabulary import Vocabulary

MASKS = {
    "t2i": text_to_image_mask,
    "cfg": text_to_image_mask,
    "t2i_full": text_to_image_mask,
    "mmu": understanding_mask,
    "lm": lambda ids, vocabulary: causal_mask(ids.shape[1]),
}
HALVES = ("float16", "bfloat16")


@dataclass(frozen=True)
class Precision:
    """Configure a run, and the fraction of choices that must equal those of float32."""

    stored: str
    native: bool
    at_least: float


PRECISIONS = {
    "float16": Precision("float16", native=False, at_least=0.99),
    "bfloat16": Precision("bfloat16", native=False, at_least=0.99),
    "native float16": Precision("float16", native=True, at_least=0.99),
    "native bfloat16": Precision("bfloat16", native=True, at_least=0.97),
}


@dataclass(frozen=True)
class Choices:
    """Compare the ids with the highest logits, in half precision and as published.

    Attributes:
        same: bool (positions,), True where they agree.
        gap: float32 (positions,), difference of the two highest published logits.
        codes_same: bool (image positions,), True where the best image codes agree.
    """

    same: Tensor
    gap: Tensor
    codes_same: Tensor


@pytest.fixture(scope="module", params=PRECISIONS.values(), ids=PRECISIONS.keys())
def precision(request: pytest.FixtureRequest) -> Iterator[Precision]:
    """Use native arithmetic as on other devices than the CPU."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param.native:
            patch.setattr("showo_turbo.models.showo.arithmetic_dtype", lambda weight: weight.dtype)
        yield request.param


@pytest.fixture(scope="module")
def half_model(precision: Precision, tiny_folder: Path) -> Showo:
    return loading.load_showo(loading.locate(tiny_folder), getattr(torch, precision.stored))


@pytest.fixture(scope="module")
def choices(half_model: Showo, golden: Path, tiny_vocabulary: Vocabulary) -> Choices:
    """Compare all golden sequences, without padding."""
    expected, vocabulary = np.load(golden / "forward.npz"), tiny_vocabulary
    codebook = slice(vocabulary.image_offset, vocabulary.mask_id)
    same, gap, codes_same = [], [], []
    for case, mask in MASKS.items():
        ids = torch.from_numpy(expected[f"{case}_input_ids"]).long()
        published = torch.from_numpy(expected[f"{case}_logits"])
        with torch.no_grad():
            logits = half_model.logits(half_model(ids, mask(ids, vocabulary)))
        assert logits.dtype == torch.float32
        assert logits.isfinite().all()
        real, image = ids != vocabulary.pad_id, ids >= vocabulary.image_offset
        best = published.topk(2).values
        same.append((logits.argmax(-1) == published.argmax(-1))[real])
        gap.append((best[..., 0] - best[..., 1])[real])
        codes_same.append((logits[..., codebook].argmax(-1) == published[..., codebook].argmax(-1))[image])
    return Choices(torch.cat(same), torch.cat(gap), torch.cat(codes_same))


def test_choices_equal_those_of_float32(choices: Choices, precision: Precision) -> None:
    assert choices.same.float().mean() >= precision.at_least
    assert choices.codes_same.float().mean() >= precision.at_least


def test_only_near_ties_change(choices: Choices) -> None:
    clear = choices.gap > 0.1
    assert clear.float().mean() > 0.9
    assert choices.same[clear].all()


@pytest.mark.parametrize("dtype", HALVES)
def test_a_step_computes_in_float32(dtype: str) -> None:
    scheduler = UnmaskingScheduler(codebook_size=12, top_k=5)
    scheduler.set_timesteps(3, num_codes=9)
    generator = torch.Generator()
    logits = 9 * torch.randn(2 * 9, 12, generator=generator.manual_seed(0))
    codes, masked = torch.zeros(2, 9, dtype=torch.long), torch.ones(2, 9, dtype=torch.bool)
    rounded = logits.to(getattr(torch, dtype))
    half = scheduler.step(rounded, 0, codes, masked, generator.manual_seed(1))
    full = scheduler.step(rounded.float(), 0, codes, masked, generator.manual_seed(1))
    assert half.confidence.dtype == torch.float32
    assert half.confidence.equal(full.confidence)
    assert half.candidates.equal(full.candidates)
    assert half.masked.equal(full.masked)


def test_padding_is_hidden_in_half_precision(half_model: Showo, tiny_prompts: PromptBuilder) -> None:
    """A row is the same with ten pads before it, whose own rows stay finite."""
    vocabulary = tiny_prompts.vocabulary
    image = [vocabulary.soi_id, *[vocabulary.mask_id] * 64, vocabulary.eoi_id]
    row = [*tiny_prompts.text_to_image("a red car"), *image]
    padded = left_pad([row, [vocabulary.t2i_id] * (len(row) + 10)], vocabulary.pad_id).ids[:1]
    unpadded = torch.tensor([row])
    with torch.no_grad():
        long = half_model(padded, text_to_image_mask(padded, vocabulary))
        short = half_model(unpadded, text_to_image_mask(unpadded, vocabulary))
    assert long.isfinite().all()
    tolerance = 8 * torch.finfo(short.dtype).eps * short.float().abs().max()
    torch.testing.assert_close(long[:, 10:], short, rtol=0, atol=float(tolerance))
