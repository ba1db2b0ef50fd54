"""Room for keys and values, allocated once."""

import torch
from torch import Tensor

from showo_turbo.models.showo import Showo
from showo_turbo.models.upcasting import arithmetic_dtype


def empty_key_values(model: Showo, sequences: int, length: int, layers: int | None = None) -> Tensor:
    """Zeros (layers, 2, sequences, length, heads, head size), keys before values; of all layers by default.

    Zeros rather than anything, since columns out of sight are multiplied by a weight of 0.
    """
    config = model.showo.config
    heads = config.num_key_value_heads
    size = config.hidden_size // config.num_attention_heads
    layers = config.num_hidden_layers if layers is None else layers
    dtype = arithmetic_dtype(model.showo.lm_head.weight)
    return torch.zeros(layers, 2, sequences, length, heads, size, dtype=dtype, device=model.device)
