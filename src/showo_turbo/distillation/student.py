"""The student: a model whose weights, or LoRA adapters, are trained."""

from copy import deepcopy
from types import ModuleType

import torch

from showo_turbo.distillation.config import Stage
from showo_turbo.errors import InputError
from showo_turbo.extras import require_module
from showo_turbo.models.showo import Showo


def prepare_student(model: Showo, stage: Stage) -> Showo:
    """Prepare a float32 model for training: training mode, trainable parameters, adapters, gradient checkpointing.

    Raises:
        InputError: if adapters are configured and peft is not installed, or no layer has one of their names.
    """
    # The projector of CLIP features stays frozen: no term uses it.
    model.requires_grad_(False).showo.requires_grad_(True)
    model.train()
    if stage.lora.rank:
        _add_adapters(model, stage)
    if stage.gradient_checkpointing:
        model.showo.model.gradient_checkpointing = True
    return model


def require_peft(stage: Stage) -> ModuleType:
    """Import peft, which a stage with adapters needs.

    Raises:
        InputError: if it is not installed.
    """
    return require_module("peft", f"stage {stage.name!r} with adapters (lora.rank)")


def _add_adapters(model: Showo, stage: Stage) -> None:
    peft = require_peft(stage)
    lora = stage.lora
    config = peft.LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        target_modules=list(lora.targets),
    )
    try:
        with torch.random.fork_rng([model.device] if model.device.type == "cuda" else []):
            torch.manual_seed(stage.loop.seed)
            peft.inject_adapter_in_model(config, model.showo)
    except ValueError as error:
        raise InputError(f"stage {stage.name!r}: lora.targets are {list(lora.targets)}; {error}") from error


def merge_adapters(student: Showo) -> Showo:
    """Return a copy in evaluation mode, with adapters merged into the weights."""
    merged = deepcopy(student).eval()
    adapted = [(name, module) for name, module in merged.named_modules() if hasattr(module, "get_base_layer")]
    for name, module in adapted:
        module.merge()
        parent, _, child = name.rpartition(".")
        setattr(merged.get_submodule(parent), child, module.get_base_layer())
    return merged
