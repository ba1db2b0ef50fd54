"""The full-size image tokenizer against the published code, with weights from a numpy recipe.

Tolerances are a few times the noise measured between convolution back ends and against float64 (2.1e-5 on latents,
1.3e-5 on pixels).
"""

import json
import math
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from einops import rearrange
from torch import Tensor

from showo_turbo.models.magvit_v2 import LookupFreeQuantizer, MagvitV2, commitment_loss
from showo_turbo.models.magvit_v2_config import MagvitV2Config
from showo_turbo.processing.image_files import preprocess_images
from showo_turbo.processing.images import pixels_to_images

TOLERANCE = 5e-5
HALF_PRECISION = 2e-3  # of values up to about 4, stored as float16


@pytest.fixture(scope="module")
def folder(golden: Path) -> Path:
    return golden / "magvit"


@pytest.fixture(scope="module")
def arrays(folder: Path) -> dict[str, np.ndarray]:
    with np.load(folder / "magvit.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def info(folder: Path) -> dict:
    return json.loads((folder / "info.json").read_text())


@pytest.fixture(scope="module")
def shapes(folder: Path) -> dict[str, dict]:
    return json.loads((folder / "state_dict_shapes.json").read_text())


def recipe_tensor(key: str, shape: list[int]) -> np.ndarray:
    x = np.random.default_rng(zlib.crc32(key.encode())).standard_normal(shape)
    if len(shape) == 4:
        x *= np.sqrt(2 / np.prod(shape[1:]))
    elif key.endswith(".weight") and key.split(".")[-2].startswith("norm"):
        x = 1 + 0.1 * x
    else:
        x *= 0.02
    return x.astype(np.float32)


@pytest.fixture(scope="module")
def state_dict(shapes: dict[str, dict]) -> dict[str, Tensor]:
    tensors = {
        key: torch.from_numpy(recipe_tensor(key, entry["shape"]))
        for key, entry in sorted(shapes.items())
        if not key.startswith("quantize.")
    }
    powers = 2 ** np.arange(12, -1, -1)
    bits = np.arange(8192)[:, None] // powers % 2
    tensors["quantize.embedding"] = torch.from_numpy(2 * bits - 1).float()
    tensors["quantize.power_vals"] = torch.from_numpy(powers)
    return tensors


@pytest.fixture(scope="module")
def model(state_dict: dict[str, Tensor]) -> MagvitV2:
    with torch.device("meta"):
        model = MagvitV2(MagvitV2Config())
    model.load_state_dict(state_dict, strict=True, assign=True)
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def decoded_256(model: MagvitV2, arrays: dict[str, np.ndarray]) -> Tensor:
    return model.decode_codes(torch.from_numpy(arrays["codes_256"]))


@pytest.fixture(scope="module")
def decoded_8x8(model: MagvitV2, arrays: dict[str, np.ndarray]) -> Tensor:
    return model.decode_codes(torch.from_numpy(arrays["codes_8x8"]))


@dataclass(frozen=True)
class BitEntropies:
    """Entropies in nats, averaged over bits: scalars between 0 and log 2.

    Attributes:
        per_sample: of the bits of each latent, averaged over latents; small when every latent is close to its signs.
        codebook: of the bits averaged over all latents; large when all codes are in use.
    """

    per_sample: Tensor
    codebook: Tensor

    @property
    def loss(self) -> Tensor:
        """The published entropy penalty (arXiv 2310.05737, section 3), which this project's training omits."""
        return self.per_sample - self.codebook


def bit_entropies(latents: Tensor) -> BitEntropies:
    """Compute the entropy terms of latents (batch, channels, height, width), one bit at a time.

    The probabilities of a bit are softmax(-squared distance of the latent to -1 and to +1), that is,
    sigmoid(4 * latent) for +1. The codebook is a product of bits, so the entropy of a sample is exactly the sum over
    its bits; for the codebook term that sum is an upper bound, from `channels` values rather than 2**channels.
    """
    logits = 4.0 * rearrange(latents.float(), "batch channel height width -> (batch height width) channel")
    probabilities = logits.sigmoid()
    return BitEntropies(per_sample=mean_entropy(probabilities), codebook=mean_entropy(probabilities.mean(0)))


def mean_entropy(probabilities: Tensor) -> Tensor:
    """Return the mean entropy of bits; probabilities are clamped away from 0 and 1, where the gradient is infinite."""
    probabilities = probabilities.clamp(1e-6, 1 - 1e-6)
    return (torch.special.entr(probabilities) + torch.special.entr(1 - probabilities)).mean()


def assert_close(actual: Tensor, expected: np.ndarray, tolerance: float = TOLERANCE) -> None:
    torch.testing.assert_close(actual, torch.from_numpy(expected).to(actual.dtype), rtol=0, atol=tolerance)


def test_keys_and_shapes_equal_the_published_ones(shapes: dict[str, dict]):
    with torch.device("meta"):
        state = MagvitV2(MagvitV2Config()).state_dict()
    ours = {
        key: {"shape": list(value.shape), "dtype": str(value.dtype).removeprefix("torch.")}
        for key, value in state.items()
    }
    assert ours == shapes


def test_constants_equal_the_published_ones(state_dict: dict[str, Tensor]):
    quantizer = LookupFreeQuantizer(latent_channels=13)
    assert torch.equal(quantizer.embedding, state_dict["quantize.embedding"])
    assert torch.equal(quantizer.power_vals, state_dict["quantize.power_vals"])


def test_weights_follow_the_recipe(state_dict: dict[str, Tensor], info: dict):
    for key, total in info["weight_sums"].items():
        assert state_dict[key].double().sum().item() == pytest.approx(total, rel=1e-9, abs=1e-7), key
    for key, values in info["key_check"].items():
        assert state_dict[key].flatten()[: len(values)].tolist() == pytest.approx(values, rel=1e-7), key


@pytest.mark.parametrize(
    ("file_name", "suffix"),
    [
        pytest.param("img_256x256.png", "256", id="square"),
        pytest.param("img_389x300.png", "389x300_r256", id="wide", marks=pytest.mark.slow),
    ],
)
def test_encode_256(model: MagvitV2, folder: Path, arrays: dict[str, np.ndarray], file_name: str, suffix: str):
    latents = model.encode(preprocess_images([folder / file_name], resolution=256))
    assert_close(latents, arrays[f"prequant_{suffix}"])
    codes = model.quantize.latents_to_codes(latents).flatten(1)
    assert np.array_equal(codes, arrays[f"codes_{suffix}"])


def test_quantization(model: MagvitV2, arrays: dict[str, np.ndarray]):
    latents = torch.from_numpy(arrays["prequant_256"])
    codes = torch.from_numpy(arrays["codes_256"])
    signs = torch.from_numpy(arrays["quantized_256_sign"])
    assert torch.equal(model.quantize(latents).gt(0), signs)
    assert torch.equal(model.quantize.latents_to_codes(latents).flatten(1), codes.long())
    assert torch.equal(model.quantize.codes_to_latents(codes.view(1, 16, 16)).gt(0), signs)


def test_training_terms(arrays: dict[str, np.ndarray], info: dict):
    """The published code reports them with weights of 1/8 and 1/10."""
    latents = torch.from_numpy(arrays["prequant_256"])
    assert commitment_loss(latents).item() / 8 == pytest.approx(info["quantizer_loss"], rel=1e-5)
    assert bit_entropies(latents).loss.item() / 10 == pytest.approx(info["entropy_loss"], rel=1e-4)


def test_bit_entropies_of_certain_and_uncertain_latents():
    certain_and_varied = torch.tensor([3.0, -3.0]).view(2, 1, 1, 1)
    entropies = bit_entropies(certain_and_varied)
    assert entropies.per_sample.item() == pytest.approx(0, abs=1e-3)
    assert entropies.codebook.item() == pytest.approx(math.log(2))
    assert entropies.loss.item() == pytest.approx(-math.log(2), abs=1e-3)
    uncertain = bit_entropies(torch.zeros(2, 1, 1, 1))
    assert uncertain.per_sample.item() == pytest.approx(math.log(2))
    assert uncertain.loss.item() == pytest.approx(0, abs=1e-6)


def test_bit_entropies_have_finite_gradients_at_extreme_latents():
    latents = torch.full((2, 3, 1, 1), 100.0).requires_grad_()
    bit_entropies(latents).loss.backward()
    assert latents.grad.isfinite().all()


def test_decode_256(decoded_256: Tensor, arrays: dict[str, np.ndarray], info: dict):
    assert_close(decoded_256, arrays["decode_256_f16"], HALF_PRECISION)
    assert_close(decoded_256[:, :, 128], arrays["decode_256_row128_f32"])
    assert_close(decoded_256[:, :, :, 64], arrays["decode_256_col64_f32"])
    assert decoded_256.double().sum().item() == pytest.approx(info["decode_256"]["sum"], rel=1e-5)
    assert decoded_256.double().square().sum().item() == pytest.approx(info["decode_256"]["sumsq"], rel=1e-5)


def test_decode_a_batch(decoded_8x8: Tensor, arrays: dict[str, np.ndarray], info: dict):
    assert_close(decoded_8x8, arrays["decode_8x8_f32"])
    assert decoded_8x8.std().item() == pytest.approx(info["decode_8x8"]["std"], rel=1e-4)
    assert (decoded_8x8.abs() > 1).double().mean().item() == pytest.approx(info["decode_8x8"]["frac_clipped"], abs=1e-4)


def test_decoded_images_have_the_published_levels(decoded_8x8: Tensor, arrays: dict[str, np.ndarray]):
    levels = np.stack([np.asarray(image) for image in pixels_to_images(decoded_8x8)])
    difference = np.abs(levels.astype(int) - arrays["decode_8x8_uint8_hwc"])
    assert difference.max() <= 1  # rounding may move a value to the next level
    assert (difference > 0).mean() < 1e-3


def test_decode_a_grid_that_is_not_square(model: MagvitV2, arrays: dict[str, np.ndarray]):
    codes = torch.from_numpy(arrays["codes_8x8"][:1, :48])
    assert_close(model.decode_codes(codes, height=6, width=8), arrays["decode_6x8_f32"])


@pytest.mark.slow
def test_encode_512(model: MagvitV2, folder: Path, arrays: dict[str, np.ndarray]):
    latents = model.encode(preprocess_images([folder / "img_389x300.png"], resolution=512))
    assert_close(latents, arrays["prequant_512_f16"], HALF_PRECISION)
    codes = model.quantize.latents_to_codes(latents).flatten(1)
    certain = ~torch.from_numpy(arrays["near_zero_512"]).any(1).flatten(1)
    assert torch.equal(codes[certain], torch.from_numpy(arrays["codes_512"]).long()[certain])


@pytest.mark.slow
def test_decode_512(model: MagvitV2, arrays: dict[str, np.ndarray], info: dict):
    decoded = model.decode_codes(torch.from_numpy(arrays["codes_512"]))
    assert_close(decoded[:, :, 200], arrays["decode_512_row200_f32"])
    assert_close(decoded[:, :, ::4, ::4], arrays["decode_512_stride4_f16"], HALF_PRECISION)
    assert decoded.double().sum().item() == pytest.approx(info["decode_512"]["sum"], rel=1e-5)
    assert decoded.double().square().sum().item() == pytest.approx(info["decode_512"]["sumsq"], rel=1e-5)
