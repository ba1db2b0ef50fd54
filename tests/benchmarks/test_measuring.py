"""Operations are counted whichever library computes the linear layers."""

import torch

from measuring import count_flops
from showo_turbo.backends.linear import linear


def test_linear_layers_are_counted_with_and_without_gradients() -> None:
    x, weight = torch.zeros(3, 1024), torch.zeros(1024, 1024)
    assert count_flops(lambda: linear(x, weight, None)) == 2 * 3 * 1024**2
    assert count_flops(torch.no_grad()(lambda: linear(x, weight, None))) == 2 * 3 * 1024**2
