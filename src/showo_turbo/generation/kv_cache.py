"""KV caches: keys and values in buffers that are allocated once and updated by `packed_forward`.

SequenceCache   rows are stored in their sequence and attend to what it holds
PrefixCache     rows of a prefix attend to the prefix, and are stored for every sequence that starts with it
ImageCache      rows of an image attend to their prompt and the whole image; nothing is kept for the next pass
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from showo_turbo.backends.cuda_graphs import CudaGraphRunner
from showo_turbo.backends.linear import arithmetic_dtype
from showo_turbo.models.packed_forward import RaggedLayout
from showo_turbo.models.showo import Showo


def allocate_kv_buffer(owner: object, model: Showo, sequences: int, length: int, layers: int | None = None) -> Tensor:
    """Return zeros (layers, 2, sequences, length, heads, head size), keys before values, for all layers by default.

    The buffer belongs to the owner until it is deleted. It is zeroed since masked columns are multiplied by 0, which
    turns NaN and infinite values into NaN.
    """
    config = model.showo.config
    size = config.hidden_size // config.num_attention_heads
    layers = config.num_hidden_layers if layers is None else layers
    heads = config.num_key_value_heads or config.num_attention_heads
    shape = (layers, 2, sequences, length, heads, size)
    like = torch.empty(0, dtype=arithmetic_dtype(model.showo.lm_head.weight), device=model.device)
    return like.new_zeros(shape) if model.cuda_graphs is None else model.cuda_graphs.allocate(owner, shape, like)


def buffer_length(length: int, cuda_graphs: CudaGraphRunner | None) -> int:
    """Return the length of a buffer for so many columns: with CUDA graphs a multiple, so that few shapes occur."""
    multiple = 1 if cuda_graphs is None else cuda_graphs.length_multiple
    return -(-length // multiple) * multiple


@dataclass(frozen=True)
class SequenceCache:
    """Store rows in their sequences and attend to all that these hold.

    Attributes:
        buffer: (layers, 2, sequences, length, heads, head size).
        slots: long (rows,), where the rows are stored among (sequences * length).
        sequences: number of sequences that have rows, the first ones.
        columns: part of the length that is attended to.
    """

    buffer: Tensor
    slots: Tensor
    sequences: int
    columns: int

    @property
    def persistent_buffers(self) -> tuple[Tensor, ...]:
        """See `models.packed_forward.KVCache`."""
        return (self.buffer,)

    def update(self, layer: int, keys_values: Tensor) -> Tensor:
        """See `models.packed_forward.KVCache`."""
        self.buffer[layer].flatten(1, 2).index_copy_(1, self.slots, keys_values)
        return self.buffer[layer, :, : self.sequences, : self.columns]


@dataclass(frozen=True)
class PrefixCache:
    """Store the rows of prefixes for every sequence that starts with them, and attend to the prefix.

    Attributes:
        buffer: (layers, 2, sequences, length, heads, head size).
        layout: which prefixes the rows belong to.
        rows: long (copies,), the rows, as often as they are stored.
        slots: long (copies,), where they are stored among (sequences * length).
    """

    buffer: Tensor
    layout: RaggedLayout
    rows: Tensor
    slots: Tensor

    @property
    def persistent_buffers(self) -> tuple[Tensor, ...]:
        """See `models.packed_forward.KVCache`."""
        return (self.buffer,)

    def update(self, layer: int, keys_values: Tensor) -> Tensor:
        """See `models.packed_forward.KVCache`."""
        self.buffer[layer].flatten(1, 2).index_copy_(1, self.slots, keys_values[:, self.rows])
        return torch.stack([self.layout.pad(one) for one in keys_values])


@dataclass(frozen=True)
class ImageCache:
    """Attend to the stored prompt of each image and to the whole image.

    All layers share the buffer of the images, since nothing outside of a layer attends to their rows.

    Attributes:
        prompts: (layers, 2, prompts, longest, heads, head size).
        images: (2, images, longest + length, heads, head size), overwritten in every layer.
        prompt_of: long (images,), each image's prompt.
    """

    prompts: Tensor
    images: Tensor
    prompt_of: Tensor

    @property
    def persistent_buffers(self) -> tuple[Tensor, ...]:
        """See `models.packed_forward.KVCache`."""
        return self.prompts, self.images

    def update(self, layer: int, keys_values: Tensor) -> Tensor:
        """See `models.packed_forward.KVCache`."""
        longest = self.prompts.shape[3]
        torch.index_select(self.prompts[layer], 1, self.prompt_of, out=self.images[:, :, :longest])
        self.images[:, :, longest:] = keys_values.view(2, len(self.prompt_of), -1, *keys_values.shape[2:])
        return self.images
