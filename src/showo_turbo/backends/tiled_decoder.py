"""The image decoder for inference: the same layers in bands of rows that stay in the processor's cache.

    x  (images, height, width, channels)
    . . . . .  --+
    . . . . .    |  band and a row on either side --norm, SiLU--> padded --3x3 convolution--> band of the output
    . . . . .  --+

A decoder's time on a CPU goes to convolutions at the highest resolutions, and to moving maps between memory and the
processor. `Decoder.forward`, which training needs for its gradients, makes a new map for every norm, SiLU and
convolution.

Decisions:
- Maps are channels-last, so a band is one piece of memory.
- A group norm is a factor and a shift for every channel, once the sums over the map are known. These are added up in
  float64 over bands, which is more exact than torch's group norm on such maps. Applying them, SiLU and the convolution
  then happen band by band, and a residual is added in place: two maps are alive at a time, and no others.
- Doubling the resolution and then convolving 3x3 reads every pixel up to four times: it is four 2x2 convolutions of the
  small map, with kernels that are sums of the large one's, at 4/9 of the work.
- On the CPU, 3x3 convolutions are Winograd's, at half of the work (`winograd`).
- A map that is smaller than a band goes through the plain layers, which are faster there: summing kernels takes as long
  for a small map as for a large one. On a graphics processor plain layers are always faster, so a band there is as
  large as memory allows.
"""

from collections.abc import Callable, Iterator

import torch
from einops import rearrange, reduce, repeat
from torch import Tensor, nn
from torch.nn import functional as F

from showo_turbo.backends.winograd import TILE, WinogradConvolution
from showo_turbo.models.magvit_v2_blocks import ResidualBlock, UpLevel, Upsample

CPU_BAND_BYTES = 2**21
LARGE_BAND_BYTES = 2**29

CPU_PLACES_WORTH_SUMS = 256
"""From how many places on summing the kernels of an up-sampling convolution takes less time than it saves."""

_ROWS_SEEN = (((1.0, 0.0, 0.0), (0.0, 1.0, 1.0)), ((1.0, 1.0, 0.0), (0.0, 0.0, 1.0)))
"""Which rows of a 3x3 kernel add up, by parity of the output row and by row of the 2x2 kernel."""


def up_level(x: Tensor, level: UpLevel) -> Tensor:
    """One resolution of a map (images, channels, height, width), which may be overwritten."""
    x = _residuals(_channels_last(x).contiguous(), level.block) if _fills_a_band(x) else level.block(x.contiguous())
    if isinstance(level.upsample, Upsample) and _is_worth_sums(x):
        return _channels_first(upsample(_channels_last(x).contiguous(), level.upsample))
    return level.upsample(x.contiguous())


def normed_convolution(x: Tensor, norm: nn.GroupNorm, conv: nn.Conv2d) -> Tensor:
    """Norm, SiLU and 3x3 convolution of a map (images, channels, height, width)."""
    if not _fills_a_band(x):
        return conv(F.silu(norm(x.contiguous())))
    pieces = [_channels_first(band) for _, band in convolved_bands(_channels_last(x).contiguous(), norm, conv)]
    return torch.cat(pieces, 2).contiguous()


def _residuals(x: Tensor, blocks: nn.Sequential) -> Tensor:
    """Residual blocks of a map (images, height, width, channels): (images, channels, height, width)."""
    between = x.new_empty(*x.shape[:3], blocks[0].conv1.out_channels)
    for block in blocks:
        x = residual(x, block, between)
    return _channels_first(x)


def residual(x: Tensor, block: ResidualBlock, between: Tensor) -> Tensor:
    """A residual block of a map (images, height, width, channels), overwritten if its channels stay.

    Args:
        x: the map.
        block: the layers.
        between: room for a map of the block's output channels.
    """
    for rows, convolved in convolved_bands(x, block.norm1, block.conv1):
        between[:, rows] = convolved
    if not isinstance(block.nin_shortcut, nn.Identity):
        x = _channels_last(block.nin_shortcut(_channels_first(x))).contiguous()
    for rows, convolved in convolved_bands(between, block.norm2, block.conv2):
        x[:, rows] += convolved
    return x


def convolved_bands(x: Tensor, norm: nn.GroupNorm, conv: nn.Conv2d) -> Iterator[tuple[slice, Tensor]]:
    """Norm, SiLU and 3x3 convolution of a map, band by band.

    Yields:
        Rows, and the output there: (images, rows, width, channels of the convolution).
    """
    factor, shift = norm_factors(x, norm)
    convolve = _convolution(conv, x)
    for rows in bands(x):
        above, below = min(rows.start, 1), min(x.shape[1] - rows.stop, 1)
        padded = x.new_empty(len(x), rows.stop - rows.start + 2, x.shape[2] + 2, x.shape[3])
        inside = padded[:, 1 - above : padded.shape[1] - 1 + below, 1:-1]
        torch.addcmul(shift, x[:, rows.start - above : rows.stop + below], factor, out=inside)
        F.silu(inside, inplace=True)
        padded[:, : 1 - above], padded[:, padded.shape[1] - 1 + below :] = 0, 0
        padded[:, :, 0], padded[:, :, -1] = 0, 0
        yield rows, convolve(padded)


def norm_factors(x: Tensor, norm: nn.GroupNorm) -> tuple[Tensor, Tensor]:
    """What a group norm multiplies each channel of a map with, and then adds: two (images, 1, 1, channels)."""
    near = x[:, :1, :1]  # sums of squares are exact only for numbers that are not far from 0
    sums = torch.zeros(2, len(x), x.shape[3], dtype=torch.float64, device=x.device)
    for rows in bands(x):
        band = x[:, rows] - near
        sums[0] += band.sum((1, 2))
        sums[1] += band.square_().sum((1, 2))
    first, second = sums / (x.shape[1] * x.shape[2])
    means, squares = near[:, 0, 0] + first, second - first.square()

    mean = _group_means(means, norm.num_groups)
    variance = _group_means(squares + (means - mean).square(), norm.num_groups)
    factor = norm.weight * variance.clamp(min=0).add(norm.eps).rsqrt()
    shift = norm.bias - mean * factor
    return tuple(rearrange(one, "b c -> b 1 1 c").to(x.dtype) for one in (factor, shift))


def _group_means(values: Tensor, groups: int) -> Tensor:
    """Every channel's value replaced by the mean of its group: (images, channels)."""
    means = reduce(values, "b (g c) -> b g", "mean", g=groups)
    return repeat(means, "b g -> b (g c)", c=values.shape[1] // groups)


def upsample(x: Tensor, layer: Upsample) -> Tensor:
    """Double height and width of a map (images, height, width, channels) and convolve.

    An even row of the large map sees the row before and its own of the small map, an odd one its own and the row after,
    so rows of the kernel that see the same small row add up; columns likewise.
    """
    taps = layer.conv.weight.new_tensor(_ROWS_SEEN)
    sums = torch.einsum("dak,ebl->deabkl", taps, taps).reshape(16, 9)
    kernels = rearrange(layer.conv.weight, "o i h w -> (o i) (h w)") @ sums.T
    kernels = rearrange(kernels, "(o i) (d e a b) -> d e o a b i", o=layer.conv.out_channels, d=2, e=2, a=2)
    result = x.new_empty(len(x), 2 * x.shape[1], 2 * x.shape[2], layer.conv.out_channels)
    phases = rearrange(result, "b (h down) (w right) c -> down right b h w c", down=2, right=2)
    padded = F.pad(x, (0, 0, 1, 1, 1, 1))
    for down in (0, 1):
        for right in (0, 1):
            kernel = _channels_first(kernels[down, right].contiguous())
            for rows in bands(x):
                seen = padded[:, rows.start + down : rows.stop + down + 1, right : right + x.shape[2] + 1]
                phases[down, right, :, rows] = _channels_last(F.conv2d(_channels_first(seen), kernel, layer.conv.bias))
    return result


def bands(x: Tensor) -> Iterator[slice]:
    """The rows of a map (images, height, width, channels), as many at a time as go into a band."""
    rows = max(1, _band_bytes(x) // (x[:, :1].numel() * x.element_size()))
    return (slice(first, min(first + rows, x.shape[1])) for first in range(0, x.shape[1], rows))


def _fills_a_band(x: Tensor) -> bool:
    """Whether a map is so large that bands are worth it."""
    return x.nbytes >= _band_bytes(x)


def _is_worth_sums(x: Tensor) -> bool:
    """Whether a map (images, channels, height, width) is so large that up-sampling is to be summed kernels."""
    if x.device.type == "cpu":
        return len(x) * x.shape[2] * x.shape[3] >= CPU_PLACES_WORTH_SUMS
    return _fills_a_band(x)


def _band_bytes(x: Tensor) -> int:
    return CPU_BAND_BYTES if x.device.type == "cpu" else LARGE_BAND_BYTES


def _convolution(conv: nn.Conv2d, x: Tensor) -> Callable[[Tensor], Tensor]:
    """A 3x3 convolution of bands of a map, of which they are already padded."""
    if x.device.type == "cpu" and x.shape[2] % TILE == 0 and conv.out_channels >= 16:
        return WinogradConvolution(conv)
    weight = conv.weight.contiguous(memory_format=torch.channels_last)
    return lambda padded: _channels_last(F.conv2d(_channels_first(padded), weight, conv.bias))


def _channels_first(x: Tensor) -> Tensor:
    return x.permute(0, 3, 1, 2)


def _channels_last(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1)
