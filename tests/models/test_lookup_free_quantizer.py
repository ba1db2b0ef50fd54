"""Lookup-free quantization and its commitment loss."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from showo_turbo.errors import InputError
from showo_turbo.models.magvit_v2 import LookupFreeQuantizer, commitment_loss


@st.composite
def quantizers_with_codes(draw: st.DrawFn) -> tuple[LookupFreeQuantizer, torch.Tensor]:
    channels = draw(st.integers(1, 13))
    height, width = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    codes = draw(st.lists(st.integers(0, 2**channels - 1), min_size=height * width, max_size=height * width))
    return LookupFreeQuantizer(channels), torch.tensor(codes).view(1, height, width)


@given(quantizers_with_codes())
def test_codes_survive_a_round_trip_through_latents(case: tuple[LookupFreeQuantizer, torch.Tensor]):
    quantizer, codes = case
    latents = quantizer.codes_to_latents(codes)
    assert set(latents.unique().tolist()) <= {-1.0, 1.0}
    assert torch.equal(quantizer.latents_to_codes(latents), codes)
    assert torch.equal(quantizer(latents), latents)


@given(st.lists(st.floats(-3, 3, width=32), min_size=5, max_size=5))
def test_bits_of_a_code_are_the_signs_first_channel_first(values: list[float]):
    quantizer = LookupFreeQuantizer(5)
    code = quantizer.latents_to_codes(torch.tensor(values).view(1, 5, 1, 1)).item()
    assert f"{code:05b}" == "".join("1" if value > 0 else "0" for value in values)


def test_a_latent_of_zero_is_a_zero_bit():
    quantizer = LookupFreeQuantizer(2)
    latents = torch.tensor([0.0, -0.0]).view(1, 2, 1, 1)
    assert quantizer.latents_to_codes(latents).item() == 0
    assert quantizer(latents).flatten().tolist() == [-1, -1]


def test_the_gradient_passes_straight_through():
    latents = torch.tensor([0.3, -2.0, 0.0]).view(1, 3, 1, 1).requires_grad_()
    weights = torch.tensor([5.0, 6.0, 7.0]).view(1, 3, 1, 1)
    (LookupFreeQuantizer(3)(latents) * weights).sum().backward()
    assert torch.equal(latents.grad, weights)


def test_codes_may_be_narrow_integers_but_not_booleans():
    quantizer = LookupFreeQuantizer(4)
    assert quantizer.codes_to_latents(torch.full((1, 1, 1), 15, dtype=torch.int16)).flatten().tolist() == [1] * 4
    with pytest.raises(InputError, match=r"codes are torch\.bool"):
        quantizer.codes_to_latents(torch.ones(1, 1, 1, dtype=torch.bool))


def test_commitment_loss_pulls_towards_the_signs():
    latents = torch.tensor([0.5, -3.0]).view(1, 2, 1, 1).requires_grad_()
    loss = commitment_loss(latents)
    assert loss.item() == pytest.approx((0.25 + 4) / 2)
    loss.backward()
    assert latents.grad.flatten().tolist() == pytest.approx([-0.5, -2.0])
