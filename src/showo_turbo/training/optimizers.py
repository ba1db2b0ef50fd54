"""Optimizers by name, and their learning rates."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from showo_turbo.errors import InputError
from showo_turbo.training.loop_config import LoopConfig
from showo_turbo.training.muon import Muon
from showo_turbo.validation import check_number

OPTIMIZERS = ("adamw", "adamw8bit", "muon")

_MAX_RATE = 1000.0
"""Largest learning rate and weight decay."""


@dataclass(frozen=True)
class OptimizerConfig:
    """Configure an optimizer.

    Attributes:
        name: "adamw"; "adamw8bit", whose state takes a quarter of the memory (needs bitsandbytes); or "muon" for hidden
            weight matrices, with AdamW for all other parameters.
        lr: learning rate of AdamW.
        muon_lr: learning rate of Muon.
        betas: of AdamW, two.
        weight_decay: decoupled.

    Raises:
        InputError: if the name is unknown, or a number is out of its range.
    """

    name: str = "adamw"
    lr: float = 1e-5
    muon_lr: float = 2e-3
    betas: tuple[float, ...] = (0.9, 0.999)
    weight_decay: float = 0.01

    def __post_init__(self) -> None:
        if self.name not in OPTIMIZERS:
            raise InputError(f"optimizer.name is {self.name!r}: choose {', '.join(OPTIMIZERS)}")
        for name in ("lr", "muon_lr", "weight_decay"):
            check_number(f"optimizer.{name}", getattr(self, name), 0, _MAX_RATE)
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise InputError(f"optimizer.betas are {tuple(self.betas)}: choose two of at least 0 and less than 1")


def build_optimizers(model: nn.Module, config: OptimizerConfig) -> list[Optimizer]:
    """Build the optimizers of all trainable parameters of a model.

    Raises:
        InputError: if "adamw8bit" is configured and bitsandbytes is not installed.
    """
    trainable = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    beta1, beta2 = config.betas
    if config.name == "adamw8bit":
        try:
            from bitsandbytes.optim import AdamW8bit
        except ImportError as error:
            raise InputError(
                "optimizer.name is 'adamw8bit', which needs bitsandbytes: pip install bitsandbytes, or choose adamw"
            ) from error
        return [AdamW8bit(trainable.values(), lr=config.lr, betas=(beta1, beta2), weight_decay=config.weight_decay)]
    hidden = {name: p for name, p in trainable.items() if config.name == "muon" and p.ndim == 2 and ".layers." in name}
    others = [parameter for name, parameter in trainable.items() if name not in hidden]
    optimizers: list[Optimizer] = []
    if hidden:
        optimizers.append(Muon(hidden.values(), lr=config.muon_lr, weight_decay=config.weight_decay))
    if others:  # LoRA adapters are all hidden matrices
        optimizers.append(
            torch.optim.AdamW(others, lr=config.lr, betas=(beta1, beta2), weight_decay=config.weight_decay)
        )
    return optimizers


def learning_rate_schedule(optimizer: Optimizer, config: LoopConfig) -> LRScheduler:
    """Return the schedule of an optimizer: linear warmup, constant, and a linear decay at the end if it has one."""
    decay_steps = round(config.steps * config.decay_share)

    def scale(step: int) -> float:
        rise = step / config.warmup_steps if step < config.warmup_steps else 1.0
        fall = (config.steps - step) / decay_steps if decay_steps else 1.0
        return max(0.0, min(rise, fall))

    return LambdaLR(optimizer, scale)
