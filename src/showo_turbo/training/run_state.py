"""The state of a training as named tensors and JSON values, which is what a checkpoint holds.

model.NAME              weights and buffers
ema.NAME                their EMA
optimizer.NAME.MOMENT   the optimizer's state of a parameter
tasks.N...              tensors in the state of a task in process N; its JSON has {"tensor": name} in their place
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

_TENSOR = "tensor"
_IMPLEMENTATION = ("foreach", "fused")
"""Options of torch's optimizers that choose an implementation, which depends on the device."""


class RunState:
    """Hold what the steps of a training change: weights, their EMA, optimizers and learning rates."""

    def __init__(
        self,
        model: nn.Module,
        average: nn.Module | None,
        optimizers: Sequence[Optimizer],
        schedules: Sequence[LRScheduler],
    ) -> None:
        """Set the objects, whose tensors may be sharded."""
        self.model, self.average, self.optimizers, self.schedules = model, average, optimizers, schedules

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors themselves, not copies, by name."""
        tensors = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        if self.average is not None:
            tensors |= {f"ema.{name}": tensor for name, tensor in self.average.state_dict().items()}
        for name, state in self._optimizer_states():
            tensors |= _tensors_of(name, state)
        return tensors

    def values(self) -> dict[str, Any]:
        """Return everything else, as JSON values."""
        return {
            "groups": [_numbers(optimizer.param_groups) for optimizer in self.optimizers],
            "optimizer_values": {
                name: {key: value for key, value in state.items() if not isinstance(value, Tensor)}
                for name, state in self._optimizer_states()
            },
            "schedules": [_numbers(schedule.state_dict()) for schedule in self.schedules],
        }

    def allocate(self, stored: Collection[str]) -> dict[str, Tensor]:
        """Return the tensors, and those that the optimizers will have, for a checkpoint to be read into.

        Args:
            stored: names of the checkpoint's tensors; optimizers have no state of parameters without a gradient.
        """
        for optimizer in self.optimizers:
            _allocate_state(optimizer)
        for name, state in self._optimizer_states():
            if not _tensors_of(name, state).keys() & set(stored):
                state.clear()
        return self.tensors()

    def load_values(self, values: Mapping[str, Any]) -> None:
        """Restore the result of `values`, after the tensors."""
        for optimizer, groups in zip(self.optimizers, values["groups"], strict=True):
            for group, saved in zip(optimizer.param_groups, groups, strict=True):
                state = {key: value for key, value in saved.items() if key not in _IMPLEMENTATION}
                group.update(_tensors_like(group, state))
        for name, state in self._optimizer_states():
            state.update(values["optimizer_values"].get(name, {}))
        for schedule, saved in zip(self.schedules, values["schedules"], strict=True):
            schedule.load_state_dict(_tensors_like(schedule.state_dict(), saved))

    def _optimizer_states(self) -> list[tuple[str, dict[str, Any]]]:
        """Return the state of each parameter that has one, by the parameter's name."""
        return [
            (name, optimizer.state[parameter])
            for name, parameter in self.model.named_parameters()
            for optimizer in self.optimizers
            if parameter in optimizer.state
        ]


def _tensors_of(name: str, state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the tensors of an optimizer's state of a parameter; a quantized one is stored as several."""
    tensors: dict[str, Tensor] = {}
    for key, value in state.items():
        stored = f"optimizer.{name}.{key}"
        if isinstance(value, Tensor) and not isinstance(value, DTensor) and is_traceable_wrapper_subclass(value):
            tensors |= {f"{stored}.{inner}": getattr(value, inner) for inner in value.__tensor_flatten__()[0]}
        elif isinstance(value, Tensor):
            tensors[stored] = value
    return tensors


def _numbers(value: Any) -> Any:
    """Return JSON values with numbers in place of tensors; some optimizers have their learning rate as a tensor."""
    if isinstance(value, Tensor):
        return value.item()
    if isinstance(value, dict):
        return {key: _numbers(one) for key, one in value.items() if key != "params"}
    return [_numbers(one) for one in value] if isinstance(value, list | tuple) else value


def _tensors_like(current: Any, saved: Any) -> Any:
    """Return a result of `_numbers` with tensors where the current value has them."""
    if isinstance(current, Tensor):
        return current.new_tensor(saved)
    if isinstance(current, dict) and isinstance(saved, dict):
        return {key: _tensors_like(current.get(key), value) for key, value in saved.items()}
    if isinstance(current, list) and isinstance(saved, list) and len(current) == len(saved):
        return [_tensors_like(*pair) for pair in zip(current, saved, strict=True)]
    return saved


def _allocate_state(optimizer: Optimizer) -> None:
    """Take a step of length zero, in which an optimizer allocates its state."""
    for group in optimizer.param_groups:
        group["lr"] = torch.zeros_like(group["lr"]) if isinstance(group["lr"], Tensor) else 0.0
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    optimizer.zero_grad()


def separate(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """Return JSON values with {"tensor": name} in place of tensors, which are added to `tensors`.

    Args:
        value: numbers, strings, None and tensors, in lists, tuples, and dicts with strings as keys.
        name: prefix of the names.
        tensors: grows.
    """
    if isinstance(value, Tensor):
        tensors[name] = value
        return {_TENSOR: name}
    if isinstance(value, dict):
        return {key: separate(one, f"{name}.{key}", tensors) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [separate(one, f"{name}.{number}", tensors) for number, one in enumerate(value)]
    return value


def names_of_tensors(value: Any) -> list[str]:
    """Return the names of the tensors in a result of `separate`."""
    if isinstance(value, dict):
        if value.keys() == {_TENSOR}:
            return [value[_TENSOR]]
        value = list(value.values())
    return [name for one in value for name in names_of_tensors(one)] if isinstance(value, list) else []


def join(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Return what `separate` was given, with lists in place of tuples."""
    if isinstance(value, dict):
        if value.keys() == {_TENSOR}:
            return tensors[value[_TENSOR]]
        return {key: join(one, tensors) for key, one in value.items()}
    return [join(one, tensors) for one in value] if isinstance(value, list) else value
