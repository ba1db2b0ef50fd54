"""Lookup-free quantization: a code is the signs of a latent (MAGVIT-v2, arXiv 2310.05737, section 3).

    latent   (+0.7, -1.2, +0.1)
    signs    (  +1,   -1,   +1)      the quantized latent
    bits        1     0     1        the first channel is the most significant bit, and a latent of exactly 0 is a 0
    code        5

No entry is learned. The training terms pull latents to +-1 (`commitment_loss`), and make every bit sure of itself but,
over many latents, undecided (`bit_entropies`).
"""

from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from showo_turbo.errors import InputError


class LookupFreeQuantizer(nn.Module):
    """Latents to codes and back. Its two constants are buffers because published checkpoints store them."""

    def __init__(self, latent_channels: int) -> None:
        """Quantize latents of `latent_channels` channels to a codebook of 2**latent_channels codes."""
        super().__init__()
        powers = 2 ** torch.arange(latent_channels - 1, -1, -1)
        bits = torch.arange(2**latent_channels)[:, None] // powers % 2
        self.register_buffer("embedding", 2.0 * bits - 1.0)
        self.register_buffer("power_vals", powers)

    @property
    def codebook_size(self) -> int:
        """Number of different codes."""
        return len(self.embedding)

    def forward(self, latents: Tensor) -> Tensor:
        """Signs of latents (batch, channels, height, width), with the gradient passed straight through to them."""
        signs = torch.where(latents > 0, 1.0, -1.0).to(latents.dtype)
        return latents + (signs - latents).detach()

    def latents_to_codes(self, latents: Tensor) -> Tensor:
        """Codes, long (batch, height, width), of latents (batch, channels, height, width)."""
        bits = rearrange(latents > 0, "batch channel height width -> batch height width channel")
        return (bits * self.power_vals).sum(-1)

    def codes_to_latents(self, codes: Tensor) -> Tensor:
        """Latents of -1 and +1 (batch, channels, height, width) for codes, long (batch, height, width).

        Raises:
            InputError: when codes are not whole numbers or lie outside the codebook.
        """
        if codes.is_floating_point() or codes.is_complex() or codes.dtype == torch.bool:
            raise InputError(f"codes are {codes.dtype}; expected whole numbers (torch.long)")
        outside = codes[(codes < 0) | (codes >= self.codebook_size)]
        if outside.numel():
            raise InputError(f"code {outside[0].item()} is outside the codebook: codes are 0..{self.codebook_size - 1}")
        signs = rearrange(self.embedding[codes.long()], "batch height width channel -> batch channel height width")
        # Convolutions hand channels-last strides on, with which group norms on the CPU are ten times less exact.
        return signs.contiguous()


def commitment_loss(latents: Tensor) -> Tensor:
    """Mean squared distance of latents, of any shape, to their signs: a scalar."""
    signs = torch.where(latents > 0, 1.0, -1.0).to(latents.dtype)
    return F.mse_loss(latents, signs)


@dataclass(frozen=True)
class BitEntropies:
    """Entropies in nats, averaged over bits: scalars between 0 and log 2.

    Attributes:
        per_sample: of the bits of each latent, averaged over latents; small when every latent is sure of its code.
        codebook: of the bits averaged over all latents; large when all codes are in use.
    """

    per_sample: Tensor
    codebook: Tensor

    @property
    def loss(self) -> Tensor:
        """What training lowers: the entropy penalty of arXiv 2310.05737, section 3."""
        return self.per_sample - self.codebook


def bit_entropies(latents: Tensor) -> BitEntropies:
    """Entropy terms of latents (batch, channels, height, width), one bit at a time.

    A bit's two values have the probabilities softmax(-squared distance of the latent to -1 and to +1), that is,
    sigmoid(4 * latent) for +1. The codebook is a product of bits, so a sample's entropy is exactly the sum over its
    bits; for the codebook term that sum is an upper bound, at channels values rather than 2**channels.
    """
    logits = 4.0 * rearrange(latents.float(), "batch channel height width -> (batch height width) channel")
    probabilities = logits.sigmoid()
    return BitEntropies(per_sample=_mean_entropy(probabilities), codebook=_mean_entropy(probabilities.mean(0)))


def _mean_entropy(probabilities: Tensor) -> Tensor:
    """Mean entropy of bits that are 1 with these probabilities; kept off 0 and 1, where the gradient is infinite."""
    certain = 1e-6
    probabilities = probabilities.clamp(certain, 1 - certain)
    return (torch.special.entr(probabilities) + torch.special.entr(1 - probabilities)).mean()
