"""The components of a checkpoint as one object: what is loaded, saved and converted together."""

from dataclasses import dataclass, field
from math import isqrt
from typing import Self

import torch

from showo_turbo.device import parse_device
from showo_turbo.errors import InputError
from showo_turbo.generation.options import SamplingOptions
from showo_turbo.models.clip_vision import ClipVisionTower
from showo_turbo.models.magvit_v2 import MagvitV2
from showo_turbo.models.showo import Showo
from showo_turbo.processing.prompts import PromptBuilder


@dataclass
class Components:
    """Hold everything that belongs to one checkpoint.

    Attributes:
        model: the transformer.
        prompts: text tokenizer and prompt templates, for the same vocabulary.
        image_tokenizer: turns pixels into codes and back; without it only codes can be read and drawn.
        recommended: the sampling options that are used for what a call leaves out.
        vision_tower: the CLIP encoder that a `w_clip_vit` transformer sees images with when it answers.

    Raises:
        InputError: if the image tokenizer has another codebook size than the transformer, or the vision tower another
            feature size.
    """

    model: Showo
    prompts: PromptBuilder
    image_tokenizer: MagvitV2 | None = None
    recommended: SamplingOptions = field(default_factory=SamplingOptions)
    vision_tower: ClipVisionTower | None = None

    def __post_init__(self) -> None:
        config = self.model.config
        if self.image_tokenizer is not None and self.image_tokenizer.config.codebook_size != config.codebook_size:
            raise InputError(
                f"image tokenizer has {self.image_tokenizer.config.codebook_size} codes, the transformer "
                f"{config.codebook_size}: they do not belong together"
            )
        if self.vision_tower is not None and self.vision_tower.feature_size != config.clip_feature_size:
            raise InputError(
                f"vision tower has features of size {self.vision_tower.feature_size}, the transformer takes "
                f"{config.clip_feature_size}: they do not belong together"
            )

    def to(self, device: str | torch.device) -> Self:
        """Move all weights to a device.

        Raises:
            InputError: if the device cannot be used.
        """
        device = parse_device(device)
        for module in (self.model, self.image_tokenizer, self.vision_tower):
            if module is not None:
                module.to(device)
        return self

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.model.device

    @property
    def grid_size(self) -> int:
        """Codes along one side of the square image that the model was trained on."""
        return isqrt(self.model.config.num_vq_tokens)

    @property
    def resolution(self) -> int:
        """Pixels along one side of the square image that the model was trained on.

        Raises:
            InputError: if there is no image tokenizer.
        """
        return self.grid_size * self.require_image_tokenizer().config.downsampling_factor

    def require_image_tokenizer(self) -> MagvitV2:
        """Return the image tokenizer.

        Raises:
            InputError: if there is none.
        """
        if self.image_tokenizer is None:
            raise InputError(
                "the checkpoint has no image tokenizer: name one, from_pretrained(..., image_tokenizer=FOLDER), or "
                "work on codes (output_type='latent', image_to_text(codes=...))"
            )
        return self.image_tokenizer

    def require_vision_tower(self) -> ClipVisionTower:
        """Return the CLIP vision tower.

        Raises:
            InputError: if there is none.
        """
        if self.vision_tower is None:
            raise InputError(
                "the checkpoint has no CLIP vision tower: name one, from_pretrained(..., vision_tower=FOLDER); the "
                "published checkpoints take openai/clip-vit-large-patch14-336"
            )
        return self.vision_tower
