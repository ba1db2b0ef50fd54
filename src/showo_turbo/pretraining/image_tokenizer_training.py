"""Training of a small MAGVIT-v2 image tokenizer on rendered scenes.

Decisions:
- The loss has no codebook entropy term: that term spreads a plain background over many codes, which the transformer
  then has to model without any benefit.
- Muon trains the convolution kernels between the first and the last layers if it has a learning rate, and the latents
  can have a batch norm, which is folded into the 1x1 convolution before it when the model is exported. With both, a
  world of many sprites uses a thousand codes where AdamW alone uses a few.
- A second round can train the decoder only: the codes are final, and the images still gain from it.
"""

import random
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.optim import Optimizer

from showo_turbo.checkpoints.saving import save_image_tokenizer
from showo_turbo.checkpoints.weights import fit_weights, weights_of_file
from showo_turbo.models.magvit_v2 import MagvitV2, commitment_loss
from showo_turbo.models.magvit_v2_config import MagvitV2Config
from showo_turbo.scenes.pool import scene_pixels
from showo_turbo.scenes.worlds import find_world
from showo_turbo.training.loop import LoopConfig
from showo_turbo.training.muon import Muon
from showo_turbo.training.task import StepLosses, Task
from showo_turbo.validation import check_integer, check_number

_MUON_PARTS = (".down.", ".mid.", ".up.")


def _small_model() -> MagvitV2Config:
    return MagvitV2Config(
        patch_size=4,
        base_channels=64,
        encoder_channel_multipliers=(1, 2),
        encoder_num_blocks=(1, 1),
        decoder_channel_multipliers=(1, 2),
        decoder_num_blocks=(1, 1),
        latent_channels=10,
    )


@dataclass(frozen=True)
class ImageTokenizerTrainingConfig:
    """Configure a training of the image tokenizer.

    Attributes:
        loop: training loop.
        world: name of the world whose scenes are rendered.
        model: architecture of the image tokenizer.
        batch_size: images per step.
        lr: learning rate of AdamW.
        muon_lr: learning rate of Muon for the convolution kernels of the inner layers; 0 trains them with AdamW.
        mse_weight: weight of the squared error; the absolute error has weight 1.
        commitment_weight: weight of the commitment loss, which pulls latents to their signs.
        latent_batch_norm: normalise latents over a batch in training; not for `decoder_only`.
        max_noise: largest standard deviation of the noise on the encoder's input, different for each image, so that
            codes do not depend on small errors of pixels in [-1, 1].
        decoder_only: keep the encoder as it is.
        init_from: initial weights (model.safetensors of an earlier run), for another round of training.
    """

    loop: LoopConfig = field(default_factory=LoopConfig)
    world: str = "shapes"
    model: MagvitV2Config = field(default_factory=_small_model)
    batch_size: int = 16
    lr: float = 2e-3
    muon_lr: float = 0.0
    mse_weight: float = 2.0
    commitment_weight: float = 0.1
    latent_batch_norm: bool = False
    max_noise: float = 0.0
    decoder_only: bool = False
    init_from: str | None = None

    def __post_init__(self) -> None:
        check_integer("batch_size", self.batch_size, 1)
        for name in ("lr", "muon_lr", "mse_weight", "commitment_weight", "max_noise"):
            check_number(name, getattr(self, name), 0)


@dataclass(frozen=True)
class ImageTokenizerBatch:
    """Hold what the encoder sees and what the decoder learns to draw, float32 (batch, 3, height, width) in [-1, 1]."""

    inputs: Tensor
    targets: Tensor


class ImageTokenizerTraining(Task[MagvitV2, ImageTokenizerBatch]):
    """Train an image tokenizer: the task of `showo-turbo pretrain image-tokenizer`."""

    def __init__(self, config: ImageTokenizerTrainingConfig) -> None:
        """Initialise the model from the seed or from `config.init_from`."""
        self.config, self.world = config, find_world(config.world)
        torch.manual_seed(config.loop.seed)
        self.model = MagvitV2(config.model)
        if config.init_from is not None:
            fit_weights(self.model, weights_of_file(Path(config.init_from)))
        if config.decoder_only:
            self.model.encoder.requires_grad_(False)
        elif config.latent_batch_norm:
            encoder = self.model.encoder
            normalized = nn.Sequential(encoder.quant_conv, nn.BatchNorm2d(config.model.latent_channels))
            encoder.add_module("quant_conv", normalized)

    def optimizers(self) -> list[Optimizer]:
        """Build AdamW, and Muon for the convolution kernels of the inner layers if it has a learning rate."""
        trained = {name: parameter for name, parameter in self.model.named_parameters() if parameter.requires_grad}
        inner = {
            name: parameter
            for name, parameter in trained.items()
            if self.config.muon_lr and parameter.ndim == 4 and any(part in name for part in _MUON_PARTS)
        }
        others = [parameter for name, parameter in trained.items() if name not in inner]
        adamw = torch.optim.AdamW(others, lr=self.config.lr, betas=(0.9, 0.99), weight_decay=0.0)
        return [adamw, Muon(inner.values(), lr=self.config.muon_lr)] if inner else [adamw]

    def batch(self, number: int) -> ImageTokenizerBatch:
        """Render random training scenes."""
        rng = random.Random(f"{self.config.loop.seed}/{number}")
        scenes = [self.world.training_scene(rng) for _ in range(self.config.batch_size)]
        targets = inputs = scene_pixels(scenes, self.world)
        if self.config.max_noise:
            generator = torch.Generator().manual_seed(rng.getrandbits(48))
            deviations = self.config.max_noise * torch.rand(len(targets), 1, 1, 1, generator=generator)
            inputs = targets + deviations * torch.randn(targets.shape, generator=generator)
        device = next(self.model.parameters()).device
        return ImageTokenizerBatch(inputs.to(device), targets.to(device))

    def losses(self, ema_model: MagvitV2, batch: ImageTokenizerBatch) -> StepLosses:
        """Compute absolute and squared error of the reconstruction, and the commitment loss."""
        output = self.model(batch.inputs)
        l1 = F.l1_loss(output.reconstruction, batch.targets)
        mse = F.mse_loss(output.reconstruction, batch.targets)
        commitment = commitment_loss(output.latents)
        loss = l1 + self.config.mse_weight * mse + self.config.commitment_weight * commitment
        return StepLosses(loss, {"l1": l1, "mse": mse, "commitment": commitment}, len(batch.targets))

    def export(self, model: MagvitV2, folder: Path) -> None:
        """Write config and float16 weights, with the latents' batch norm folded into the convolution before it."""
        exported = deepcopy(model).eval()
        if isinstance(exported.encoder.quant_conv, nn.Sequential):
            exported.encoder.quant_conv = fuse_conv_bn_eval(*exported.encoder.quant_conv)
        save_image_tokenizer(folder, exported.half())
