"""Compile what a training computes most, by `torch.compile`.

The layers of a transformer are alike, so torch compiles the code of one and uses it for all. Python code around them,
such as masks and losses, is not compiled. Layers are compiled in place: names of weights, copies and sharding by layer
stay as they are.
"""

from torch import nn

from showo_turbo.errors import InputError
from showo_turbo.models.phi import PhiLayer


def compile_layers(model: nn.Module) -> None:
    """Compile the forward passes of a model's layers; the first step of a training compiles them.

    Raises:
        InputError: if the model has no such layers.
    """
    layers = [module for module in model.modules() if isinstance(module, PhiLayer)]
    if not layers:
        raise InputError("loop.compile is true, but this training has no layers of a transformer: leave it out")
    for layer in layers:
        layer.compile()
