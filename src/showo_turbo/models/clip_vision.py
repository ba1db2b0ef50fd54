"""The CLIP vision tower of the `w_clip_vit` variant: one feature vector per image patch.

Decisions:
- As published, the features are the output of the second-to-last layer, without the class token, and the tower is
  `openai/clip-vit-large-patch14-336` (336 pixels, 14 per patch: 24 x 24 = 576 features of 1,024 values).
- Sizes are those of the tower's own config, so a checkpoint may be trained with any CLIP tower.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from showo_turbo.backends.linear import arithmetic_dtype, upcast
from showo_turbo.processing.image_files import ImageSource, load_image

if TYPE_CHECKING:
    from transformers import CLIPVisionModel


class ClipVisionTower(nn.Module):
    """Run a frozen CLIP vision transformer up to its second-to-last layer."""

    def __init__(self, tower: "CLIPVisionModel") -> None:
        """Freeze `tower`, and upcast its weights on the CPU."""
        from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

        super().__init__()
        self.tower = tower.eval().requires_grad_(False)
        upcast(self.tower)
        side = cast(int, tower.config.image_size)
        self.processor = CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size={"height": side, "width": side})

    @property
    def feature_size(self) -> int:
        """Length of a feature vector."""
        return self.tower.config.hidden_size

    @property
    def num_features(self) -> int:
        """Number of features of an image, one per patch."""
        return (self.tower.config.image_size // self.tower.config.patch_size) ** 2

    def preprocess(self, sources: Sequence[ImageSource]) -> Tensor:
        """Resize the shorter side, crop the center and normalize: float32 (batch, 3, side, side).

        Raises:
            InputError: if an image cannot be read.
        """
        images = [load_image(source) for source in sources]
        return self.processor(images, return_tensors="pt")["pixel_values"]

    @torch.no_grad()
    def forward(self, pixels: Tensor) -> Tensor:
        """Return features (batch, num_features, feature_size) of pixels (batch, 3, side, side), row-major."""
        weight = self.tower.get_input_embeddings().weight
        embeddings = self.tower.embeddings(pixels.to(weight.device, weight.dtype))
        hidden = self.tower.pre_layrnorm(embeddings.to(arithmetic_dtype(weight)))
        for layer in self.tower.encoder.layers[:-1]:
            hidden = layer(hidden, attention_mask=None)
        return hidden[:, 1:]
