"""The CLIP picture tower of the `w_clip_vit` variant: images to one feature vector a patch.

Decisions:
- As published, the features are those of the last hidden layer but one, without the class token, and the tower is the
  one of `openai/clip-vit-large-patch14-336` (336 pixels, 14 to a patch: 24 x 24 = 576 features of 1,024 numbers).
- Sizes come from the tower's own config, so that any CLIP tower serves a checkpoint that was trained with it.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from transformers import CLIPVisionModel
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from showo_turbo.backends.linear import arithmetic_dtype, upcast
from showo_turbo.processing.images import ImageSource, load_image


class ClipVisionTower(nn.Module):
    """A frozen CLIP vision transformer, read one layer before its end."""

    def __init__(self, tower: CLIPVisionModel) -> None:
        """Take over a tower."""
        super().__init__()
        self.tower = tower.eval().requires_grad_(False)
        upcast(self.tower)
        side = tower.config.image_size
        self.processor = CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size={"height": side, "width": side})

    @property
    def feature_size(self) -> int:
        """Numbers in a feature."""
        return self.tower.config.hidden_size

    @property
    def num_features(self) -> int:
        """Features of an image, one a patch."""
        return (self.tower.config.image_size // self.tower.config.patch_size) ** 2

    def preprocess(self, sources: Sequence[ImageSource]) -> Tensor:
        """Pixels as CLIP wants them, float32 (batch, 3, side, side): shorter side resized, middle cut out, normalised.

        Raises:
            InputError: when an image cannot be read.
        """
        images = [load_image(source) for source in sources]
        return self.processor(images, return_tensors="pt")["pixel_values"]

    @torch.no_grad()
    def forward(self, pixels: Tensor) -> Tensor:
        """Features (batch, num_features, feature_size) of pixels (batch, 3, side, side), row-major."""
        weight = self.tower.get_input_embeddings().weight
        embeddings = self.tower.embeddings(pixels.to(weight.device, weight.dtype))
        hidden = self.tower.pre_layrnorm(embeddings.to(arithmetic_dtype(weight)))
        for layer in self.tower.encoder.layers[:-1]:
            hidden = layer(hidden, attention_mask=None)
        return hidden[:, 1:]
