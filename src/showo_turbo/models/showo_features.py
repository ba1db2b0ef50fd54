"""Show-o with a few images' features added to its embeddings.

The text loop works on ids. So an image's features get ids as well, past the end of the vocabulary, which hold for one
call: feature k of all features given is id `vocab_size + k`. Sequences, masks, the cache and the loop then need to know
nothing of continuous features; two questions about one image name the same ids.

    ids         mmu  A  chat ... soi | V  V+1 V+2 ... | eoi  USER ...        V = vocab_size
    embedding   table                | features       | table
"""

import torch
from torch import Tensor, nn

from showo_turbo.backends.linear import arithmetic_dtype
from showo_turbo.models.showo import Showo


class FeatureShowo(Showo):
    """A model of the `w_clip_vit` variant, looking at images. It shares all weights with the model it is made from."""

    def __init__(self, model: Showo, features: Tensor) -> None:
        """Look at images.

        Args:
            model: a transformer with a projector.
            features: (images, n, feature_size), of a `ClipVisionTower`.
        """
        nn.Module.__init__(self)
        self.config, self.showo, self.mm_projector = model.config, model.showo, model.mm_projector
        self.row_math, self.runner = model.row_math, model.runner
        self.num_features = features.shape[1]
        features = features.to(model.device, arithmetic_dtype(self.mm_projector[0].weight))
        self.features = self.mm_projector(features).flatten(0, 1)

    def numbers(self, images: list[int]) -> Tensor:
        """Which features are those of some images: long (len(images), n), counted from 0 over all images given."""
        first = torch.tensor(images)[:, None] * self.num_features
        return first + torch.arange(self.num_features)

    def embed(self, ids: Tensor) -> Tensor:
        """Embeddings (batch, length, hidden_size) of ids, features among them."""
        numbers = ids - self.config.vocab_size
        is_feature = (numbers >= 0)[..., None]
        text = super().embed(ids.clamp(max=self.config.vocab_size - 1))
        return torch.where(is_feature, self.features[numbers.clamp(min=0)], text)
