"""Muon makes orthogonal updates and fits a map; every trainable parameter has one optimizer."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler
from transformers import get_constant_schedule_with_warmup, get_wsd_schedule

from showo_turbo.errors import InputError
from showo_turbo.training.checkpoint_io import CheckpointIO, stored_tensors
from showo_turbo.training.loop_config import LoopConfig
from showo_turbo.training.muon import Muon, orthogonalize
from showo_turbo.training.optimizers import OptimizerConfig, build_optimizers, learning_rate_schedule
from showo_turbo.training.run_state import RunState
from showo_turbo.training.state import read_values


def test_muon_updates_are_close_to_orthogonal() -> None:
    matrices = torch.randn(3, 16, 48, generator=torch.Generator().manual_seed(0))
    for batch in (matrices, matrices.mT):
        singular = torch.linalg.svdvals(orthogonalize(batch))
        assert singular.min() > 0.5
        assert singular.max() < 1.3


def test_muon_fits_a_linear_map() -> None:
    torch.manual_seed(0)
    target, weight = torch.randn(8, 12), torch.nn.Parameter(torch.zeros(8, 12))
    optimizer = Muon([weight], lr=0.05)
    for _ in range(150):
        optimizer.zero_grad()
        (weight - target).square().mean().backward()
        optimizer.step()
    assert (weight - target).abs().mean() < 0.1


def test_muon_runs_a_closure_before_its_update() -> None:
    weight = torch.nn.Parameter(torch.ones(2, 3))

    def closure() -> float:
        loss = weight.square().sum()
        loss.backward()
        return loss.item()

    assert Muon([weight]).step(closure) == 6.0
    assert (weight < 1).all()


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_every_trainable_parameter_has_one_optimizer(make_random_model, name: str) -> None:
    model = make_random_model(0)
    model.showo.lm_head.requires_grad_(False)
    groups = [group for optimizer in build_optimizers(model, OptimizerConfig(name)) for group in optimizer.param_groups]
    given = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(given) == sorted(id(p) for p in model.parameters() if p.requires_grad)


def test_unknown_and_uninstalled_optimizers_are_refused(make_random_model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", None)
    with pytest.raises(InputError, match="adamw8bit, muon"):
        OptimizerConfig("adam")
    with pytest.raises(InputError, match="bitsandbytes"):
        build_optimizers(make_random_model(0), OptimizerConfig("adamw8bit"))


def train_with_8_bits(model: nn.Module, state: RunState, first: int, end: int) -> list[float]:
    losses = []
    for step in range(first, end):
        inputs = torch.randn(32, 64, generator=torch.Generator().manual_seed(step))
        loss = (model(inputs) - inputs[:, :1]).square().mean()
        loss.backward()
        losses.append(loss.item())
        state.optimizers[0].step()
        state.optimizers[0].zero_grad()
    return losses


def test_an_8_bit_optimizer_learns_and_resumes(tmp_path: Path) -> None:
    """Its large moments are stored in 8 bits, in memory and in a checkpoint."""
    pytest.importorskip("bitsandbytes")
    runs = []
    for _ in range(2):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(64, 128), nn.GELU(), nn.Linear(128, 1))
        optimizers = build_optimizers(model, OptimizerConfig("adamw8bit", lr=1e-2))
        runs.append((model, RunState(model, None, optimizers, [])))
    (model, state), (resumed, resumed_state) = runs
    losses = train_with_8_bits(model, state, 0, 20)
    assert losses[-1] < losses[0] / 4
    checkpoints = CheckpointIO(tmp_path, 1.0)
    checkpoints.start(1, state.tensors(), {}, {"run": state.values()})
    assert checkpoints.wait() == ""
    path = tmp_path / "step-00000001"
    stored = stored_tensors(path)
    assert stored["optimizer.0.weight.state1"].properties.dtype == torch.uint8
    checkpoints.read(path, resumed_state.allocate(stored))
    resumed_state.load_values(read_values(path)["run"])
    checkpoints.close()
    assert train_with_8_bits(resumed, resumed_state, 20, 25) == train_with_8_bits(model, state, 20, 25)


@pytest.mark.parametrize(
    ("steps", "warmup_steps", "decay_share"), [(100, 10, 0.4), (20, 0, 0.95), (20, 5, 0.0), (3, 1, 0.5)]
)
def test_learning_rates_are_those_of_transformers(steps: int, warmup_steps: int, decay_share: float) -> None:
    config = LoopConfig(steps=steps, warmup_steps=warmup_steps, decay_share=decay_share)
    decay_steps = round(steps * decay_share)

    def rates(build: Callable[[torch.optim.Optimizer], LRScheduler]) -> list[float]:
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        schedule, found = build(optimizer), []
        for _ in range(steps + 2):  # a run that is extended asks beyond its last step
            found.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.step()
        return found

    def expected(optimizer: torch.optim.Optimizer) -> LRScheduler:
        if decay_steps == 0:
            return get_constant_schedule_with_warmup(optimizer, warmup_steps)
        return get_wsd_schedule(optimizer, warmup_steps, decay_steps, num_training_steps=steps, decay_type="linear")

    assert rates(lambda optimizer: learning_rate_schedule(optimizer, config)) == pytest.approx(rates(expected))
