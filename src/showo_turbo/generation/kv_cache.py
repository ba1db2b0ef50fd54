"""Keys and values that are kept from pass to pass, in a room that is made once."""

from dataclasses import dataclass

import torch
from torch import Tensor

from showo_turbo.backends.linear import arithmetic_dtype
from showo_turbo.models.showo import Showo


def room_for_key_values(owner: object, model: Showo, sequences: int, length: int, layers: int | None = None) -> Tensor:
    """Zeros (layers, 2, sequences, length, heads, head size), keys before values; of all layers by default.

    They are the owner's for as long as that lives. Zeros rather than anything, since columns out of sight are
    multiplied by a weight of 0.
    """
    config = model.showo.config
    heads = config.num_key_value_heads
    size = config.hidden_size // config.num_attention_heads
    layers = config.num_hidden_layers if layers is None else layers
    like = torch.empty(0, dtype=arithmetic_dtype(model.showo.lm_head.weight), device=model.device)
    return model.runner.lend(owner, (layers, 2, sequences, length, heads, size), like)


@dataclass(frozen=True)
class KeptKeyValues:
    """Rows are kept in their sequences, and look at what is kept there.

    Attributes:
        kept: (layers, 2, sequences, length, heads, head size).
        places: long (rows,), where the rows belong among (sequences * length).
        sequences: how many sequences have rows, the first ones.
        columns: how much of their length is in use.
    """

    kept: Tensor
    places: Tensor
    sequences: int
    columns: int

    @property
    def lasting(self) -> tuple[Tensor, ...]:
        """See `models.passes.KeyValues`."""
        return (self.kept,)

    def update(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """See `models.passes.KeyValues`."""
        for kept, own in zip(self.kept[layer], (keys, values), strict=True):
            kept.flatten(0, 1).index_copy_(0, self.places, own)
        return tuple(self.kept[layer, :, : self.sequences, : self.columns])
