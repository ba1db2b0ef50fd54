"""The tensors and values of a run have names, and are restored in place into a run that has just begun."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from showo_turbo.training.muon import Muon
from showo_turbo.training.run_state import RunState, join, names_of_tensors, separate


def adamw(model: nn.Module) -> list[Optimizer]:
    return [torch.optim.AdamW(model.parameters(), lr=0.1)]


def adamw_with_a_tensor(model: nn.Module) -> list[Optimizer]:
    return [torch.optim.AdamW(model.parameters(), lr=torch.tensor(0.1))]


def muon_and_adamw(model: nn.Module) -> list[Optimizer]:
    weights = [parameter for parameter in model.parameters() if parameter.ndim == 2]
    others = [parameter for parameter in model.parameters() if parameter.ndim != 2]
    return [Muon(weights, lr=0.1), torch.optim.AdamW(others, lr=0.1)]


def sgd(model: nn.Module) -> list[Optimizer]:
    return [torch.optim.SGD(model.parameters(), lr=0.1)]


Build = Callable[[nn.Module], list[Optimizer]]


def begin(build: Build) -> RunState:
    """Begin a run of a model, of which one layer has no gradient."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.BatchNorm1d(3))
    optimizers = build(model)
    schedules = [LambdaLR(optimizer, lambda step: 1 / (1 + step)) for optimizer in optimizers]
    return RunState(model, None, optimizers, schedules)


def take_steps(state: RunState, first: int, end: int) -> None:
    for step in range(first, end):
        layer, _, norm = state.model
        norm(layer(torch.randn(4, 3, generator=torch.Generator().manual_seed(step)))).square().sum().backward()
        for optimizer, schedule in zip(state.optimizers, state.schedules, strict=True):
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()


@pytest.mark.parametrize("build", [adamw, adamw_with_a_tensor, muon_and_adamw, sgd])
def test_a_restored_run_continues_bit_for_bit(build: Build) -> None:
    whole, part, restored = begin(build), begin(build), begin(build)
    take_steps(whole, 0, 5)
    take_steps(part, 0, 3)
    stored = {name: tensor.clone() for name, tensor in part.tensors().items()}
    values = json.loads(json.dumps(part.values()))
    tensors = restored.allocate(stored)
    assert tensors.keys() == stored.keys()
    for name, tensor in tensors.items():
        tensor.detach().copy_(stored[name])
    restored.load_values(values)
    take_steps(restored, 3, 5)
    expected = whole.tensors()
    assert restored.tensors().keys() == expected.keys()
    assert all(tensor.equal(expected[name]) for name, tensor in restored.tensors().items())


def test_parameters_without_a_gradient_have_no_state() -> None:
    state = begin(adamw)
    take_steps(state, 0, 1)
    names = {name for name in state.tensors() if name.startswith("optimizer.")}
    assert {name.rsplit(".", 1)[0] for name in names} == {
        f"optimizer.{layer}.{kind}" for layer in (0, 2) for kind in ("weight", "bias")
    }


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"a": 1, "b": [True, None, "c", 0.1], "d": {"e": float("inf")}},
        {"a": torch.arange(3), "b": [[1, 2], torch.zeros(2, 0)], "c": {"d": torch.tensor(5.0)}},
    ],
)
def test_tensors_are_separated_from_values_and_joined(value: Any) -> None:
    tensors: dict[str, torch.Tensor] = {}
    separated = separate(value, "tasks.0", tensors)
    assert sorted(names_of_tensors(separated)) == sorted(tensors)
    joined = join(json.loads(json.dumps(separated)), tensors)
    assert repr(joined) == repr(value)
