"""What a layer computes of each row by itself: all but attention, where rows meet.

    hidden --keys_values--> keys, values ---------+
       |                                          +--attention--> mixed --finish--> hidden
       +-----> normed ------queries--> queries ---+

Decisions:
- These are functions of a layer and of its rows, so they can be compiled once for all layers and any number of rows
  (torch calls it regional compilation). Which rows attend where changes from pass to pass and stays outside.
- torch compiles anew for a size of 1, and for other strides. So both sizes, one and several, are compiled at the start,
  and tensors come as copies: no step ever compiles.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only
from transformers.models.phi.modeling_phi import PhiDecoderLayer

Rotary = tuple[Tensor, Tensor]
"""Cosines and sines, each (rows, 1, half of the rotated part of a head)."""

_ROWS_TO_COMPILE_FOR = (3, 1)
"""Several and one. No size of a layer is odd, so nothing is taken for the number of rows by accident."""


def keys_values(layer: PhiDecoderLayer, hidden: Tensor, rotary: Rotary) -> tuple[Tensor, Tensor, Tensor]:
    """Rows after the layer norm (rows, hidden_size), rotated keys and values, each (rows, heads, head size)."""
    attention, normed = layer.self_attn, layer.input_layernorm(hidden)
    keys = attention.k_proj(normed).unflatten(-1, (-1, attention.head_dim))
    values = attention.v_proj(normed).unflatten(-1, (-1, attention.head_dim))
    return normed, _rotate(attention.k_layernorm(keys) if attention.qk_layernorm else keys, rotary), values


def queries(layer: PhiDecoderLayer, normed: Tensor, rotary: Rotary) -> Tensor:
    """Rotated queries, (rows, heads, head size)."""
    attention = layer.self_attn
    own = attention.q_proj(normed).unflatten(-1, (-1, attention.head_dim))
    return _rotate(attention.q_layernorm(own) if attention.qk_layernorm else own, rotary)


def finish(layer: PhiDecoderLayer, hidden: Tensor, normed: Tensor, mixed: Tensor) -> Tensor:
    """What the layer makes of rows, all (rows, hidden_size), given what attention mixed for them."""
    return layer.self_attn.dense(mixed).add_(layer.mlp(normed)).add_(hidden)


def _rotate(states: Tensor, rotary: Rotary) -> Tensor:
    """Rotary embedding of the first part of each head, (rows, heads, head size), in place."""
    cosines, sines = rotary
    half = cosines.shape[-1]
    first, second = states[..., :half], states[..., half : 2 * half]
    turned = first * sines
    first.mul_(cosines).addcmul_(second, sines, value=-1)
    second.mul_(cosines).add_(turned)
    return states


@dataclass(frozen=True)
class RowMath:
    """The functions above, as they are or compiled."""

    keys_values: Callable[[PhiDecoderLayer, Tensor, Rotary], tuple[Tensor, Tensor, Tensor]] = keys_values
    queries: Callable[[PhiDecoderLayer, Tensor, Rotary], Tensor] = queries
    finish: Callable[[PhiDecoderLayer, Tensor, Tensor, Tensor], Tensor] = finish


@torch.inference_mode()
def compile_row_math(layer: PhiDecoderLayer, like: Tensor, mode: str | None = None) -> RowMath:
    """The functions, compiled for any number of rows.

    Args:
        layer: one of the layers, which are all alike.
        like: embeddings (..., hidden_size), of the device and precision to come.
        mode: of `torch.compile`.
    """
    compiled = [
        _with_plain_strides(torch.compile(one, dynamic=True, mode=mode)) for one in (keys_values, queries, finish)
    ]
    math = RowMath(*compiled)
    part = layer.self_attn.rotary_ndims // 2
    for rows in _ROWS_TO_COMPILE_FOR:
        hidden, cosines, sines = (like.new_zeros(rows, *rest) for rest in ((like.shape[-1],), (1, part), (1, part)))
        normed, _, _ = math.keys_values(layer, hidden, (cosines, sines))
        mixed = math.queries(layer, normed, (cosines, sines)).flatten(1)
        math.finish(layer, hidden, normed, mixed)
    return math


def _with_plain_strides(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that is given copies; `contiguous` would leave strides of single rows as they are."""

    def call(layer: PhiDecoderLayer, *tensors: Tensor | Rotary) -> Any:
        return function(layer, *tree_map_only(Tensor, copy, tensors))

    copy = partial(torch.clone, memory_format=torch.contiguous_format)
    return call
