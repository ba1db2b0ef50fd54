"""Compile the position-wise functions of a layer once for all layers and any number of rows.

torch calls this regional compilation. It compiles anew for a size of 1 and for other strides. So both sizes, one row
and several, are compiled at the start, and tensors are passed as contiguous copies: no later step compiles.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from showo_turbo.models.packed_forward import (
    LayerOps,
    Rotary,
    combine,
    project,
    project_keys_values,
    project_queries,
)
from showo_turbo.models.phi import PhiLayer

_ROW_COUNTS = (5, 1)
"""Several rows and one. Sizes of a layer are even, or 3 (queries, keys, values), so none is mistaken for the rows."""


@torch.inference_mode()
def compile_layer_ops(layer: PhiLayer, like: Tensor, mode: str | None = None) -> LayerOps:
    """Return the functions compiled for any number of rows.

    Args:
        layer: one of the layers, which have the same sizes.
        like: embeddings (..., hidden_size), on the device and in the dtype to compile for.
        mode: passed to `torch.compile`.
    """
    functions = (project, project_keys_values, project_queries, combine)
    ops = LayerOps(*(_on_contiguous(torch.compile(one, dynamic=True, mode=mode)) for one in functions))
    for rows in _ROW_COUNTS:
        hidden, rotary = (
            like.new_zeros(rows, like.shape[-1]),
            (like.new_zeros(rows, 1, layer.self_attn.rotary_ndims),) * 2,
        )
        normed, queries, _ = ops.project(layer, hidden, rotary)
        ops.combine(layer, hidden, normed, queries.flatten(1))
        normed, _ = ops.project_keys_values(layer, hidden, rotary)
        ops.project_queries(layer, normed, rotary)
    return ops


def _on_contiguous(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a function so that it gets copies; `contiguous` would leave the strides of single rows as they are."""

    def call(layer: PhiLayer, *tensors: Tensor | Rotary) -> Any:
        return function(layer, *tree_map_only(Tensor, copy, tensors))

    copy = partial(torch.clone, memory_format=torch.contiguous_format)
    return call
