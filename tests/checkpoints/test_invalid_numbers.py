"""Numbers of weights and configs are checked before a model of them is built, and each is named in one line."""

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from showo_turbo.checkpoints.loading import load_components, load_showo, locate
from showo_turbo.checkpoints.weight_files import describe
from showo_turbo.checkpoints.weights import average_weights, open_weights
from showo_turbo.configuration import ShowoConfig
from showo_turbo.errors import InputError
from showo_turbo.models.magvit_v2_config import MagvitV2Config
from showo_turbo.pipelines.pipeline import ShowoPipeline

BIAS = "showo.lm_head.bias"


@pytest.fixture
def copy(random_checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(random_checkpoint, tmp_path / "model"))


def change(file: Path, **values: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def change_weight(file: Path, name: str, convert: Callable[[torch.Tensor], torch.Tensor]) -> None:
    state = load_file(file)
    save_file(state | {name: convert(state[name]).contiguous()}, file)


def with_last(value: float) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda tensor: torch.cat([tensor[:-1], torch.full_like(tensor[-1:], value)])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("file", ["model.safetensors", "magvitv2/model.safetensors"])
def test_weights_that_are_nan_or_infinite_are_refused(copy: Path, file: str, value: float) -> None:
    name = BIAS if file == "model.safetensors" else "decoder.conv_out.bias"
    change_weight(copy / file, name, with_last(value))
    with pytest.raises(
        InputError, match=rf"model\.safetensors' has values of {name} that are NaN or infinite in float32"
    ):
        load_components(locate(copy))


def test_weights_beyond_the_dtype_are_refused(copy: Path) -> None:
    change_weight(copy / "model.safetensors", BIAS, with_last(1e30))
    assert load_showo(locate(copy), torch.bfloat16).dtype == torch.bfloat16
    with pytest.raises(InputError, match=rf"{BIAS} that are NaN or infinite in float16: load it in another dtype"):
        load_showo(locate(copy), torch.float16)


@pytest.mark.parametrize("dtype", [torch.bool, torch.int8, torch.int64, torch.complex64, torch.float8_e4m3fn])
def test_weights_of_another_kind_are_refused(copy: Path, dtype: torch.dtype) -> None:
    change_weight(copy / "model.safetensors", BIAS, lambda tensor: tensor.to(dtype))
    kind = str(dtype).removeprefix("torch.")
    with pytest.raises(InputError, match=rf"has {kind} numbers in {BIAS}: expected float32, bfloat16 or float16"):
        load_showo(locate(copy))


def test_whole_numbers_of_the_image_tokenizer_stay_whole(copy: Path) -> None:
    change_weight(copy / "magvitv2" / "model.safetensors", "quantize.power_vals", torch.Tensor.float)
    with pytest.raises(InputError, match=r"has float32 numbers in quantize\.power_vals: expected int64"):
        load_components(locate(copy))


def test_an_average_with_weights_that_are_nan_is_refused(copy: Path, random_checkpoint: Path) -> None:
    change_weight(copy / "model.safetensors", BIAS, with_last(float("nan")))
    with pytest.raises(InputError, match=rf"values of {BIAS} that are NaN"):
        average_weights(load_showo(locate(random_checkpoint)).state_dict(), [open_weights(copy)], [0.5, 0.5])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("layer_norm_eps", float("nan")),
        ("layer_norm_eps", -1),
        ("rope_theta", 0),
        ("rope_theta", float("inf")),
        ("num_hidden_layers", 10_000),
        ("num_hidden_layers", 0),
        ("num_hidden_layers", 2.0),
        ("hidden_size", 10**30),
        ("hidden_size", True),
        ("hidden_size", "wide"),
        ("num_attention_heads", -4),
        ("intermediate_size", [64] * 10**5),
        ("max_position_embeddings", 10**9),
        ("attention_dropout", float("nan")),
        ("rope_parameters", 3),
        ("factor", 1e9),
        ("partial_rotary_factor", 1e9),
        ("short_factor", float("nan")),
    ],
)
def test_numbers_of_a_phi_config_are_checked(copy: Path, name: str, value: object) -> None:
    file = copy / "phi" / "config.json"
    if name in ("rope_theta", "factor", "partial_rotary_factor", "short_factor"):
        rotary = json.loads(file.read_text())["rope_parameters"]
        change(file, rope_parameters=rotary | {name: [value] if name == "short_factor" else value})
    else:
        change(file, **{name: value})
    with pytest.raises(InputError, match=rf"phi/config\.json': {name}.* is ") as raised:
        load_showo(locate(copy))
    assert len(str(raised.value)) < 400
    assert "\n" not in str(raised.value)


def test_heads_that_do_not_divide_are_refused(copy: Path) -> None:
    change(copy / "phi" / "config.json", num_attention_heads=5, num_key_value_heads=5)
    with pytest.raises(InputError, match="expected an even number of rotary channels, heads that divide hidden_size"):
        load_showo(locate(copy))


def test_the_number_of_layers_is_compared_before_they_are_built(copy: Path) -> None:
    change(copy / "phi" / "config.json", num_hidden_layers=1000)
    start = time.process_time()
    with pytest.raises(InputError, match="it has 2 layers where the config says 1000"):
        load_showo(locate(copy))
    assert time.process_time() - start < 2


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_vq_tokens": -1}, "num_vq_tokens is -1: choose a whole number from 1 to"),
        ({"num_vq_tokens": 10**6}, "num_vq_tokens is 1000000: choose"),
        ({"num_vq_tokens": 15}, "num_vq_tokens is 15: expected the square"),
        ({"max_text_length": 0}, "max_text_length is 0"),
        ({"codebook_size": -1, "vocab_size": 300 + 10}, "codebook_size is -1"),
        ({"vocab_size": 10**20}, "vocab_size is 10{20}: choose"),
        ({"clip_feature_size": 10**9}, "clip_feature_size is"),
    ],
)
def test_numbers_of_a_config_are_checked(copy: Path, values: dict, message: str) -> None:
    change(copy / "config.json", **values)
    with pytest.raises(InputError, match=message):
        ShowoConfig.from_dict(json.loads((copy / "config.json").read_text()))


def test_images_that_are_longer_than_the_model_are_refused(copy: Path) -> None:
    change(copy / "config.json", num_vq_tokens=1024)
    with pytest.raises(InputError, match="num_vq_tokens is 1024: that many do not fit in the 256 positions"):
        load_showo(locate(copy))


@pytest.mark.parametrize(
    "values",
    [
        {"encoder_channel_multipliers": [2**40, 1]},
        {"decoder_num_blocks": [10**6, 1]},
        {"base_channels": 2**30},
        {"encoder_num_blocks": [1] * 11},
        {"patch_size": 10**9},
        {"in_channels": float("nan")},
    ],
)
def test_sizes_of_an_image_tokenizer_are_checked(values: dict) -> None:
    (name,) = values
    with pytest.raises(InputError, match=name):
        MagvitV2Config.from_dict(values)


@pytest.mark.parametrize("key", [1, ("a",), None, b"a", 1.5])
def test_names_that_are_no_texts_are_refused(tmp_path: Path, key: object) -> None:
    torch.save({key: torch.ones(2)}, tmp_path / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"has tensors under .*, which is no name: save a model's state_dict\(\)"):
        describe(tmp_path / "pytorch_model.bin")


@pytest.mark.parametrize("value", [np.float64(3), np.ones(2), np.dtype("float32"), np.random.default_rng(0)])
def test_numpy_objects_are_refused_in_one_line(tmp_path: Path, value: object) -> None:
    torch.save({"weight": value}, tmp_path / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"it holds more than tensors \(a numpy[\w.]+\), and reading") as raised:
        describe(tmp_path / "pytorch_model.bin")
    assert str(raised.value).isprintable()


@pytest.mark.parametrize("shape", [(10**6, 4), (10**9, 1, 4)])
def test_tensors_that_repeat_their_data_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    torch.save({"weight": torch.ones(4).expand(shape)}, tmp_path / "pytorch_model.bin")
    with pytest.raises(InputError, match="has tensors of more bytes than it holds"):
        describe(tmp_path / "pytorch_model.bin")
    tied = torch.ones(100)
    torch.save({"weight": tied, "other": tied}, tmp_path / "pytorch_model.bin")
    assert describe(tmp_path / "pytorch_model.bin").keys() == {"weight", "other"}


def test_tensors_that_are_not_dense_are_refused(tmp_path: Path) -> None:
    torch.save({"weight": torch.eye(4).to_sparse()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"sparse, nested or quantized tensor 'weight': save it dense"):
        describe(tmp_path / "pytorch_model.bin")


@pytest.mark.parametrize("kind", ["header", "index", "pickle"])
def test_a_million_names_are_refused_at_once(tmp_path: Path, kind: str) -> None:
    names = [f"showo.model.layers.0.mlp.fc1.weight.number.{number}" for number in range(200_000)]
    if kind == "index":
        weight_map = dict.fromkeys(names, "model-1.safetensors")
        (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    elif kind == "pickle":
        torch.save(dict.fromkeys(names, torch.ones(1)), tmp_path / "pytorch_model.bin")
    else:
        header = json.dumps({name: {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for name in names}).encode()
        (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b" ")
    start = time.process_time()
    with pytest.raises(InputError, match=r"20,000"):
        open_weights(tmp_path)
    assert time.process_time() - start < 2


def test_a_name_with_a_nul_in_an_index_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"weight": "a\0b"}}))
    with pytest.raises(InputError, match=r"names 'a\\x00b': shards must lie beside") as raised:
        open_weights(tmp_path)
    assert str(raised.value).isprintable()


def test_an_adapter_config_that_was_left_in_a_model_is_ignored(copy: Path) -> None:
    (copy / "adapter_config.json").write_text('{"peft_type": "LORA", "base_model_name_or_path": "nowhere"}')
    assert ShowoPipeline.from_pretrained(copy, device="cpu").resolution == 32


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "adapter_model.bin"])
def test_an_adapter_in_the_folder_of_a_model_is_refused(copy: Path, name: str) -> None:
    (copy / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    (copy / name).write_bytes(b"")
    with pytest.raises(InputError, match=r"holds a whole model and an adapter: move adapter_config\.json"):
        locate(copy)
