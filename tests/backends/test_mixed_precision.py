"""Modules compute in the precision of what they are given, whatever their weights are stored in."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from showo_turbo.backends import mixed_precision as upcasting
from showo_turbo.backends.mixed_precision import arithmetic_dtype, linear, upcast

HALVES = (torch.float16, torch.bfloat16)


def random_layers(dtype: torch.dtype) -> nn.Sequential:
    generator = torch.Generator().manual_seed(0)
    layers = nn.Sequential(nn.Linear(24, 56), nn.LayerNorm(56), nn.Linear(56, 5))
    for parameter in layers.parameters():
        nn.init.normal_(parameter, generator=generator)
    return layers.to(dtype)


@pytest.mark.parametrize("stored", HALVES)
def test_arithmetic_is_that_of_float32(stored: torch.dtype) -> None:
    layers, x = random_layers(stored), torch.randn(2, 3, 24, generator=torch.Generator().manual_seed(1))
    names = layers.state_dict().keys()
    upcast(layers)
    expected = random_layers(stored).float()(x)
    torch.testing.assert_close(layers(x), expected)
    assert layers.state_dict().keys() == names
    assert {weight.dtype for weight in layers.state_dict().values()} == {stored}


@pytest.mark.parametrize("dtype", [torch.float32, *HALVES])
def test_nothing_changes_where_weights_are_as_precise_as_what_they_meet(dtype: torch.dtype) -> None:
    layers, x = random_layers(dtype), torch.randn(2, 24, dtype=dtype, generator=torch.Generator().manual_seed(1))
    expected = layers(x)
    upcast(layers)
    assert layers(x).equal(expected)


@pytest.mark.parametrize("weights_per_block", [1, 24, 100, 24 * 56, 10**6])
def test_blocks_are_of_any_size(weights_per_block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upcasting, "_WEIGHTS_PER_BLOCK", weights_per_block)
    layer, x = random_layers(torch.bfloat16)[0], torch.randn(7, 24)
    expected = F.linear(x, layer.weight.float(), layer.bias.float())
    torch.testing.assert_close(linear(x, layer.weight, layer.bias), expected)


def test_gradients_reach_half_precision_weights() -> None:
    layers = random_layers(torch.bfloat16)
    upcast(layers)
    layers(torch.randn(4, 24)).sum().backward()
    assert all(weight.grad.dtype == torch.bfloat16 and weight.grad.abs().sum() > 0 for weight in layers.parameters())


def test_the_cpu_computes_in_float32_and_other_devices_in_what_they_hold() -> None:
    for dtype in (torch.float32, *HALVES):
        assert arithmetic_dtype(torch.empty(1, dtype=dtype)) == torch.float32
        assert arithmetic_dtype(torch.empty(1, dtype=dtype, device="meta")) == dtype
    assert arithmetic_dtype(torch.empty(1, dtype=torch.float64)) == torch.float64
