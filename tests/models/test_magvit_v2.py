"""The image tokenizer at a tiny size: shapes, gradients and input errors."""

import dataclasses
import json
from dataclasses import replace

import pytest
import torch
from small_models import SMALL_IMAGE_TOKENIZER
from torch.nn import functional as F

from showo_turbo.errors import InputError
from showo_turbo.models.magvit_v2 import MagvitV2, commitment_loss
from showo_turbo.models.magvit_v2_config import MagvitV2Config

TINY = replace(
    SMALL_IMAGE_TOKENIZER,
    encoder_channel_multipliers=(1, 2),
    encoder_num_blocks=(1, 2),
    decoder_channel_multipliers=(1, 3),
    decoder_num_blocks=(2, 1),
)


def make_model(config: MagvitV2Config = TINY, seed: int = 0) -> MagvitV2:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return MagvitV2(config).eval()


def make_pixels(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_shapes_of_a_training_pass():
    output = make_model()(make_pixels(2, 3, 64, 64))
    assert output.reconstruction.shape == (2, 3, 64, 64)
    assert output.latents.shape == (2, 6, 8, 8)
    assert output.codes.shape == (2, 64)
    assert output.codes.dtype == torch.long


@torch.no_grad()
def test_encoding_and_decoding_equal_a_training_pass():
    model, pixels = make_model(), make_pixels(2, 3, 32, 48)
    output = model(pixels)
    codes = model.get_codes(pixels)
    assert torch.equal(codes, output.codes)
    torch.testing.assert_close(model.decode_codes(codes, height=4, width=6), output.reconstruction)


@torch.no_grad()
def test_codes_are_row_major():
    """Changing the last code of the first row changes the right corner most; others change by normalization only."""
    model, codes = make_model(), torch.zeros(1, 64, dtype=torch.long)
    changed = codes.clone()
    changed[0, 7] = 63  # the right end of the first row
    difference = (model.decode_codes(codes) - model.decode_codes(changed)).abs().sum(1)[0]
    corners = {"right": difference[:8, -8:].sum(), "left": difference[:8, :8].sum(), "low": difference[-8:, :8].sum()}
    assert max(corners, key=corners.get) == "right"


@pytest.mark.parametrize("patch_size", [1, 2, 4])
def test_the_patch_size_changes_only_the_outermost_convolutions(patch_size: int):
    config = dataclasses.replace(TINY, patch_size=patch_size)
    model = make_model(config)
    assert config.downsampling_factor == 2 * patch_size
    assert model(make_pixels(1, 3, 16, 16)).codes.shape == (1, (8 // patch_size) ** 2)
    other = make_model(dataclasses.replace(config, patch_size=8)).state_dict()
    changed = {key for key, value in model.state_dict().items() if value.shape != other[key].shape}
    assert changed == {"encoder.conv_in.weight", "decoder.conv_out.weight", "decoder.conv_out.bias"}


def test_every_parameter_is_trained():
    model, pixels = make_model(), make_pixels(2, 3, 32, 32)
    output = model(pixels)
    (F.mse_loss(output.reconstruction, pixels) + commitment_loss(output.latents)).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        # A shift of all keys changes no attention weight.
        assert parameter.grad.abs().max() > 0 or name.endswith("attn_1.k.bias"), name


@torch.no_grad()
def test_images_of_a_batch_do_not_mix():
    model, pixels = make_model(), make_pixels(3, 3, 32, 32)
    assert torch.equal(model.get_codes(pixels)[1:2], model.get_codes(pixels[1:2]))


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_the_model_runs_in_other_precisions(dtype: torch.dtype):
    model = make_model().to(dtype)
    codes = model.get_codes(make_pixels(1, 3, 32, 32).to(dtype))
    assert codes.dtype == torch.long
    assert model.decode_codes(codes).dtype == dtype


@pytest.mark.parametrize("shape", [(3, 64, 64), (1, 1, 64, 64), (1, 3, 60, 64), (1, 3, 64, 0), (0, 3, 64, 64)])
def test_pixels_of_another_shape_are_an_error(shape: tuple[int, ...]):
    with pytest.raises(InputError, match=r"expected \(batch, 3, height, width\) with .* multiples of 8"):
        make_model().encode(torch.zeros(shape))


@pytest.mark.parametrize(
    ("tokens", "height", "width", "message"),
    [
        (48, None, None, "48 codes do not make a square grid: give height and width"),
        (48, 8, None, "height is 8 and width is None: give both"),
        (48, 6, 9, "a grid of height 6 and width 9 does not hold 48 codes"),
        (48, -6, -8, "does not hold 48 codes"),
    ],
)
def test_codes_that_do_not_fill_the_grid_are_an_error(tokens, height, width, message):
    with pytest.raises(InputError, match=message):
        make_model().decode_codes(torch.zeros(1, tokens, dtype=torch.long), height, width)


@pytest.mark.parametrize("shape", [(64,), (1, 8, 8), (1, 0), (0, 64)])
def test_codes_that_are_not_two_dimensional_are_an_error(shape: tuple[int, ...]):
    with pytest.raises(InputError, match=r"expected \(batch, tokens\)"):
        make_model().decode_codes(torch.zeros(shape, dtype=torch.long))


@pytest.mark.parametrize("code", [-1, 64])
def test_codes_outside_the_codebook_are_an_error(code: int):
    codes = torch.zeros(2, 64, dtype=torch.long)
    codes[1, 3] = code
    with pytest.raises(InputError, match=rf"code {code} is outside the codebook: codes are 0\.\.63"):
        make_model().decode_codes(codes)


def test_codes_that_are_not_integers_are_an_error():
    with pytest.raises(InputError, match=r"codes are torch\.float32; expected whole numbers"):
        make_model().decode_codes(torch.zeros(1, 64))


def test_the_default_config_is_the_published_model():
    config = MagvitV2Config()
    assert config.codebook_size == 8192
    assert config.downsampling_factor == 16


def test_a_config_survives_a_json_round_trip():
    assert MagvitV2Config.from_dict(json.loads(json.dumps(TINY.to_dict()))) == TINY
    assert MagvitV2Config.from_dict({}) == MagvitV2Config()


def test_an_unknown_key_is_an_error():
    with pytest.raises(InputError, match=r"unknown chanels; known are in_channels, patch_size"):
        MagvitV2Config.from_dict({"chanels": 3})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"in_channels": 0}, "in_channels is 0; expected positive whole numbers"),
        ({"patch_size": 2.0}, "patch_size is 2.0; expected positive whole numbers"),
        ({"patch_size": True}, "patch_size is True"),
        ({"latent_channels": 40}, "latent_channels is 40; at most 20 bits"),
        ({"encoder_num_blocks": (1, 0)}, r"encoder_num_blocks is \(1, 0\)"),
        ({"encoder_num_blocks": 2}, "encoder_num_blocks is 2; expected one positive whole number for every level"),
        ({"decoder_num_blocks": ()}, r"decoder_num_blocks is \(\)"),
        ({"decoder_num_blocks": (2, 1, 1)}, "as many levels in every list.*decoder_num_blocks 3"),
        ({"norm_num_groups": 5}, "norm_num_groups 5 does not divide the 8 channels"),
    ],
)
def test_an_invalid_config_is_an_error(changes: dict, message: str):
    with pytest.raises(InputError, match=message):
        dataclasses.replace(TINY, **changes)
