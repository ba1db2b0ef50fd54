"""The image decoder for inference: the same layers in bands of rows that stay in the CPU's cache.

    x  (images, height, width, channels)
    . . . . .  --+
    . . . . .    |  band and a row on either side --norm, SiLU--> padded --3x3 convolution--> band of the output
    . . . . .  --+

On a CPU a decoder spends its time on convolutions at the highest resolutions, and on moving feature maps between memory
and cache. `Decoder.forward`, which training needs for its gradients, allocates a new map for every norm, SiLU and
convolution.

Decisions:
- Feature maps are channels-last, so a band is contiguous.
- A group norm is a scale and a shift per channel, once the sums over the map are known. These are accumulated in
  float64 over bands, which is more exact than torch's group norm on such maps. Norm, SiLU and convolution then run band
  by band, and a residual is added in place: two maps are allocated at a time, and no others.
- Doubling the resolution and then convolving 3x3 reads every pixel up to four times. It equals four 2x2 convolutions of
  the small map, whose kernels are sums of the 3x3 kernel's entries, at 4/9 of the work.
- On the CPU, 3x3 convolutions are Winograd convolutions, at half of the work (`winograd`).
- A map that is smaller than a band runs through the plain layers, which are faster there: summing kernels takes as long
  for a small map as for a large one. On a GPU the plain layers are always faster, so a band there is as large as memory
  allows.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, cast

import torch
from einops import rearrange, reduce, repeat
from torch import Tensor, nn
from torch.nn import functional as F

from showo_turbo.backends.winograd import TILE, WinogradConvolution

if TYPE_CHECKING:
    from showo_turbo.models.magvit_v2 import Decoder, ResidualBlock, Upsample

CPU_BAND_BYTES = 2**21
GPU_BAND_BYTES = 2**29

CPU_MIN_POSITIONS_TO_SUM_KERNELS = 256
"""Positions of a map from which summing the kernels of an upsampling convolution takes less time than it saves."""

_MIN_WINOGRAD_CHANNELS = 16

_KERNEL_ROW_SUMS = (((1.0, 0.0, 0.0), (0.0, 1.0, 1.0)), ((1.0, 1.0, 0.0), (0.0, 0.0, 1.0)))
"""Rows of a 3x3 kernel that are summed, by parity of the output row and by row of the 2x2 kernel."""


@torch.no_grad()
def decode_tiled(decoder: "Decoder", quantized: Tensor) -> Tensor:
    """Compute `Decoder.forward` in less time and memory, without gradients.

    Args:
        decoder: the layers.
        quantized: (images, latent_channels, h, w).

    Returns:
        (images, in_channels, H, W).
    """
    x = decoder.mid(decoder.conv_in(decoder.post_quant_conv(quantized)))
    for level in reversed(decoder.up):
        x = _up_level(x, *cast(nn.Sequential, level))
    if x.nbytes >= band_bytes(x):
        bands = convolved_bands(_channels_last(x).contiguous(), decoder.norm_out, decoder.conv_out)
        x = torch.cat([_channels_first(band) for _, band in bands], 2).contiguous()
    else:
        x = decoder.conv_out(F.silu(decoder.norm_out(x.contiguous())))
    return F.pixel_shuffle(x, decoder.patch_size)


def _up_level(x: Tensor, blocks: nn.Module, step: nn.Module) -> Tensor:
    """Run one resolution level on a map (images, channels, height, width), which may be overwritten.

    Args:
        x: the map.
        blocks: residual blocks.
        step: `Upsample`, or `nn.Identity` at the highest level.
    """
    if x.nbytes >= band_bytes(x):
        x = _channels_last(x).contiguous()
        layers = cast("Sequence[ResidualBlock]", blocks)
        buffer = x.new_empty(*x.shape[:3], layers[0].conv1.out_channels)
        for block in layers:
            x = residual(x, block, buffer)
        x = _channels_first(x)
    else:
        x = blocks(x.contiguous())
    if x.device.type == "cpu":
        sum_kernels = len(x) * x.shape[2] * x.shape[3] >= CPU_MIN_POSITIONS_TO_SUM_KERNELS
    else:
        sum_kernels = x.nbytes >= band_bytes(x)
    if sum_kernels and not isinstance(step, nn.Identity):
        return _channels_first(upsample(_channels_last(x).contiguous(), cast("Upsample", step)))
    return step(x.contiguous())


def residual(x: Tensor, block: "ResidualBlock", buffer: Tensor) -> Tensor:
    """Run a residual block on a map (images, height, width, channels), in place if the number of channels stays.

    Args:
        x: the map.
        block: the layers.
        buffer: (images, height, width, output channels), overwritten.
    """
    for rows, convolved in convolved_bands(x, block.norm1, block.conv1):
        buffer[:, rows] = convolved
    if not isinstance(block.nin_shortcut, nn.Identity):
        x = _channels_last(block.nin_shortcut(_channels_first(x))).contiguous()
    for rows, convolved in convolved_bands(buffer, block.norm2, block.conv2):
        x[:, rows] += convolved
    return x


def convolved_bands(x: Tensor, norm: nn.GroupNorm, conv: nn.Conv2d) -> Iterator[tuple[slice, Tensor]]:
    """Run norm, SiLU and 3x3 convolution on a map (images, height, width, channels), band by band.

    Yields:
        Rows, and the output there: (images, rows, width, output channels).
    """
    scale, shift = norm_scale_and_shift(x, norm)
    convolve = _padded_convolution(conv, x)
    for rows in row_bands(x):
        above, below = min(rows.start, 1), min(x.shape[1] - rows.stop, 1)
        padded = x.new_empty(len(x), rows.stop - rows.start + 2, x.shape[2] + 2, x.shape[3])
        inside = padded[:, 1 - above : padded.shape[1] - 1 + below, 1:-1]
        torch.addcmul(shift, x[:, rows.start - above : rows.stop + below], scale, out=inside)
        F.silu(inside, inplace=True)
        padded[:, : 1 - above], padded[:, padded.shape[1] - 1 + below :] = 0, 0
        padded[:, :, 0], padded[:, :, -1] = 0, 0
        yield rows, convolve(padded)


def norm_scale_and_shift(x: Tensor, norm: nn.GroupNorm) -> tuple[Tensor, Tensor]:
    """Compute the scale and shift of each channel that equal a group norm of a map: two (images, 1, 1, channels)."""
    near = x[:, :1, :1]  # sums of squares are exact only for numbers that are not far from 0
    sums = torch.zeros(2, len(x), x.shape[3], dtype=torch.float64, device=x.device)
    for rows in row_bands(x):
        band = x[:, rows] - near
        sums[0] += band.sum((1, 2))
        sums[1] += band.square_().sum((1, 2))
    first, second = sums / (x.shape[1] * x.shape[2])
    means, squares = near[:, 0, 0] + first, second - first.square()

    mean = _group_means(means, norm.num_groups)
    variance = _group_means(squares + (means - mean).square(), norm.num_groups)
    scale = norm.weight * variance.clamp(min=0).add(norm.eps).rsqrt()
    shift = norm.bias - mean * scale
    return rearrange(scale, "b c -> b 1 1 c").to(x.dtype), rearrange(shift, "b c -> b 1 1 c").to(x.dtype)


def _group_means(values: Tensor, groups: int) -> Tensor:
    """Replace the value of every channel by the mean of its group: (images, channels)."""
    means = reduce(values, "b (g c) -> b g", "mean", g=groups)
    return repeat(means, "b g -> b (g c)", c=values.shape[1] // groups)


def upsample(x: Tensor, layer: "Upsample") -> Tensor:
    """Double height and width of a map (images, height, width, channels) and convolve.

    An even row of the large map depends on the previous and the same row of the small map, an odd one on the same and
    the next row, so rows of the kernel that read the same small row are summed; columns likewise.
    """
    taps = layer.conv.weight.new_tensor(_KERNEL_ROW_SUMS)
    sums = torch.einsum("dak,ebl->deabkl", taps, taps).reshape(16, 9)
    kernels = rearrange(layer.conv.weight, "o i h w -> (o i) (h w)") @ sums.T
    kernels = rearrange(kernels, "(o i) (d e a b) -> d e o a b i", o=layer.conv.out_channels, d=2, e=2, a=2)
    result = x.new_empty(len(x), 2 * x.shape[1], 2 * x.shape[2], layer.conv.out_channels)
    phases = rearrange(result, "b (h down) (w right) c -> down right b h w c", down=2, right=2)
    padded = F.pad(x, (0, 0, 1, 1, 1, 1))
    for down in (0, 1):
        for right in (0, 1):
            kernel = _channels_first(kernels[down, right].contiguous())
            for rows in row_bands(x):
                window = padded[:, rows.start + down : rows.stop + down + 1, right : right + x.shape[2] + 1]
                phases[down, right, :, rows] = _channels_last(
                    F.conv2d(_channels_first(window), kernel, layer.conv.bias)
                )
    return result


def row_bands(x: Tensor) -> Iterator[slice]:
    """Split the rows of a map (images, height, width, channels) into bands."""
    rows = max(1, band_bytes(x) // (x[:, :1].numel() * x.element_size()))
    return (slice(first, min(first + rows, x.shape[1])) for first in range(0, x.shape[1], rows))


def band_bytes(x: Tensor) -> int:
    """Return the size of a band on the device of `x`."""
    return CPU_BAND_BYTES if x.device.type == "cpu" else GPU_BAND_BYTES


def _padded_convolution(conv: nn.Conv2d, x: Tensor) -> Callable[[Tensor], Tensor]:
    """Return a 3x3 convolution for bands of `x` that are padded already."""
    if x.device.type == "cpu" and x.shape[2] % TILE == 0 and conv.out_channels >= _MIN_WINOGRAD_CHANNELS:
        return WinogradConvolution(conv)
    weight = conv.weight.contiguous(memory_format=torch.channels_last)
    return lambda padded: _channels_last(F.conv2d(_channels_first(padded), weight, conv.bias))


def _channels_first(x: Tensor) -> Tensor:
    return x.permute(0, 3, 1, 2)


def _channels_last(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1)
