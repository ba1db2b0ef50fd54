"""Tiled decoding gives the decoder's images for any grid, batch, model size and band size."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from showo_turbo.backends import tiled_decoder
from showo_turbo.backends.tiled_decoder import norm_scale_and_shift
from showo_turbo.backends.winograd import WinogradConvolution
from showo_turbo.models.magvit_v2 import MagvitV2
from showo_turbo.models.magvit_v2_config import MagvitV2Config


def random_tokenizer(seed: int, patch_size: int, base_channels: int) -> MagvitV2:
    config = MagvitV2Config(
        patch_size=patch_size,
        base_channels=base_channels,
        encoder_channel_multipliers=(1, 1, 1),
        encoder_num_blocks=(1, 1, 1),
        decoder_channel_multipliers=(1, 2, 1),
        decoder_num_blocks=(2, 1, 2),
        latent_channels=4,
        norm_num_groups=4,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = MagvitV2(config).eval()
        for module in model.modules():
            if isinstance(module, nn.GroupNorm):
                nn.init.normal_(module.weight)
                nn.init.normal_(module.bias)
    return model


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 100),
    batch=st.integers(1, 3),
    height=st.integers(1, 5),
    width=st.integers(1, 5),
    patch_size=st.sampled_from([1, 2]),
    base_channels=st.sampled_from([8, 16]),
    band_bytes=st.sampled_from([1, 3000, 10**6]),
    min_positions=st.sampled_from([1, 10**6]),
)
def test_tiled_decoding_equals_the_decoder(
    seed: int,
    batch: int,
    height: int,
    width: int,
    patch_size: int,
    base_channels: int,
    band_bytes: int,
    min_positions: int,
) -> None:
    model = random_tokenizer(seed, patch_size, base_channels)
    codes = torch.randint(16, (batch, height * width), generator=torch.Generator().manual_seed(seed))
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(tiled_decoder, "CPU_BAND_BYTES", band_bytes)
        patch.setattr(tiled_decoder, "CPU_MIN_POSITIONS_TO_SUM_KERNELS", min_positions)
        latents = model.quantize.codes_to_latents(codes.view(batch, height, width))
        expected = model.decoder(latents)
        tiled = tiled_decoder.decode_tiled(model.decoder, latents)
        found = model.decode_codes(codes, height, width)
    torch.testing.assert_close(tiled, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_group_norm_over_bands_is_exact_far_from_zero() -> None:
    x = 50 + torch.randn(2, 64, 64, 16, generator=torch.Generator().manual_seed(0))
    norm = nn.GroupNorm(4, 16, eps=1e-6)
    scale, shift = norm_scale_and_shift(x, norm)
    exact = norm.double()(x.double().permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    torch.testing.assert_close((x * scale + shift).double(), exact, rtol=0, atol=5e-5)


@torch.no_grad()
def test_winograd_equals_a_plain_convolution() -> None:
    conv = nn.Conv2d(24, 16, 3)
    padded = torch.randn(2, 24, 7, 14, generator=torch.Generator().manual_seed(0))
    found = WinogradConvolution(conv)(padded.permute(0, 2, 3, 1))
    torch.testing.assert_close(found.permute(0, 3, 1, 2), conv(padded), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_a_small_map_runs_through_the_plain_layers() -> None:
    """So it is never slower than these, and its images are equal bit for bit."""
    model = random_tokenizer(0, 2, 8)
    codes = torch.randint(16, (2, 9), generator=torch.Generator().manual_seed(0))
    latents = model.quantize.codes_to_latents(codes.view(2, 3, 3))
    expected = model.decoder(latents)
    assert torch.equal(tiled_decoder.decode_tiled(model.decoder, latents), expected)
    assert torch.equal(model.decode_codes(codes), expected)


def test_training_has_gradients() -> None:
    model = random_tokenizer(0, 1, 8)
    model(torch.zeros(1, 3, 8, 8)).reconstruction.sum().backward()
    assert all(parameter.grad is not None for parameter in model.decoder.parameters())
