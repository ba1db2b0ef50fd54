"""Muon makes orthogonal updates and fits a map; every trainable parameter has one optimizer."""

import pytest
import torch

from showo_turbo.errors import InputError
from showo_turbo.training.muon import Muon, orthogonalize
from showo_turbo.training.optimizers import OptimizerConfig, build_optimizers


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


def test_unknown_and_uninstalled_optimizers_are_refused(make_random_model) -> None:
    with pytest.raises(InputError, match="adamw8bit, muon"):
        OptimizerConfig("adam")
    with pytest.raises(InputError, match="bitsandbytes"):
        build_optimizers(make_random_model(0), OptimizerConfig("adamw8bit"))
