"""Linear layers on the CPU, by the faster of two libraries that torch has for them.

torch takes MKL for float32, which does not use all that AMD's processors have. oneDNN does: for weights of 2048 x 8192,
as they are, it took half of the time with 16 rows and 3/4 with 260 (docs/speed.md). Weights that stay in the cache gain
nothing, except that GELU is done in the same go.

It has no gradients, so it serves where none are wanted: with autograd off. `torch.backends.mkldnn.enabled = False` does
without it.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.models.phi.modeling_phi import PhiMLP

_WEIGHTS_WORTH_IT = 2**20


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`F.linear`: (..., inputs) -> (..., outputs)."""
    if weight.numel() >= _WEIGHTS_WORTH_IT and _may_take_onednn(x, weight):
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return F.linear(x, weight, bias)


class GeluMLP(PhiMLP):
    """Phi's MLP, with GELU in its tanh form."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> (..., width)."""
        first = self.fc1
        if not isinstance(first, nn.Linear) or not _may_take_onednn(x, first.weight):  # it may be wrapped in a LoRA
            return super().forward(x)
        return self.fc2(torch.ops.mkldnn._linear_pointwise(x, first.weight, first.bias, "gelu", [], "tanh"))


def _may_take_onednn(x: Tensor, weight: Tensor) -> bool:
    return (
        not torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and type(weight) in (Tensor, nn.Parameter)  # not a quantized one
        and x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and torch.backends.mkldnn.is_available()
        and torch.backends.mkldnn.enabled
    )
