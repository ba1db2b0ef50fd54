"""Keys and values of what cannot change any more, kept between the passes of one decoder."""

import torch
from torch import Tensor
from transformers import DynamicCache

from showo_turbo.models.showo import Showo


class CachedPasses:
    """Runs a model over a batch of sequences again and again, each time only from the first position that may differ.

    The caller says which positions depend on no later one (`keep`); that their ids are those of the pass before is
    checked here, so the cache never changes a result.

    Positions are numbered from the start of the rows, pads included: rotary attention knows distances only, so left
    padding changes no result either.
    """

    def __init__(self, model: Showo, attention_mask: Tensor) -> None:
        """Start with an empty cache.

        Args:
            model: the transformer.
            attention_mask: bool (batch, 1, length, length) of the longest sequence that will be run.
        """
        self.model = model
        self.attention_mask = attention_mask
        self.cache = DynamicCache(config=model.showo.config)
        self.kept_ids = torch.empty(len(attention_mask), 0, dtype=torch.long, device=model.device)

    def run(self, ids: Tensor) -> Tensor:
        """Hidden states (batch, rows, hidden) of the last positions, from the first one on that is not kept.

        Args:
            ids: long (batch, length), whole sequences.
        """
        both = min(ids.shape[1], self.kept_ids.shape[1])
        same = (ids[:, :both] == self.kept_ids[:, :both]).all(0)
        self.keep(int(same.cumprod(0).sum()))
        first, length = self.kept_ids.shape[1], ids.shape[1]
        mask = self.attention_mask[:, :, first:length, :length]
        hidden = self.model(ids[:, first:], mask, cache=self.cache)
        self.kept_ids = ids
        return hidden

    def make_room(self, attention_mask: Tensor) -> None:
        """Go on with longer sequences: with their mask, of which the part that was there before must be the same."""
        self.attention_mask = attention_mask

    def keep(self, length: int) -> None:
        """Forget everything but the first `length` positions."""
        self.cache.crop(min(length - self.kept_ids.shape[1], 0))
        self.kept_ids = self.kept_ids[:, :length]
