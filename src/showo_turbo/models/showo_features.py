"""Show-o with CLIP features of a few images appended to its embeddings.

The text loop works on ids. So features get ids as well, past the end of the vocabulary and for one call only: feature k
of all given ones is id `vocab_size + k`. Sequences, masks, KV cache and loop then need no special case for continuous
features; two questions about one image use the same ids.

    ids         mmu  A  chat ... soi | V  V+1 V+2 ... | eoi  USER ...        V = vocab_size
    embedding   table                | features       | table
"""

import torch
from torch import Tensor, nn

from showo_turbo.backends.linear import arithmetic_dtype
from showo_turbo.models.showo import Showo


class FeatureShowo(Showo):
    """Extend a `w_clip_vit` model by the features of images; all weights are shared with the model."""

    def __init__(self, model: Showo, features: Tensor) -> None:
        """Project features of images.

        Args:
            model: a transformer with a projector.
            features: (images, n, feature_size), of a `ClipVisionTower`.
        """
        nn.Module.__init__(self)
        self.config, self.showo, self.mm_projector = model.config, model.showo, model.mm_projector
        self.layer_ops, self.cuda_graphs = model.layer_ops, model.cuda_graphs
        self.image_passes = None  # these are of images that are drawn
        self.num_features = features.shape[1]
        features = features.to(model.device, arithmetic_dtype(next(self.mm_projector.parameters())))
        self.features = self.mm_projector(features).flatten(0, 1)

    def feature_indices(self, images: list[int]) -> Tensor:
        """Return the indices of the features of some images, long (len(images), n), counted over all given images."""
        first = torch.tensor(images)[:, None] * self.num_features
        return first + torch.arange(self.num_features)

    def embed(self, ids: Tensor) -> Tensor:
        """Return embeddings (..., hidden_size) of ids, long (...), features among them."""
        indices = ids - self.config.vocab_size
        is_feature = (indices >= 0)[..., None]
        text = super().embed(ids.clamp(max=self.config.vocab_size - 1))
        return torch.where(is_feature, self.features[indices.clamp(min=0)], text)
