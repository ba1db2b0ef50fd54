"""GELU by the sigmoid is the tanh form of GELU."""

import pytest
import torch
from torch.nn import functional as F

from showo_turbo.backends import linear
from showo_turbo.backends.linear import tanh_gelu_


@pytest.mark.parametrize("shape", [(0, 8), (1, 8), (7, 40), (300, 512)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_equals_torch(shape: tuple[int, int], dtype: torch.dtype) -> None:
    x = 5 * torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=dtype)
    expected = F.gelu(x, approximate="tanh")
    torch.testing.assert_close(tanh_gelu_(x), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("values", [1, 40, 90, 10**6])
def test_blocks_of_any_size(values: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "_VALUES_PER_BLOCK", values)
    x = torch.linspace(-100, 100, 280).view(7, 40)
    expected = F.gelu(x, approximate="tanh")
    torch.testing.assert_close(tanh_gelu_(x), expected, rtol=1e-5, atol=1e-6)


def test_values_that_are_not_numbers_stay_so() -> None:
    out = tanh_gelu_(torch.tensor([[float("nan"), float("inf"), 0.0]]))
    assert out[0, 0].isnan()
    assert out[0, 1].isinf()
    assert out[0, 2] == 0
