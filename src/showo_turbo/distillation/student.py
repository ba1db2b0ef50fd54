"""The student: the teacher's weights, or an earlier student's, that learn, all of them or by adapters."""

from copy import deepcopy

import torch

from showo_turbo.distillation.curriculum import Stage
from showo_turbo.errors import InputError
from showo_turbo.models.showo import Showo


def make_student(student: Showo, stage: Stage) -> Showo:
    """A model, in float32, made ready to learn: in training mode, with what of it is to learn set to.

    Raises:
        InputError: when adapters are asked for and peft is missing, or no layer has one of the names.
    """
    student.requires_grad_(False).showo.requires_grad_(True)  # not a projector of CLIP features, which no term reads
    student.train()
    if stage.lora.rank:
        _add_adapters(student, stage)
    if stage.gradient_checkpointing:
        student.showo.activation_checkpointing_enable({"use_reentrant": False})
    return student


def _add_adapters(student: Showo, stage: Stage) -> None:
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise InputError(f"stage {stage.name!r} asks for adapters (lora.rank), which need peft: install it") from error
    lora = stage.lora
    config = LoraConfig(r=lora.rank, lora_alpha=lora.alpha, target_modules=list(lora.targets))
    try:
        with torch.random.fork_rng([student.device] if student.device.type == "cuda" else []):
            torch.manual_seed(stage.loop.seed)
            inject_adapter_in_model(config, student.showo)
    except ValueError as error:
        raise InputError(f"stage {stage.name!r}: lora.targets are {list(lora.targets)}; {error}") from error


def without_adapters(student: Showo) -> Showo:
    """A copy whose adapters are merged into the weights they change; a plain copy if there are none."""
    merged = deepcopy(student).eval()
    adapted = [(name, module) for name, module in merged.named_modules() if hasattr(module, "get_base_layer")]
    for name, module in adapted:
        module.merge()
        parent, _, child = name.rpartition(".")
        setattr(merged.get_submodule(parent), child, module.get_base_layer())
    return merged
