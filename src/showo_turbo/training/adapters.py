"""LoRA adapters (arXiv 2106.09685), trained in place of all weights: added, merged and saved by PEFT."""

from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from safetensors.torch import save_file

from showo_turbo.checkpoints.adapter_base import write_base
from showo_turbo.checkpoints.names import ADAPTER_FILES
from showo_turbo.errors import InputError
from showo_turbo.extras import require_module
from showo_turbo.files import atomic_folder
from showo_turbo.models.showo import Showo
from showo_turbo.validation import check_integer, check_number

_MAX_RANK = 1 << 14
_MAX_ALPHA = 1e6


@dataclass(frozen=True)
class LoraConfig:
    """Configure low-rank adapters, trained in place of all weights.

    Attributes:
        rank: of the adapters; 0 trains all weights.
        alpha: scale of the adapters times the rank.
        targets: names of the layers that get an adapter.
    """

    rank: int = 0
    alpha: float = 16.0
    targets: list[str] = field(default_factory=lambda: ["q_proj", "k_proj", "v_proj", "dense", "fc1", "fc2"])

    def __post_init__(self) -> None:
        check_integer("lora.rank", self.rank, 0, _MAX_RANK)
        check_number("lora.alpha", self.alpha, 0, _MAX_ALPHA)


def require_peft() -> ModuleType:
    """Import peft, which adapters need.

    Raises:
        InputError: if it is not installed.
    """
    return require_module("peft", "a training of adapters (lora.rank)")


def prepare_model(model: Showo, lora: LoraConfig, gradient_checkpointing: bool, seed: int) -> Showo:
    """Prepare a float32 model for training: training mode, trainable parameters, adapters, gradient checkpointing.

    Args:
        model: changed in place and returned.
        lora: the adapters, if its rank is not 0.
        gradient_checkpointing: trade time for memory.
        seed: of the initial weights of adapters.

    Raises:
        InputError: if adapters are configured and peft is not installed, or no layer has one of their names.
    """
    # The projector of CLIP features stays frozen: it is used by dialogues about features only, see `finetuning`.
    model.requires_grad_(False).showo.requires_grad_(True)
    model.train()
    if lora.rank:
        _add_adapters(model, lora, seed)
    if gradient_checkpointing:
        model.showo.model.gradient_checkpointing = True
    return model


def _add_adapters(model: Showo, lora: LoraConfig, seed: int) -> None:
    config = _peft_config(lora)
    try:
        with torch.random.fork_rng([model.device] if model.device.type == "cuda" else []):
            torch.manual_seed(seed)
            require_peft().inject_adapter_in_model(config, model.showo)
    except ValueError as error:
        raise InputError(f"lora.targets are {list(lora.targets)}; {error}") from error


def merge_adapters(model: Showo) -> Showo:
    """Return a copy in evaluation mode, with adapters merged into the weights."""
    merged = deepcopy(model).eval()
    adapted = [(name, module) for name, module in merged.named_modules() if hasattr(module, "get_base_layer")]
    for name, module in adapted:
        module.merge()
        parent, _, child = name.rpartition(".")
        setattr(merged.get_submodule(parent), child, module.get_base_layer())
    return merged


def save_adapter(folder: Path, model: Showo, lora: LoraConfig, base: str) -> None:
    """Write the adapters of a model as PEFT does, so that `from_pretrained(folder)` loads base and adapters.

    Args:
        folder: written atomically.
        model: the model with adapters.
        lora: their configuration.
        base: name of the model that they adapt, stored in the folder.
    """
    peft = require_peft()
    tensors = {
        f"base_model.model.{name}": tensor.detach().cpu().contiguous()
        for name, tensor in peft.get_peft_model_state_dict(model.showo, save_embedding_layers=False).items()
    }
    config = _peft_config(lora)
    config.base_model_name_or_path = base
    adapted = {name: module for name, module in model.named_modules() if hasattr(module, "get_base_layer")}
    with atomic_folder(folder, replace=True) as written:
        save_file(tensors, written / ADAPTER_FILES[0], {"format": "pt"})
        config.save_pretrained(str(written))
        weights = {f"{name}.weight": one.get_base_layer().weight for name, one in adapted.items()}
        write_base(written, base, weights, model.config.edits_images)


def _peft_config(lora: LoraConfig) -> Any:
    return require_peft().LoraConfig(r=lora.rank, lora_alpha=lora.alpha, target_modules=list(lora.targets))
