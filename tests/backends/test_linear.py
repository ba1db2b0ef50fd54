"""Linear layers compute in the precision of their input, with the same result whichever library runs them."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PhiConfig
from transformers.models.phi.modeling_phi import PhiMLP

from showo_turbo.backends import linear as linear_module
from showo_turbo.backends.linear import GeluMLP, arithmetic_dtype, linear, replace_submodules, upcast

HALVES = (torch.float16, torch.bfloat16)


def random_tensor(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def random_layers(dtype: torch.dtype) -> nn.Sequential:
    generator = torch.Generator().manual_seed(0)
    layers = nn.Sequential(nn.Linear(24, 56), nn.LayerNorm(56), nn.Linear(56, 5))
    for parameter in layers.parameters():
        nn.init.normal_(parameter, generator=generator)
    return layers.to(dtype)


def gelu_mlp() -> GeluMLP:
    mlp = PhiMLP(PhiConfig(hidden_size=12, intermediate_size=40, hidden_act="gelu_new"))
    for seed, parameter in enumerate(mlp.parameters()):
        parameter.data = random_tensor(seed, *parameter.shape)
    return GeluMLP(mlp)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 100),
    shape=st.lists(st.integers(0, 4), max_size=3),
    inputs=st.integers(1, 40),
    outputs=st.integers(1, 40),
    biased=st.booleans(),
    first=st.integers(0, 8),
)
def test_onednn_computes_any_shape(
    seed: int, shape: list[int], inputs: int, outputs: int, biased: bool, first: int
) -> None:
    """Any number and order of rows, and a slice of a larger weight, as for the head on the codebook."""
    x, weight = random_tensor(seed, *shape, inputs), random_tensor(seed + 1, outputs + first, inputs)[first:]
    bias = random_tensor(seed + 2, outputs) if biased else None
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(linear_module, "_MIN_LARGE_WEIGHTS", 0)
        torch.testing.assert_close(linear(x, weight, bias), F.linear(x, weight, bias), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_fused_gelu_equals_the_plain_layers() -> None:
    mlp, x = gelu_mlp(), random_tensor(0, 2, 5, 12)
    torch.testing.assert_close(mlp(x), PhiMLP.forward(mlp, x), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_a_wrapped_first_layer_is_called() -> None:
    """As a LoRA wraps it."""
    mlp, x = gelu_mlp(), random_tensor(0, 5, 12)
    mlp.fc1 = nn.Sequential(mlp.fc1, nn.Hardtanh())
    assert mlp(x).equal(PhiMLP.forward(mlp, x))


def test_gradients_equal_those_of_the_plain_layers() -> None:
    mlp, x = gelu_mlp(), random_tensor(0, 5, 12)
    mlp(x).sum().backward()
    found = [parameter.grad for parameter in mlp.parameters()]
    mlp.zero_grad()
    PhiMLP.forward(mlp, x).sum().backward()
    assert all(map(torch.equal, found, (parameter.grad for parameter in mlp.parameters())))


def test_onednn_can_be_disabled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear_module, "_MIN_LARGE_WEIGHTS", 0)
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)
    x, weight = random_tensor(0, 3, 40), random_tensor(1, 50, 40)
    with torch.no_grad(), torch.profiler.profile() as profile:
        linear(x, weight, None)
    assert not any("mkldnn" in event.key for event in profile.key_averages())


@pytest.mark.parametrize("stored", HALVES)
def test_half_precision_weights_compute_in_float32(stored: torch.dtype) -> None:
    layers, x = random_layers(stored), torch.randn(2, 3, 24, generator=torch.Generator().manual_seed(1))
    names = layers.state_dict().keys()
    upcast(layers)
    expected = random_layers(stored).float()(x)
    torch.testing.assert_close(layers(x), expected)
    assert layers.state_dict().keys() == names
    assert {weight.dtype for weight in layers.state_dict().values()} == {stored}


@pytest.mark.parametrize("dtype", [torch.float32, *HALVES])
def test_nothing_changes_where_weights_are_as_precise_as_their_input(dtype: torch.dtype) -> None:
    layers, x = random_layers(dtype), torch.randn(2, 24, dtype=dtype, generator=torch.Generator().manual_seed(1))
    expected = layers(x)
    upcast(layers)
    assert layers(x).equal(expected)


@pytest.mark.parametrize("weights_per_block", [1, 24, 100, 24 * 56, 10**6])
def test_blocks_of_any_size(weights_per_block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear_module, "_WEIGHTS_PER_BLOCK", weights_per_block)
    layer, x = random_layers(torch.bfloat16)[0], torch.randn(7, 24)
    expected = F.linear(x, layer.weight.float(), layer.bias.float())
    torch.testing.assert_close(linear(x, layer.weight, layer.bias), expected)


def test_gradients_reach_half_precision_weights() -> None:
    layers = random_layers(torch.bfloat16)
    upcast(layers)
    layers(torch.randn(4, 24)).sum().backward()
    assert all(weight.grad.dtype == torch.bfloat16 and weight.grad.abs().sum() > 0 for weight in layers.parameters())


def test_the_cpu_computes_in_float32_and_other_devices_in_the_dtype_of_the_weights() -> None:
    for dtype in (torch.float32, *HALVES):
        assert arithmetic_dtype(torch.empty(1, dtype=dtype)) == torch.float32
        assert arithmetic_dtype(torch.empty(1, dtype=dtype, device="meta")) == dtype
    assert arithmetic_dtype(torch.empty(1, dtype=torch.float64)) == torch.float64


def test_replaced_modules_share_parameters_and_draw_no_random_numbers() -> None:
    layers = random_layers(torch.float32).eval()
    parameters, state = dict(layers.named_parameters()), torch.get_rng_state()
    upcast(layers)
    assert torch.get_rng_state().equal(state)
    assert all(parameter is parameters[name] for name, parameter in layers.named_parameters())
    assert not any(module.training for module in layers.modules())
    assert isinstance(layers[0], nn.Linear)
    copied = copy.deepcopy(layers)
    assert [type(layer) for layer in copied] == [type(layer) for layer in layers]


def test_only_the_exact_type_is_replaced_at_any_depth() -> None:
    class OtherLinear(nn.Linear):
        pass

    layers = nn.Sequential(nn.Sequential(nn.Linear(2, 2)), OtherLinear(2, 2))
    replace_submodules(layers, {nn.Linear: lambda layer: nn.Identity()})
    assert isinstance(layers[0][0], nn.Identity)
    assert type(layers[1]) is OtherLinear
