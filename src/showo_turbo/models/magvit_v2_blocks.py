"""The layers of the image tokenizer; parameter names are those of published checkpoints."""

from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F


def group_norm(num_groups: int, channels: int) -> nn.GroupNorm:
    """The tokenizer's normalisation."""
    return nn.GroupNorm(num_groups, channels, eps=1e-6)


class ResidualBlock(nn.Module):
    """Twice (norm, SiLU, 3x3 convolution), added to the input, whose channels a 1x1 convolution matches if need be."""

    def __init__(self, in_channels: int, out_channels: int, num_groups: int) -> None:
        """Map `in_channels` to `out_channels` at unchanged resolution."""
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
    """Single-head self-attention over all places, added to the input."""

    def __init__(self, channels: int, num_groups: int) -> None:
        """Keep `channels`."""
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
        mixed = F.scaled_dot_product_attention(query, key, value)
        mixed = rearrange(mixed, "batch 1 (height width) channel -> batch channel height width", height=x.shape[2])
        return x + self.proj_out(mixed)


class MiddleBlock(nn.Module):
    """The lowest resolution: residual, attention, residual."""

    def __init__(self, channels: int, num_groups: int) -> None:
        """Keep `channels`."""
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
        """Keep `channels`."""
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, height, width) -> (batch, channels, height / 2, width / 2)."""
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Double height and width: repeat every pixel, then a 3x3 convolution."""

    def __init__(self, channels: int) -> None:
        """Keep `channels`."""
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, height, width) -> (batch, channels, 2 height, 2 width)."""
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


def residual_chain(in_channels: int, out_channels: int, num_blocks: int, num_groups: int) -> nn.Sequential:
    """Residual blocks of one level; the first one changes the channels."""
    widths = [in_channels] + [out_channels] * (num_blocks - 1)
    return nn.Sequential(*(ResidualBlock(width, out_channels, num_groups) for width in widths))


class DownLevel(nn.Module):
    """One resolution of the encoder: residual blocks, then the step down, except at the lowest."""

    def __init__(self, in_channels: int, out_channels: int, num_blocks: int, num_groups: int, lowest: bool) -> None:
        """Map `in_channels` to `out_channels`."""
        super().__init__()
        self.block = residual_chain(in_channels, out_channels, num_blocks, num_groups)
        self.downsample = nn.Identity() if lowest else Downsample(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, in_channels, height, width) -> (batch, out_channels, height / 2, width / 2)."""
        return self.downsample(self.block(x))


class UpLevel(nn.Module):
    """One resolution of the decoder: residual blocks, then the step up, except at the highest."""

    def __init__(self, in_channels: int, out_channels: int, num_blocks: int, num_groups: int, highest: bool) -> None:
        """Map `in_channels` to `out_channels`."""
        super().__init__()
        self.block = residual_chain(in_channels, out_channels, num_blocks, num_groups)
        self.upsample = nn.Identity() if highest else Upsample(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, in_channels, height, width) -> (batch, out_channels, 2 height, 2 width)."""
        return self.upsample(self.block(x))
