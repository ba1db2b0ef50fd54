"""The image tokenizer of Show-o: a convolutional autoencoder around lookup-free quantization.

    pixels --encoder--> latents --signs--> codes --embedding--> signs --decoder--> pixels
    (B, 3, H, W)        (B, C, h, w)       (B, h * w)                              (B, 3, H, W)

Decisions:
- It is the 2-D, image-only model of MAGVIT-v2 (arXiv 2310.05737) that Show-o (arXiv 2408.12528, section 3.1) trains;
  parameter names and the default sizes are those of published checkpoints, so these load with `strict=True`.
- Small models differ in their config only. `patch_size` folds pixels into channels around the same layers; with 1 it
  does nothing.
- The encoder's output is cut into signs, so lower precision flips bits: keep it in float32. The decoder has no such
  threshold.
"""

import math
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from showo_turbo.backends import tiled_decoder as bands
from showo_turbo.errors import InputError
from showo_turbo.models.lookup_free_quantizer import LookupFreeQuantizer
from showo_turbo.models.magvit_v2_blocks import DownLevel, MiddleBlock, UpLevel, group_norm
from showo_turbo.models.magvit_v2_config import MagvitV2Config


class Encoder(nn.Module):
    """Pixels to latents."""

    def __init__(self, config: MagvitV2Config) -> None:
        """Build with random weights."""
        super().__init__()
        groups = config.norm_num_groups
        widths = [config.base_channels * multiplier for multiplier in config.encoder_channel_multipliers]
        self.patch_size = config.patch_size
        self.conv_in = nn.Conv2d(config.in_channels * config.patch_size**2, config.base_channels, 3, padding=1)
        self.down = nn.Sequential()
        for level, num_blocks in enumerate(config.encoder_num_blocks):
            width_before = widths[level - 1] if level else config.base_channels
            lowest = level == len(widths) - 1
            self.down.append(DownLevel(width_before, widths[level], num_blocks, groups, lowest))
        self.mid = MiddleBlock(widths[-1], groups)
        self.norm_out = group_norm(groups, widths[-1])
        self.conv_out = nn.Conv2d(widths[-1], config.latent_channels, 3, padding=1)
        self.quant_conv = nn.Conv2d(config.latent_channels, config.latent_channels, 1)

    def forward(self, pixels: Tensor) -> Tensor:
        """(batch, in_channels, H, W) -> (batch, latent_channels, h, w)."""
        x = self.conv_in(F.pixel_unshuffle(pixels, self.patch_size))
        x = self.mid(self.down(x))
        return self.quant_conv(self.conv_out(F.silu(self.norm_out(x))))


class Decoder(nn.Module):
    """Quantized latents to pixels."""

    def __init__(self, config: MagvitV2Config) -> None:
        """Build with random weights."""
        super().__init__()
        groups = config.norm_num_groups
        widths = [config.base_channels * multiplier for multiplier in config.decoder_channel_multipliers]
        self.patch_size = config.patch_size
        self.post_quant_conv = nn.Conv2d(config.latent_channels, config.latent_channels, 1)
        self.conv_in = nn.Conv2d(config.latent_channels, widths[-1], 3, padding=1)
        self.mid = MiddleBlock(widths[-1], groups)
        self.up = nn.ModuleList()
        for level, num_blocks in enumerate(config.decoder_num_blocks):
            width_before = widths[min(level + 1, len(widths) - 1)]
            self.up.append(UpLevel(width_before, widths[level], num_blocks, groups, highest=level == 0))
        self.norm_out = group_norm(groups, widths[0])
        self.conv_out = nn.Conv2d(widths[0], config.in_channels * config.patch_size**2, 3, padding=1)

    def forward(self, quantized: Tensor) -> Tensor:
        """(batch, latent_channels, h, w) -> (batch, in_channels, H, W)."""
        x = self.mid(self.conv_in(self.post_quant_conv(quantized)))
        for level in reversed(self.up):
            x = level(x)
        return F.pixel_shuffle(self.conv_out(F.silu(self.norm_out(x))), self.patch_size)

    @torch.no_grad()
    def decode(self, quantized: Tensor) -> Tensor:
        """What `forward` computes, in less time and memory but without gradients; see `magvit_v2_bands`."""
        x = self.mid(self.conv_in(self.post_quant_conv(quantized)))
        for level in reversed(self.up):
            x = bands.up_level(x, level)
        x = bands.normed_convolution(x, self.norm_out, self.conv_out)
        return F.pixel_shuffle(x, self.patch_size)


@dataclass(frozen=True)
class MagvitV2Output:
    """What training the tokenizer looks at.

    Attributes:
        reconstruction: (batch, in_channels, H, W), not clamped.
        latents: (batch, latent_channels, h, w), before quantization.
        codes: long (batch, h * w).
    """

    reconstruction: Tensor
    latents: Tensor
    codes: Tensor


class MagvitV2(nn.Module):
    """MAGVIT-v2 image tokenizer (arXiv 2310.05737): images to grids of codes and back."""

    def __init__(self, config: MagvitV2Config) -> None:
        """Build with random weights."""
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.quantize = LookupFreeQuantizer(config.latent_channels)

    def forward(self, pixels: Tensor) -> MagvitV2Output:
        """Encode, quantize with a straight-through gradient and decode: one training pass.

        Args:
            pixels: float (batch, in_channels, H, W) in [-1, 1].

        Raises:
            InputError: as `encode`.
        """
        latents = self.encode(pixels)
        return MagvitV2Output(
            reconstruction=self.decoder(self.quantize(latents)),
            latents=latents,
            codes=self._flat_codes(latents),
        )

    def encode(self, pixels: Tensor) -> Tensor:
        """Latents before quantization, (batch, latent_channels, h, w).

        Args:
            pixels: float (batch, in_channels, H, W) in [-1, 1]; H and W are multiples of the downsampling factor.

        Raises:
            InputError: when `pixels` has another shape.
        """
        factor = self.config.downsampling_factor
        shape = tuple(pixels.shape)
        if (
            len(shape) != 4
            or shape[1] != self.config.in_channels
            or 0 in shape
            or shape[2] % factor
            or shape[3] % factor
        ):
            raise InputError(
                f"pixels have shape {shape}; expected (batch, {self.config.in_channels}, height, width) "
                f"with height and width positive multiples of {factor}"
            )
        return self.encoder(pixels)

    def get_codes(self, pixels: Tensor) -> Tensor:
        """Codes of images in row-major order, long (batch, h * w).

        Args:
            pixels: as for `encode`.

        Raises:
            InputError: as `encode`.
        """
        return self._flat_codes(self.encode(pixels))

    def decode_codes(self, codes: Tensor, height: int | None = None, width: int | None = None) -> Tensor:
        """Images of code grids: float (batch, in_channels, height * factor, width * factor), not clamped.

        Args:
            codes: long (batch, height * width), row-major.
            height: rows of the grid; left out together with `width` for a square one.
            width: columns of the grid.

        Raises:
            InputError: when the codes do not fill the grid or lie outside the codebook.
        """
        height, width = grid_shape(codes, height, width)
        grid = rearrange(codes, "batch (height width) -> batch height width", height=height, width=width)
        return self.decoder.decode(self.quantize.codes_to_latents(grid))

    def _flat_codes(self, latents: Tensor) -> Tensor:
        return rearrange(self.quantize.latents_to_codes(latents), "batch height width -> batch (height width)")


def grid_shape(codes: Tensor, height: int | None = None, width: int | None = None) -> tuple[int, int]:
    """Rows and columns of the grid that `codes` (batch, tokens) fill: as given, or square.

    Raises:
        InputError: when `codes` is not a batch of rows, or the grid has another number of places.
    """
    if codes.ndim != 2 or 0 in codes.shape:
        raise InputError(f"codes have shape {tuple(codes.shape)}; expected (batch, tokens)")
    tokens = codes.shape[1]
    if height is None and width is None:
        side = math.isqrt(tokens)
        if side * side != tokens:
            raise InputError(f"{tokens} codes do not make a square grid: give height and width")
        return side, side
    if height is None or width is None:
        raise InputError(f"height is {height} and width is {width}: give both, or neither for a square grid")
    if height < 1 or width < 1 or height * width != tokens:
        raise InputError(f"a grid of height {height} and width {width} does not hold {tokens} codes")
    return height, width
