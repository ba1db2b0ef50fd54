"""Losses of image tokenizers besides the errors of pixels: edges, codebook entropy, and a discriminator of patches."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

_LEVELS = 4
_MIN_SIDE = 8


def pyramid_loss(images: Tensor, targets: Tensor) -> Tensor:
    """Return the mean absolute error of the levels of a Laplacian pyramid: edges count as much as flat areas.

    It takes the place of a perceptual loss, without a network or its weights.

    Args:
        images: float (batch, channels, height, width).
        targets: likewise.
    """
    difference, losses = images - targets, []  # pyramids are linear: that of the difference is enough
    for _ in range(_LEVELS):
        if min(difference.shape[2:]) < 2 * _MIN_SIDE:
            break
        smaller = F.avg_pool2d(difference, 2)
        losses.append((difference - F.interpolate(smaller, difference.shape[2:], mode="bilinear")).abs().mean())
        difference = smaller
    return torch.stack([*losses, difference.abs().mean()]).mean()


def codebook_entropy_loss(latents: Tensor) -> Tensor:
    """Return the entropy of single codes minus that of all codes together, per bit (arXiv 2310.05737, eq. 5).

    Minimizing it makes every latent certain, and uses the codebook evenly. Bits count as independent.

    Args:
        latents: float (batch, channels, height, width), before quantization.
    """
    logits = 4 * latents  # of a bit to be 1, as softmax of the products with the two signs at temperature 1/2
    single = F.binary_cross_entropy_with_logits(logits, logits.sigmoid())
    mean = logits.sigmoid().mean((0, 2, 3))
    return single - F.binary_cross_entropy(mean, mean)


class PatchDiscriminator(nn.Module):
    """Score overlapping patches of an image: high for images of the data (arXiv 1611.07004, section 3.2.2)."""

    def __init__(self, in_channels: int = 3, channels: int = 64, levels: int = 3) -> None:
        """Build `levels` strided convolutions, the first with `channels`, each next one with twice as many."""
        super().__init__()
        widths = [in_channels, *(channels << level for level in range(levels))]
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            norm = nn.GroupNorm(min(32, after), after) if before != in_channels else nn.Identity()
            layers += [nn.Conv2d(before, after, 4, stride=2, padding=1), norm, nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 3, padding=1))

    def forward(self, images: Tensor) -> Tensor:
        """(batch, in_channels, height, width) -> scores (batch, 1, rows, columns)."""
        return self.layers(images)

    def hinge_loss(self, images: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of the discriminator; images get no gradient."""
        return F.relu(1 - self(targets)).mean() + F.relu(1 + self(images.detach())).mean()

    def adversarial_loss(self, images: Tensor) -> Tensor:
        """Return the loss of the images; the discriminator gets no gradient."""
        fixed = {name: parameter.detach() for name, parameter in self.named_parameters()}
        return -functional_call(self, fixed, (images,)).mean()
