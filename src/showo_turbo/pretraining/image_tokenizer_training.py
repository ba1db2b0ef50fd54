"""Training of a small MAGVIT-v2 image tokenizer on rendered scenes.

Decisions:
- The loss has no codebook entropy term by default: that term spreads a plain background over many codes, which the
  transformer then has to model without any benefit.
- Muon trains the convolution kernels between the first and the last layers if it has a learning rate, and the latents
  can have a batch norm, which is folded into the 1x1 convolution before it when the model is exported. With both, a
  world of many sprites uses a thousand codes where AdamW alone uses a few.
- A second round can train the decoder only: the codes are final, and the images still gain from it.
"""

import random
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from showo_turbo.checkpoints.weights import fit_weights, weights_of_file
from showo_turbo.models.magvit_v2 import MagvitV2
from showo_turbo.models.magvit_v2_config import MagvitV2Config
from showo_turbo.scenes.pool import scene_pixels
from showo_turbo.scenes.worlds import find_world
from showo_turbo.training.image_tokenizer_task import ImageTokenizerTask, ImageTokenizerTaskConfig


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


@dataclass(frozen=True, kw_only=True)
class ImageTokenizerTrainingConfig(ImageTokenizerTaskConfig):
    """Configure a training of the image tokenizer; see `ImageTokenizerTaskConfig` for losses and optimizers.

    Attributes:
        world: name of the world whose scenes are rendered.
        model: architecture of the image tokenizer.
        latent_batch_norm: normalise latents over a batch in training; not for `decoder_only`.
        init_from: initial weights (model.safetensors of an earlier run), for another round of training.
    """

    world: str = "shapes"
    model: MagvitV2Config = field(default_factory=_small_model)
    latent_batch_norm: bool = False
    init_from: str | None = None


class ImageTokenizerTraining(ImageTokenizerTask):
    """Train an image tokenizer on rendered scenes: the task of `showo-turbo pretrain image-tokenizer`."""

    def __init__(self, config: ImageTokenizerTrainingConfig) -> None:
        """Initialise the model from the seed or from `config.init_from`."""
        self.config, self.world = config, find_world(config.world)
        torch.manual_seed(config.loop.seed)
        model = MagvitV2(config.model)
        if config.init_from is not None:
            fit_weights(model, weights_of_file(Path(config.init_from)))
        if config.latent_batch_norm and not config.decoder_only:
            normalized = nn.Sequential(model.encoder.quant_conv, nn.BatchNorm2d(config.model.latent_channels))
            model.encoder.add_module("quant_conv", normalized)
        super().__init__(model, config)

    def images(self, number: int) -> tuple[Tensor, torch.Generator]:
        """Render random training scenes."""
        rng = random.Random(f"{self.config.loop.seed}/{number}")
        scenes = [self.world.training_scene(rng) for _ in range(self.config.batch_size)]
        return scene_pixels(scenes, self.world), torch.Generator().manual_seed(rng.getrandbits(48))
