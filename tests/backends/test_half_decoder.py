"""The image decoder in float16: pixels close to float32's, of any number of images, and float32 where it overflows."""

from dataclasses import replace

import pytest
import torch
from small_models import SMALL_IMAGE_TOKENIZER
from torch import Tensor

from showo_turbo import ShowoPipeline
from showo_turbo.backends import half_decoder
from showo_turbo.models.magvit_v2 import MagvitV2

SMALL = replace(SMALL_IMAGE_TOKENIZER, encoder_channel_multipliers=(1, 2), decoder_channel_multipliers=(1, 2))
CODES = torch.arange(48).view(3, 16)


@pytest.fixture(scope="module")
def tiny_turbo() -> ShowoPipeline:
    return ShowoPipeline.from_pretrained("tiny-turbo", device="cpu")


def make_model() -> MagvitV2:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return MagvitV2(SMALL).eval()


def fraction_within_a_level(found: Tensor, expected: Tensor) -> float:
    levels = (found.clamp(-1, 1) - expected.clamp(-1, 1)).abs() * 255 / 2
    return (levels <= 1).float().mean().item()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_pixels_of_a_shipped_decoder_are_within_a_level(tiny_turbo: ShowoPipeline, dtype: torch.dtype) -> None:
    tokenizer, codes = tiny_turbo.image_tokenizer, torch.arange(64)[None] * 16
    found, expected = tokenizer.decode_codes(codes, dtype=dtype), tokenizer.decode_codes(codes)
    assert found.dtype == torch.float32
    assert not found.equal(expected)
    assert fraction_within_a_level(found, expected) >= 0.999


@pytest.mark.parametrize("limit", [1, 2 * 8 * 64 * 2, 2**29])
def test_any_number_of_images_at_once(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(half_decoder, "GPU_BAND_BYTES", limit)
    model = make_model()
    found = model.decode_codes(CODES, dtype=torch.float16)
    assert found.shape == (3, 3, 32, 32)
    assert fraction_within_a_level(found, model.decode_codes(CODES)) >= 0.999


@torch.no_grad()
def test_an_overflow_is_decoded_in_float32() -> None:
    model = make_model()
    model.decoder.conv_in.weight.mul_(1e7)
    assert model.decode_codes(CODES, dtype=torch.float16).equal(model.decode_codes(CODES))


@torch.no_grad()
def test_weights_that_were_written_to_are_copied_again() -> None:
    model = make_model()
    before = model.decode_codes(CODES, dtype=torch.float16)
    model.decoder.conv_out.bias.add_(1)
    torch.testing.assert_close(model.decode_codes(CODES, dtype=torch.float16), before + 1, rtol=0, atol=0.01)
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}


def test_a_cpu_decodes_in_float32(tiny_turbo: ShowoPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(half_decoder, "_copies", None)
    assert len(tiny_turbo.decode_codes(torch.arange(64)[None])) == 1
