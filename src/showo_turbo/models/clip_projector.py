"""The projector of CLIP image features into the transformer (Show-o, arXiv 2408.12528, section 3.1).

Show-o's `w_clip_vit` variant represents an image by continuous features instead of codes:

    pixels --CLIP vision tower--> (patches, 1024) --ClipProjector--> (patches, 2048) --as embeddings--> transformer
"""

from torch import nn


class ClipProjector(nn.Sequential):
    """Apply Linear, GELU, Linear: (..., feature_size) -> (..., hidden_size). Parameters are named `0.*` and `2.*`."""

    def __init__(self, feature_size: int, hidden_size: int) -> None:
        """Build with random weights."""
        super().__init__(nn.Linear(feature_size, hidden_size), nn.GELU(), nn.Linear(hidden_size, hidden_size))
