"""The memory of a training step, counted on tensors without data.

    weights, moments, EMA, teacher   |#################|  all the time
    activations                      |//////.          |  grow in the forward pass, shrink in the backward pass
    gradients                        |      .//////####|  grow in the backward pass, until the optimizer's step

Decisions:
- Activations are what autograd stores in a forward pass of the library's own model, with 1 and 2 layers; more layers
  store as much each. So no formula has to follow the model.
- Gradients take the place of activations, so a step peaks at the larger one of both.
- Autocast makes one copy of a trained weight in bfloat16 for all passes of a step, and one of a frozen weight in every
  pass, which the backward pass needs: LoRA with two terms in the loss has two such copies of its base.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional as F

from showo_turbo.configuration import BackboneConfig, ShowoConfig
from showo_turbo.models.showo import Showo
from showo_turbo.planning.work import Pass
from showo_turbo.training.adapters import LoraConfig, prepare_model
from showo_turbo.vocabulary import SPECIAL_TOKENS

_FLOAT32 = 4


@dataclass(frozen=True)
class Activations:
    """Hold the bytes that autograd stores for a forward pass: outside of layers, and of each layer.

    Attributes:
        ends: embeddings, final norm and logits.
        layer: of one layer, without copies of weights.
        layer_input: of one layer under gradient checkpointing.
        cast_weights: copies of all trained weights in bfloat16, which all passes of a step share.
        frozen_ends: copies of frozen weights of embeddings and head in bfloat16, which every pass makes.
        frozen_layer: likewise, of one layer.
    """

    ends: float
    layer: float
    layer_input: float
    cast_weights: float
    frozen_ends: float = 0.0
    frozen_layer: float = 0.0


def count_parameters(config: BackboneConfig, layers: int | None = None) -> int:
    """Return the number of parameters of a model, of another number of layers if it is given."""
    hidden, mlp = config.hidden_size, config.intermediate_size
    head = hidden // config.num_attention_heads
    layer = 4 * hidden * (hidden + 1) + 2 * hidden * mlp + hidden + mlp + 2 * hidden
    layer += 4 * head if config.qk_layernorm else 0
    ends = config.vocab_size * (2 * hidden + 1) + 2 * hidden
    return ends + (config.num_hidden_layers if layers is None else layers) * layer


def count_trained(config: BackboneConfig, lora: LoraConfig) -> int:
    """Return the number of parameters that are trained: those of the adapters, or all."""
    if not lora.rank:
        return count_parameters(config)
    hidden, mlp = config.hidden_size, config.intermediate_size
    attention, feed_forward = ("q_proj", "k_proj", "v_proj", "dense"), ("fc1", "fc2")
    widths = 2 * hidden * sum(name in attention for name in lora.targets)
    widths += (hidden + mlp) * sum(name in feed_forward for name in lora.targets)
    return config.num_hidden_layers * lora.rank * widths


def measure_activations(config: BackboneConfig, one: Pass, bfloat16: bool, lora: LoraConfig) -> Activations:
    """Return what a forward pass stores for the backward pass, by running models of 1 and 2 layers without data."""
    first, second = (_stored_bytes(config, one, layers, bfloat16, lora) for layers in (1, 2))
    layer, cast, frozen = (more - less for more, less in zip(second, first, strict=True))
    return Activations(
        ends=first[0] - layer,
        layer=layer,
        layer_input=one.rows * one.length * config.hidden_size * _FLOAT32,
        cast_weights=first[1] + (config.num_hidden_layers - 1) * cast,
        frozen_ends=first[2] - frozen,
        frozen_layer=frozen,
    )


def model_without_data(
    mode: FakeTensorMode, sizes: ShowoConfig, config: BackboneConfig, lora: LoraConfig, checkpointing: bool = False
) -> Showo:
    """Return a model that is prepared for training, on the CPU, of which no tensor has data.

    Args:
        mode: of its tensors; it is to be run in this mode.
        sizes: of vocabulary and images.
        config: of the backbone.
        lora: adapters in place of all weights.
        checkpointing: gradient checkpointing.
    """
    with torch.device("meta"):  # adapters cannot be added to tensors of the mode
        model = prepare_model(Showo(sizes, config), lora, checkpointing, 0)
    with mode:
        for module in model.modules():
            for name, one in module.named_parameters(recurse=False):
                setattr(module, name, nn.Parameter(torch.empty(one.shape), requires_grad=one.requires_grad))
            for name, buffer in module.named_buffers(recurse=False):
                setattr(module, name, torch.empty(buffer.shape, dtype=buffer.dtype))
    return model


def _stored_bytes(
    config: BackboneConfig, one: Pass, layers: int, bfloat16: bool, lora: LoraConfig
) -> tuple[int, int, int]:
    """Return the bytes that autograd stores: of activations, and of copies of trained and of frozen weights."""
    stored: dict[int, Tensor] = {}

    def store(tensor: Tensor) -> Tensor:
        stored.setdefault(tensor.untyped_storage()._cdata, tensor)
        return tensor

    sizes = ShowoConfig(
        vocab_size=config.vocab_size, llm_vocab_size=config.vocab_size - len(SPECIAL_TOKENS) - 2, codebook_size=1
    )
    mode = FakeTensorMode()
    model = model_without_data(mode, sizes, replace(config, num_hidden_layers=layers), lora)
    with mode:
        ids = torch.zeros(one.rows, one.length, dtype=torch.long)
        mask = torch.ones(one.rows, 1, one.length, one.length, dtype=torch.bool)
        with saved_tensors_hooks(store, lambda tensor: tensor), torch.autocast("cpu", torch.bfloat16, bfloat16):
            hidden = model(ids, mask)[:, : one.scored]
            logits = model.logits(hidden, 0, one.ids)
            F.cross_entropy(logits.flatten(0, 1), torch.zeros(logits.shape[:2].numel(), dtype=torch.long))
    weights = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
    matrices = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    trained, frozen = ({tuple(one.shape) for one in matrices if one.requires_grad is own} for own in (True, False))
    counts = [0, 0, 0]
    for tensor in (tensor for key, tensor in stored.items() if key not in weights):
        shapes = {tuple(tensor.shape), tuple(reversed(tensor.shape))}  # weights may be stored as their transposes
        is_cast = tensor.dtype == torch.bfloat16
        kind = 1 if is_cast and shapes & trained else 2 if is_cast and shapes & frozen else 0
        counts[kind] += tensor.untyped_storage().nbytes()
    return counts[0], counts[1], counts[2]


@dataclass(frozen=True)
class Held:
    """Hold the bytes of a training in one process besides activations.

    Attributes:
        always: weights, moments, EMA, teacher and image tokenizer.
        gradients: of the trained weights, with the copies that a wrapper keeps.
        update: temporary tensors of the optimizer's step.
    """

    always: float
    gradients: float
    update: float


def peak_bytes(held: Held, passes: Iterable[Activations], layers: int, checkpointing: bool) -> float:
    """Return the peak of a step whose passes are all stored until one backward pass."""
    stored = list(passes)
    if checkpointing:
        kept = sum(one.ends + one.frozen_ends + layers * one.layer_input for one in stored)
        kept += max(one.layer + one.frozen_layer for one in stored)
    else:
        kept = sum(one.ends + one.frozen_ends + layers * (one.layer + one.frozen_layer) for one in stored)
    cast = max(one.cast_weights for one in stored)
    return held.always + max(kept + cast, held.gradients + held.update)
