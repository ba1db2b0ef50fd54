"""Configs, sidecars and texts from outside: bounded in size and depth, plain files only, numbers with a range."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from showo_turbo.checkpoints.names import resolve
from showo_turbo.checkpoints.weights import weights_of_file
from showo_turbo.cli.prompt_files import read_prompt_lines
from showo_turbo.cli.sidecar import Sidecar
from showo_turbo.config_reader import read_config
from showo_turbo.distillation.config import DistillationConfig, Stage
from showo_turbo.errors import InputError
from showo_turbo.files import parse_json, read_json, sha256_of_files
from showo_turbo.generation.options import DecodingOptions, SamplingOptions
from showo_turbo.generation.scheduler import mask_schedule
from showo_turbo.training.adapters import LoraConfig
from showo_turbo.training.loop_config import LoopConfig
from showo_turbo.training.optimizers import OptimizerConfig

DEPTH = 100_000
READERS = {
    "json": read_json,
    "sidecar": Sidecar.read,
    "prompts": lambda path: read_prompt_lines(path, "prompts file"),
    "yaml": lambda path: read_config(LoopConfig, [f"config={path}"]),
    "weights": weights_of_file,
}


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
@pytest.mark.parametrize("kind", ["fifo", "/dev/zero", "/dev/null", "folder"])
def test_what_is_no_plain_file_is_refused(tmp_path: Path, reader: Callable, kind: str) -> None:
    path = tmp_path / "file.json"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(kind)
    with pytest.raises(InputError, match=r"file\.json"):
        reader(path)


def test_the_hash_of_a_fifo_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "file")
    with pytest.raises(OSError, match="it is not a plain file"):
        sha256_of_files(tmp_path / "file")


@pytest.mark.parametrize("reader", [READERS[name] for name in ("json", "sidecar", "prompts", "yaml")])
def test_a_file_beyond_the_bound_is_refused_before_it_is_read(tmp_path: Path, reader: Callable) -> None:
    with (tmp_path / "file.json").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(InputError, match=r"it has 1,099,511,627,776 bytes, at most"):
        reader(tmp_path / "file.json")


@pytest.mark.parametrize("text", ["[" * DEPTH, '{"a":' * DEPTH, "[" * DEPTH + "]" * DEPTH, "[" * 200 + "]" * 200])
def test_json_of_any_depth_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ValueError, match=r"nested|Expecting"):
        parse_json(text)
    (tmp_path / "config.json").write_text(text)
    for reader in (read_json, Sidecar.read):
        with pytest.raises(InputError, match=r"config\.json'"):
            reader(tmp_path / "config.json")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 500 + "]" * 500, "nested more than 20 levels"),
        ("".join(" " * depth + "a:\n" for depth in range(500)), "nested more than 20 levels"),
        (
            "a0: &a0 [1]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 30)),
            "more than 10,000 v",
        ),
        ("a: &a [*a]", "is inside of what it repeats"),
        ("output: ${oc.env:HOME}", r"holds '\$\{oc\.env:HOME\}': write the value itself"),
        ("output: x-${oc.decode:'1'}", r"oc\.decode"),
        ("output: '${oc.create:{a: 1}}'", r"oc\.create"),
        ("steps: " + "9" * 5000, "not YAML"),
        ("clip_norm: " + "9" * 400, "clip_norm|too large"),
        ("steps: 1e300", "steps"),
    ],
)
def test_hostile_yaml_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "run.yaml").write_text(text)
    with pytest.raises(InputError, match=message) as raised:
        read_config(LoopConfig, [f"config={tmp_path / 'run.yaml'}"])
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("text", ["[" * 500, "[${oc.env:HOME}]", "{a: ${oc.env:HOME}}"])
def test_hostile_arguments_are_refused(text: str) -> None:
    with pytest.raises(InputError):
        read_config(DistillationConfig, [f"captions={text}"])


@pytest.mark.parametrize("name", ["../../x", "/tmp/x", "..", "", "a/b", "a\\b", "a\0b", "a\nb", ".hidden", "x" * 101])
def test_the_name_of_a_stage_is_a_plain_name(name: str) -> None:
    with pytest.raises(InputError, match="is to be the name of a folder"):
        Stage(name)
    assert Stage("stage-1.a_b").name == "stage-1.a_b"


@pytest.mark.parametrize(
    ("build", "values"),
    [
        (SamplingOptions, {"guidance_scale": 1e30}),
        (SamplingOptions, {"temperature": 1e30}),
        (DecodingOptions, {"temperature": 1e-300, "do_sample": True, "decoding": "autoregressive"}),
        (LoopConfig, {"threads": 10**6}),
        (LoopConfig, {"steps": 10**30}),
        (LoopConfig, {"gradient_accumulation_steps": 10**30}),
        (LoopConfig, {"checkpoint_minutes": 1e300}),
        (OptimizerConfig, {"lr": 1e300}),
        (OptimizerConfig, {"muon_lr": 1e300}),
        (LoraConfig, {"rank": 10**6}),
        (LoraConfig, {"alpha": 1e300}),
        (LoraConfig, {"alpha": float("nan")}),
    ],
)
def test_numbers_of_settings_have_an_upper_bound(build: Callable, values: dict[str, Any]) -> None:
    name = next(iter(values))
    with pytest.raises(InputError, match=rf"{name}.* is .*: choose"):
        build(**values)


@pytest.mark.parametrize("name", ["pow0", "pow1000000", "pow" + "9" * 10**5, "x" * 10**6])
def test_exponents_of_schedules_have_a_bound(name: str) -> None:
    with pytest.raises(InputError, match="is unknown: use") as raised:
        mask_schedule(name)
    assert len(str(raised.value)) < 300


@pytest.mark.parametrize("name", [None, 3, ["tiny"], b"tiny"])
def test_a_model_is_a_name_or_path(name: object) -> None:
    with pytest.raises(InputError, match="expected the name of a model, folder or hub repository"):
        resolve(name)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_images": 10**9}, "num_images is 1000000000: choose a whole number from 1 to 1,000"),
        ({"num_images": "1"}, "num_images is '1'"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 1.5}, "seed is 1.5"),
        ({"model": None}, "model is None: expected a text"),
        ({"prompt": ["a"]}, "prompt is"),
        ({"weights_sha256": 3}, "weights_sha256 is 3: expected an object"),
        ({"quantization": 8}, "quantization is 8"),
        ({"arguments": {"height": 65_536}}, "height is 65536: choose"),
        ({"arguments": {"width": -8}}, "width is -8: choose"),
        ({"arguments": {"image": 3, "mask": "b"}, "task": "inpaint"}, "image is 3: expected a text"),
        ({"arguments": {"image": "a", "direction": [3]}, "task": "extrapolate"}, "direction is"),
        ({"arguments": {"image": "a", "direction": ["left"] * 1000}, "task": "extrapolate"}, "direction"),
        ({"arguments": {"image": "a", "strength": float("nan")}, "task": "vary"}, "strength is nan"),
        ({"guidance_scale": 1e30}, r"guidance_scale is 1e\+30"),
    ],
)
def test_values_of_a_sidecar_are_checked(tmp_path: Path, values: dict, message: str) -> None:
    valid = {
        "task": "text_to_image",
        "arguments": {},
        "inputs_sha256": {},
        "prompt": "a",
        "seed": 0,
        "num_images": 1,
        "model": "tiny",
        "weights_sha256": {},
        "device": "cpu",
        "dtype": "float32",
        "quantization": None,
        "showo_turbo": "0",
        "torch": "2",
    }
    path = tmp_path / "image.json"
    path.write_text(json.dumps(valid))
    assert Sidecar.read(path).seed == 0
    path.write_text(json.dumps(valid | values))
    with pytest.raises(InputError, match=message):
        Sidecar.read(path)
