"""Training of a small MAGVIT-v2 image tokenizer on rendered scenes.

The loss has no codebook entropy term: that term spreads a plain background over many codes, which the transformer then
has to model without any benefit.
"""

import random
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim import Optimizer

from showo_turbo.checkpoints.saving import save_image_tokenizer
from showo_turbo.models.magvit_v2 import MagvitV2, commitment_loss
from showo_turbo.models.magvit_v2_config import MagvitV2Config
from showo_turbo.scenes.pool import scene_pixels
from showo_turbo.scenes.split import training_scene
from showo_turbo.training.loop import LoopConfig
from showo_turbo.training.task import StepLosses, Task
from showo_turbo.validation import check_integer, check_number


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
        model: architecture of the image tokenizer.
        batch_size: images per step.
        lr: learning rate of AdamW.
        mse_weight: weight of the squared error; the absolute error has weight 1.
        commitment_weight: weight of the commitment loss, which pulls latents to their signs.
    """

    loop: LoopConfig = field(default_factory=LoopConfig)
    model: MagvitV2Config = field(default_factory=_small_model)
    batch_size: int = 16
    lr: float = 2e-3
    mse_weight: float = 2.0
    commitment_weight: float = 0.1

    def __post_init__(self) -> None:
        check_integer("batch_size", self.batch_size, 1)
        for name in ("lr", "mse_weight", "commitment_weight"):
            check_number(name, getattr(self, name), 0)


class ImageTokenizerTraining(Task[MagvitV2, Tensor]):
    """Train an image tokenizer: the task of `showo-turbo pretrain image-tokenizer`."""

    def __init__(self, config: ImageTokenizerTrainingConfig) -> None:
        """Initialise the model from the seed."""
        self.config = config
        torch.manual_seed(config.loop.seed)
        self.model = MagvitV2(config.model)

    def optimizers(self) -> list[Optimizer]:
        """Build one AdamW for all parameters."""
        return [torch.optim.AdamW(self.model.parameters(), lr=self.config.lr, betas=(0.9, 0.99), weight_decay=0.0)]

    def batch(self, number: int) -> Tensor:
        """Render random scenes: float32 (batch, 3, height, width) in [-1, 1]."""
        rng = random.Random(f"{self.config.loop.seed}/{number}")
        pixels = scene_pixels([training_scene(rng) for _ in range(self.config.batch_size)])
        return pixels.to(next(self.model.parameters()).device)

    def losses(self, ema_model: MagvitV2, pixels: Tensor) -> StepLosses:
        """Compute absolute and squared error of the reconstruction, and the commitment loss."""
        output = self.model(pixels)
        l1 = F.l1_loss(output.reconstruction, pixels)
        mse = F.mse_loss(output.reconstruction, pixels)
        commitment = commitment_loss(output.latents)
        loss = l1 + self.config.mse_weight * mse + self.config.commitment_weight * commitment
        return StepLosses(loss, {"l1": l1, "mse": mse, "commitment": commitment}, len(pixels))

    def export(self, model: MagvitV2, folder: Path) -> None:
        """Write config and float16 weights."""
        save_image_tokenizer(folder, deepcopy(model).half())
