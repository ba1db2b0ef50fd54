"""Training of a MAGVIT-v2 image tokenizer as a task of the training loop, on images of any origin.

images --(noise)--> encoder --> latents --signs--> decoder --> reconstruction
                                   |                                |
           commitment, entropy ----+      l1, mse, edges, adversary +---> total loss
"""

from abc import abstractmethod
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.optim import Optimizer

from showo_turbo.checkpoints.saving import save_image_tokenizer
from showo_turbo.models.magvit_v2 import MagvitV2, commitment_loss
from showo_turbo.training.image_tokenizer_losses import PatchDiscriminator, codebook_entropy_loss, pyramid_loss
from showo_turbo.training.loop import LoopConfig
from showo_turbo.training.muon import Muon
from showo_turbo.training.task import StepLosses, Task
from showo_turbo.validation import check_integer, check_number

_MUON_PARTS = (".down.", ".mid.", ".up.")
_DISCRIMINATOR = "discriminator"


@dataclass(frozen=True, kw_only=True)
class ImageTokenizerTaskConfig:
    """Configure losses and optimizers of an image tokenizer.

    Attributes:
        loop: training loop.
        batch_size: images per step and process.
        lr: learning rate of AdamW.
        muon_lr: learning rate of Muon for the convolution kernels of the inner layers; 0 trains them with AdamW.
        mse_weight: weight of the squared error; the absolute error has weight 1.
        commitment_weight: weight of the commitment loss, which pulls latents to their signs.
        entropy_weight: weight of the codebook entropy loss.
        perceptual_weight: weight of the error of a Laplacian pyramid, in which edges count as much as flat areas.
        gan_weight: weight of the adversarial loss; a discriminator of patches is trained with it. 0 has none.
        max_noise: largest standard deviation of the noise on the encoder's input, different for each image, so that
            codes do not depend on small errors of pixels in [-1, 1].
        decoder_only: keep the encoder as it is, and with it all codes.

    Raises:
        InputError: if a number is out of its range.
    """

    loop: LoopConfig = field(default_factory=LoopConfig)
    batch_size: int = 16
    lr: float = 2e-3
    muon_lr: float = 0.0
    mse_weight: float = 2.0
    commitment_weight: float = 0.1
    entropy_weight: float = 0.0
    perceptual_weight: float = 0.0
    gan_weight: float = 0.0
    max_noise: float = 0.0
    decoder_only: bool = False

    def __post_init__(self) -> None:
        check_integer("batch_size", self.batch_size, 1)
        weights = ("mse_weight", "commitment_weight", "entropy_weight", "perceptual_weight", "gan_weight")
        for name in ("lr", "muon_lr", "max_noise", *weights):
            check_number(name, getattr(self, name), 0)


@dataclass(frozen=True)
class ImageTokenizerBatch:
    """Hold what the encoder sees and what the decoder learns to draw, float32 (batch, 3, height, width) in [-1, 1]."""

    inputs: Tensor
    targets: Tensor


class ImageTokenizerTask(Task[MagvitV2, ImageTokenizerBatch]):
    """Train an image tokenizer on the images that a subclass gives."""

    def __init__(self, model: MagvitV2, settings: ImageTokenizerTaskConfig) -> None:
        """Set the model; its encoder is frozen if only the decoder is trained."""
        self.model, self.settings = model, settings
        if settings.decoder_only:
            model.encoder.requires_grad_(False)
        if settings.gan_weight:
            model.add_module(_DISCRIMINATOR, PatchDiscriminator(model.config.in_channels))

    @abstractmethod
    def images(self, number: int) -> tuple[Tensor, torch.Generator]:
        """Return the images of a batch, as `ImageTokenizerBatch.targets` on the CPU, and a generator of noise."""

    def optimizers(self) -> list[Optimizer]:
        """Build AdamW, and Muon for the convolution kernels of the inner layers if it has a learning rate."""
        trained = {name: parameter for name, parameter in self.model.named_parameters() if parameter.requires_grad}
        inner = {
            name: parameter
            for name, parameter in trained.items()
            if self.settings.muon_lr and parameter.ndim == 4 and any(part in name for part in _MUON_PARTS)
        }
        others = [parameter for name, parameter in trained.items() if name not in inner]
        adamw = torch.optim.AdamW(others, lr=self.settings.lr, betas=(0.9, 0.99), weight_decay=0.0)
        return [adamw, Muon(inner.values(), lr=self.settings.muon_lr)] if inner else [adamw]

    def batch(self, number: int) -> ImageTokenizerBatch:
        """Return the images of a batch, with noise on those that the encoder sees."""
        targets, generator = self.images(number)
        inputs = targets
        if self.settings.max_noise:
            deviations = self.settings.max_noise * torch.rand(len(targets), 1, 1, 1, generator=generator)
            inputs = targets + deviations * torch.randn(targets.shape, generator=generator)
        device = next(self.model.parameters()).device
        return ImageTokenizerBatch(inputs.to(device), targets.to(device))

    def losses(self, ema_model: MagvitV2, batch: ImageTokenizerBatch) -> StepLosses:
        """Compute all losses that have a weight."""
        settings, targets = self.settings, batch.targets
        output = self.model(batch.inputs)
        images = output.reconstruction
        l1, mse = F.l1_loss(images, targets), F.mse_loss(images, targets)
        commitment = commitment_loss(output.latents)
        parts: dict[str, Tensor | float] = {"l1": l1, "mse": mse, "commitment": commitment}
        loss = l1 + settings.mse_weight * mse + settings.commitment_weight * commitment
        if settings.entropy_weight:
            parts["entropy"] = entropy = codebook_entropy_loss(output.latents)
            loss = loss + settings.entropy_weight * entropy
        if settings.perceptual_weight:
            parts["edges"] = edges = pyramid_loss(images, targets)
            loss = loss + settings.perceptual_weight * edges
        if settings.gan_weight:
            discriminator = self.model.get_submodule(_DISCRIMINATOR)
            assert isinstance(discriminator, PatchDiscriminator)
            parts["adversary"] = adversary = discriminator.adversarial_loss(images)
            parts["discriminator"] = hinge = discriminator.hinge_loss(images, targets)
            loss = loss + settings.gan_weight * adversary + hinge
        return StepLosses(loss, parts, len(targets))

    def export(self, model: MagvitV2, folder: Path) -> None:
        """Write config and float16 weights of the image tokenizer."""
        save_image_tokenizer(folder, self.exported(model).half())

    def exported(self, model: MagvitV2) -> MagvitV2:
        """Return a copy of the image tokenizer alone, with the latents' batch norm folded into a convolution."""
        exported = deepcopy(model).eval()
        if hasattr(exported, _DISCRIMINATOR):
            delattr(exported, _DISCRIMINATOR)
        if isinstance(exported.encoder.quant_conv, nn.Sequential):
            exported.encoder.quant_conv = fuse_conv_bn_eval(*exported.encoder.quant_conv)
        return exported
