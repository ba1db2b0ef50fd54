"""Linear layers without gradients are those with gradients, whichever library computes them."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PhiConfig
from transformers.models.phi.modeling_phi import PhiMLP

from showo_turbo.backends import cpu_linear as products
from showo_turbo.backends.cpu_linear import GeluMLP, linear


def random_tensor(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 100),
    shape=st.lists(st.integers(0, 4), max_size=3),
    inputs=st.integers(1, 40),
    outputs=st.integers(1, 40),
    biased=st.booleans(),
    first=st.integers(0, 8),
)
def test_any_shape(seed: int, shape: list[int], inputs: int, outputs: int, biased: bool, first: int) -> None:
    """Rows of any number and order, and a slice of a larger weight, as the head on the codebook is."""
    x, weight = random_tensor(seed, *shape, inputs), random_tensor(seed + 1, outputs + first, inputs)[first:]
    bias = random_tensor(seed + 2, outputs) if biased else None
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(products, "_WEIGHTS_WORTH_IT", 0)
        torch.testing.assert_close(linear(x, weight, bias), F.linear(x, weight, bias), rtol=1e-5, atol=1e-5)


def gelu_mlp() -> GeluMLP:
    mlp = PhiMLP(PhiConfig(hidden_size=12, intermediate_size=40, hidden_act="gelu_new"))
    for seed, parameter in enumerate(mlp.parameters()):
        parameter.data = random_tensor(seed, *parameter.shape)
    mlp.__class__ = GeluMLP
    return mlp


@torch.no_grad()
def test_gelu_in_the_same_go() -> None:
    mlp, x = gelu_mlp(), random_tensor(0, 2, 5, 12)
    torch.testing.assert_close(mlp(x), PhiMLP.forward(mlp, x), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_a_layer_that_adds_to_its_product_is_not_passed_over() -> None:
    """As one wrapped in a LoRA does."""
    mlp, x = gelu_mlp(), random_tensor(0, 5, 12)
    mlp.fc1 = nn.Sequential(mlp.fc1, nn.Hardtanh())
    assert mlp(x).equal(PhiMLP.forward(mlp, x))


def test_gradients_are_those_of_the_plain_layers() -> None:
    mlp, x = gelu_mlp(), random_tensor(0, 5, 12)
    mlp(x).sum().backward()
    found = [parameter.grad for parameter in mlp.parameters()]
    mlp.zero_grad()
    PhiMLP.forward(mlp, x).sum().backward()
    assert all(map(torch.equal, found, (parameter.grad for parameter in mlp.parameters())))


def test_onednn_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "_WEIGHTS_WORTH_IT", 0)
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)
    x, weight = random_tensor(0, 3, 40), random_tensor(1, 50, 40)
    with torch.no_grad(), torch.profiler.profile() as profile:
        linear(x, weight, None)
    assert not any("mkldnn" in event.key for event in profile.key_averages())
