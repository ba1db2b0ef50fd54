"""The image tokenizer of Show-o: a convolutional autoencoder around lookup-free quantization.

    pixels --encoder--> latents --signs--> codes --embedding--> signs --decoder--> pixels
    (B, 3, H, W)        (B, C, h, w)       (B, h * w)                              (B, 3, H, W)

Decisions:
- This is the 2-D, image-only model of MAGVIT-v2 (arXiv 2310.05737) that Show-o (arXiv 2408.12528, section 3.1) trains.
  Parameter names and default sizes are those of published checkpoints, so these load with `strict=True`.
- Small models differ in their config only. `patch_size` folds pixels into channels around the same layers; 1 folds
  nothing.
- A code is the signs of a latent, so lower precision in the encoder flips bits: keep it in float32. The decoder has no
  such threshold.
- `decode_codes` runs the decoder's layers through `backends.tiled_decoder`, or in float16 (`backends.half_decoder`);
  `Decoder.forward` has gradients.
"""

import math
from collections import OrderedDict
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from showo_turbo.backends.half_decoder import decode_half
from showo_turbo.backends.tiled_decoder import CPU_MIN_POSITIONS_TO_SUM_KERNELS, decode_tiled
from showo_turbo.errors import InputError
from showo_turbo.models.magvit_v2_config import MagvitV2Config


def group_norm(num_groups: int, channels: int) -> nn.GroupNorm:
    """Build the normalization of all blocks."""
    return nn.GroupNorm(num_groups, channels, eps=1e-6)


class ResidualBlock(nn.Module):
    """Add twice (norm, SiLU, 3x3 convolution) to the input; a 1x1 convolution adapts its channels if they differ."""

    def __init__(self, in_channels: int, out_channels: int, num_groups: int) -> None:
        super().__init__()
        self.norm1 = group_norm(num_groups, in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm2 = group_norm(num_groups, out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.nin_shortcut = nn.Identity() if in_channels == out_channels else nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, in_channels, height, width) -> (batch, out_channels, height, width)."""
        residual = self.conv1(F.silu(self.norm1(x)))
        residual = self.conv2(F.silu(self.norm2(residual)))
        return self.nin_shortcut(x) + residual


class AttentionBlock(nn.Module):
    """Add single-head self-attention over all positions to the input."""

    def __init__(self, channels: int, num_groups: int) -> None:
        super().__init__()
        self.norm = group_norm(num_groups, channels)
        self.q = nn.Conv2d(channels, channels, 1)
        self.k = nn.Conv2d(channels, channels, 1)
        self.v = nn.Conv2d(channels, channels, 1)
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, height, width), unchanged in shape."""
        normed = self.norm(x)
        query, key, value = (
            rearrange(project(normed), "batch channel height width -> batch 1 (height width) channel")
            for project in (self.q, self.k, self.v)
        )
        attended = F.scaled_dot_product_attention(query, key, value)
        attended = rearrange(
            attended, "batch 1 (height width) channel -> batch channel height width", height=x.shape[2]
        )
        return x + self.proj_out(attended)


class MiddleBlock(nn.Module):
    """Apply a residual, an attention and a residual block at the lowest resolution."""

    def __init__(self, channels: int, num_groups: int) -> None:
        super().__init__()
        self.block_1 = ResidualBlock(channels, channels, num_groups)
        self.attn_1 = AttentionBlock(channels, num_groups)
        self.block_2 = ResidualBlock(channels, channels, num_groups)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, height, width), unchanged in shape."""
        return self.block_2(self.attn_1(self.block_1(x)))


class Downsample(nn.Module):
    """Halve height and width: pad one row and column at the bottom right, then a 3x3 convolution of stride 2."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, height, width) -> (batch, channels, height / 2, width / 2)."""
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Double height and width: repeat every pixel, then a 3x3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, height, width) -> (batch, channels, 2 height, 2 width)."""
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


def residual_blocks(in_channels: int, out_channels: int, num_blocks: int, num_groups: int) -> nn.Sequential:
    """Build the residual blocks of one resolution level; the first one changes the channels."""
    widths = [in_channels] + [out_channels] * (num_blocks - 1)
    return nn.Sequential(*(ResidualBlock(width, out_channels, num_groups) for width in widths))


class Encoder(nn.Module):
    """Encode pixels as latents."""

    def __init__(self, config: MagvitV2Config) -> None:
        super().__init__()
        groups = config.norm_num_groups
        widths = [config.base_channels * multiplier for multiplier in config.encoder_channel_multipliers]
        self.patch_size = config.patch_size
        self.conv_in = nn.Conv2d(config.in_channels * config.patch_size**2, config.base_channels, 3, padding=1)
        self.down = nn.Sequential()
        for level, num_blocks in enumerate(config.encoder_num_blocks):
            width_before = widths[level - 1] if level else config.base_channels
            blocks = residual_blocks(width_before, widths[level], num_blocks, groups)
            step = nn.Identity() if level == len(widths) - 1 else Downsample(widths[level])
            self.down.append(nn.Sequential(OrderedDict(block=blocks, downsample=step)))
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
    """Decode quantized latents to pixels."""

    def __init__(self, config: MagvitV2Config) -> None:
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
            blocks = residual_blocks(width_before, widths[level], num_blocks, groups)
            step = nn.Identity() if level == 0 else Upsample(widths[level])
            self.up.append(nn.Sequential(OrderedDict(block=blocks, upsample=step)))
        self.norm_out = group_norm(groups, widths[0])
        self.conv_out = nn.Conv2d(widths[0], config.in_channels * config.patch_size**2, 3, padding=1)

    def forward(self, quantized: Tensor) -> Tensor:
        """(batch, latent_channels, h, w) -> (batch, in_channels, H, W)."""
        x = self.mid(self.conv_in(self.post_quant_conv(quantized)))
        for level in reversed(self.up):
            x = level(x)
        return F.pixel_shuffle(self.conv_out(F.silu(self.norm_out(x))), self.patch_size)


class LookupFreeQuantizer(nn.Module):
    """Quantize each latent to its signs, which are the bits of its code (arXiv 2310.05737, section 3).

        latent   (+0.7, -1.2, +0.1)
        signs    (  +1,   -1,   +1)      the quantized latent
        bits        1     0     1        the first channel is the most significant bit; a latent of exactly 0 is a 0
        code        5

    No entry is learned. The two constants are buffers because published checkpoints store them.
    """

    embedding: Tensor
    power_vals: Tensor

    def __init__(self, latent_channels: int) -> None:
        super().__init__()
        self.register_buffer("embedding", torch.empty(2**latent_channels, latent_channels))
        self.register_buffer("power_vals", torch.empty(latent_channels, dtype=torch.long))
        if not self.embedding.is_meta:  # arithmetic on the meta device takes a second of imports
            self.power_vals.copy_(2 ** torch.arange(latent_channels - 1, -1, -1))
            bits = torch.arange(2**latent_channels)[:, None] // self.power_vals % 2
            self.embedding.copy_(2.0 * bits - 1.0)

    def forward(self, latents: Tensor) -> Tensor:
        """Return the signs of latents (batch, channels, height, width), with a straight-through gradient."""
        signs = torch.where(latents > 0, 1.0, -1.0).to(latents.dtype)
        return latents + (signs - latents).detach()

    def latents_to_codes(self, latents: Tensor) -> Tensor:
        """Return the codes, long (batch, height, width), of latents (batch, channels, height, width)."""
        bits = rearrange(latents > 0, "batch channel height width -> batch height width channel")
        return (bits * self.power_vals).sum(-1)

    def codes_to_latents(self, codes: Tensor) -> Tensor:
        """Return latents of -1 and +1 (batch, channels, height, width) for integer codes (batch, height, width).

        Raises:
            InputError: if the codes are not integers or lie outside the codebook.
        """
        if codes.is_floating_point() or codes.is_complex() or codes.dtype == torch.bool:
            raise InputError(f"codes are {codes.dtype}; expected whole numbers (torch.long)")
        size = len(self.embedding)
        outside = codes[(codes < 0) | (codes >= size)]
        if outside.numel():
            raise InputError(f"code {outside[0].item()} is outside the codebook: codes are 0..{size - 1}")
        signs = rearrange(self.embedding[codes.long()], "batch height width channel -> batch channel height width")
        # Convolutions pass channels-last strides on, with which group norms on the CPU are ten times less exact.
        return signs.contiguous()


def commitment_loss(latents: Tensor) -> Tensor:
    """Return the mean squared distance of latents, of any shape, to their signs: a scalar."""
    signs = torch.where(latents > 0, 1.0, -1.0).to(latents.dtype)
    return F.mse_loss(latents, signs)


@dataclass(frozen=True)
class MagvitV2Output:
    """Hold the result of a training pass.

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
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.quantize = LookupFreeQuantizer(config.latent_channels)

    def forward(self, pixels: Tensor) -> MagvitV2Output:
        """Encode, quantize with a straight-through gradient and decode: one training pass; arguments as `encode`."""
        latents = self.encode(pixels)
        codes = self.quantize.latents_to_codes(latents).flatten(1)
        return MagvitV2Output(self.decoder(self.quantize(latents)), latents, codes)

    def encode(self, pixels: Tensor) -> Tensor:
        """Return latents before quantization, (batch, latent_channels, h, w).

        Args:
            pixels: float (batch, in_channels, H, W) in [-1, 1]; H and W are multiples of the downsampling factor.

        Raises:
            InputError: if `pixels` has another shape.
        """
        factor, channels, shape = self.config.downsampling_factor, self.config.in_channels, tuple(pixels.shape)
        if len(shape) != 4 or shape[1] != channels or 0 in shape or shape[2] % factor or shape[3] % factor:
            raise InputError(
                f"pixels have shape {shape}; expected (batch, {channels}, height, width) "
                f"with height and width positive multiples of {factor}"
            )
        size = self.config.encoder_tile_size
        if size is None:
            return self.encoder(pixels)
        rows = [torch.cat([self.encoder(tile) for tile in row.split(size, 3)], 3) for row in pixels.split(size, 2)]
        return torch.cat(rows, 2)

    def get_codes(self, pixels: Tensor) -> Tensor:
        """Return the codes of images in row-major order, long (batch, h * w); arguments and errors as `encode`."""
        return self.quantize.latents_to_codes(self.encode(pixels)).flatten(1)

    def decode_codes(
        self,
        codes: Tensor,
        height: int | None = None,
        width: int | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> Tensor:
        """Return the images of code grids: float (batch, in_channels, height * factor, width * factor), not clamped.

        Args:
            codes: long (batch, height * width), row-major.
            height: rows of the grid; omit it together with `width` for a square grid.
            width: columns of the grid.
            dtype: any half precision decodes in float16, see `backends.half_decoder`; others in that of the weights.

        Raises:
            InputError: if the codes do not fill the grid or lie outside the codebook.
        """
        latents = self.quantize.codes_to_latents(codes.unflatten(1, grid_shape(codes, height, width)))
        if dtype.itemsize == 2 and (pixels := decode_half(self.decoder, latents)) is not None:
            return pixels
        positions = codes.numel() * 4 ** (len(self.config.decoder_num_blocks) - 2)  # of the last map to be upsampled
        small = latents.device.type == "cpu" and positions < CPU_MIN_POSITIONS_TO_SUM_KERNELS
        with torch.no_grad():
            return self.decoder(latents) if small else decode_tiled(self.decoder, latents)


def grid_shape(codes: Tensor, height: int | None = None, width: int | None = None) -> tuple[int, int]:
    """Return height and width of the grid that `codes` (batch, tokens) fill; a square one unless given.

    Raises:
        InputError: if `codes` is not two-dimensional, or the grid has another number of positions.
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
