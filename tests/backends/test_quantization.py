"""Weights of one byte each, rounded to the scale of their row; float8 rounds activations in the same way."""

from importlib import util
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from showo_turbo import ShowoPipeline
from showo_turbo.backends import linear
from showo_turbo.backends.quantization import Float8Linear, Int8Linear, QuantizedLinear, plain_tensors
from showo_turbo.device import check_float8
from showo_turbo.errors import InputError

needs_torchao = pytest.mark.skipif(util.find_spec("torchao") is None, reason="needs the `quantization` extra")


def random_matrix(rows: int, columns: int, seed: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)).to(dtype)


def quantized_layer(kind: type[QuantizedLinear], weight: torch.Tensor) -> QuantizedLinear:
    layer = kind(torch.nn.Linear(weight.shape[1], weight.shape[0])).to(weight.dtype).requires_grad_(False)
    layer.weight = torch.nn.Parameter(kind.quantize(weight), requires_grad=False)
    return layer


def rounded_to_float8(x: torch.Tensor) -> torch.Tensor:
    """Return rows (count, width) rounded to e4m3, which ends at 448, after scaling by their largest magnitude."""
    scales = x.abs().amax(1, keepdim=True) / 448
    return (x / scales).to(torch.float8_e4m3fn).to(x.dtype) * scales


@pytest.fixture(scope="module")
def quantized(random_checkpoint: Path) -> ShowoPipeline:
    return ShowoPipeline.from_pretrained(random_checkpoint, device="cpu", quantization="int8")


@needs_torchao
@settings(deadline=None)  # the first example imports torchao
@given(rows=st.integers(1, 40), columns=st.integers(2, 40), seed=st.integers(0, 99))
def test_rounding_errors_of_int8_are_at_most_half_a_step(rows: int, columns: int, seed: int) -> None:
    weight = random_matrix(rows, columns, seed)
    stored = Int8Linear.quantize(weight)
    step = weight.abs().amax(1, keepdim=True) / 127.5
    assert ((stored.dequantize() - weight).abs() <= step * 0.5001).all()
    assert sum(part.nbytes for part in plain_tensors(stored)) <= rows * columns + 5 * rows


@needs_torchao
@settings(deadline=None)  # the first example imports torchao
@given(rows=st.integers(1, 40), columns=st.integers(2, 40), seed=st.integers(0, 99))
def test_float8_rounds_to_the_nearest_value_of_its_scale(rows: int, columns: int, seed: int) -> None:
    weight = random_matrix(rows, columns, seed)
    stored = Float8Linear.quantize(weight)
    torch.testing.assert_close(stored.dequantize(), rounded_to_float8(weight), rtol=1e-6, atol=1e-8)
    assert sum(part.nbytes for part in plain_tensors(stored)) <= rows * columns + 5 * rows


@needs_torchao
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_float8_layer_rounds_its_input(dtype: torch.dtype) -> None:
    layer, x = quantized_layer(Float8Linear, random_matrix(56, 24, 0, dtype)), random_matrix(14, 24, 1)
    expected = F.linear(rounded_to_float8(x), layer.weight.dequantize(torch.float32), layer.bias.float())
    torch.testing.assert_close(layer(x.unflatten(0, (2, 7))), expected.unflatten(0, (2, 7)))
    assert not torch.allclose(expected, F.linear(x, layer.weight.dequantize(torch.float32), layer.bias.float()))


@needs_torchao
@pytest.mark.parametrize("weights_per_block", [1, 24, 100, 10**6])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_int8_layer_computes_with_the_quantized_weights(
    weights_per_block: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linear, "_WEIGHTS_PER_BLOCK", weights_per_block)
    layer, x = (
        quantized_layer(Int8Linear, random_matrix(56, 24, 0, dtype)),
        random_matrix(14, 24, 1).unflatten(0, (2, 7)),
    )
    weight = layer.weight.dequantize(torch.float32)
    torch.testing.assert_close(layer(x), F.linear(x, weight, layer.bias.float()))


@needs_torchao
@pytest.mark.parametrize(("quantization", "stored_dtype"), [("int8", torch.int8), ("float8", torch.float8_e4m3fn)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_only_the_layers_are_quantized(
    random_checkpoint: Path, dtype: str, quantization: str, stored_dtype: torch.dtype
) -> None:
    pipe = ShowoPipeline.from_pretrained(random_checkpoint, device="cpu", dtype=dtype, quantization=quantization)
    plain = ShowoPipeline.from_pretrained(random_checkpoint, device="cpu", dtype=dtype)
    assert (pipe.model.quantization, plain.model.quantization) == (quantization, None)
    for (name, stored), original in zip(pipe.model.named_parameters(), plain.model.parameters(), strict=True):
        numbers = plain_tensors(stored)[0]
        if ".layers." in name and original.ndim == 2:
            assert numbers.dtype == stored_dtype
        else:
            assert numbers.equal(original)


@needs_torchao
@pytest.mark.parametrize("guidance_scale", [0.0, 1.5])
def test_results_in_int8_equal_those_of_the_dequantized_weights(
    quantized: ShowoPipeline, random_checkpoint: Path, guidance_scale: float
) -> None:
    restored = ShowoPipeline.from_pretrained(random_checkpoint, device="cpu")
    for stored, weight in zip(quantized.model.parameters(), restored.model.parameters(), strict=True):
        weight.data = stored.dequantize() if stored.dtype != plain_tensors(stored)[0].dtype else stored.data
    options = {"guidance_scale": guidance_scale, "seed": 0, "output_type": "latent", "num_images_per_prompt": 3}
    codes = [pipe.text_to_image(["a red car", "a dog"], **options).codes for pipe in (quantized, restored)]
    assert codes[0].equal(codes[1])
    answers = [pipe.image_to_text(codes=codes[0], prompt="What?", seed=0) for pipe in (quantized, restored)]
    assert answers[0].token_ids == answers[1].token_ids


@needs_torchao
def test_saving_a_quantized_model_is_an_error(quantized: ShowoPipeline, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="quantized to int8: load it without quantization"):
        quantized.save_pretrained(tmp_path / "saved")
    assert not list(tmp_path.iterdir())


def test_a_missing_library_is_reported_before_any_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("showo_turbo.validation.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"'int8' needs torchao: pip install -e '\.\[quantization\]' in a clone"):
        ShowoPipeline.from_pretrained(tmp_path / "nothing", quantization="int8")


def test_an_unknown_quantization_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="quantization 'int3' is unknown: choose int8, float8"):
        ShowoPipeline.from_pretrained(tmp_path / "nothing", quantization="int3")


def test_a_gpu_without_float8_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    with pytest.raises(InputError, match=r"compute capability 8\.9 or later, and cuda:1 has 8\.0: choose int8"):
        check_float8(torch.device("cuda:1"))
    check_float8(torch.device("cpu"))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    check_float8(torch.device("cuda:1"))
