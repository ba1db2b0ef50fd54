"""Invalid input gives one line that names it, exit status 2, and writes nothing."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from showo_turbo import files


class Malicious:
    def __reduce__(self) -> tuple:
        return os.mkdir, ("trace",)


@pytest.fixture
def refused(cli: Callable, here: Path) -> Callable[..., str]:
    """Run a command that must fail and leave the current folder unchanged; return its message."""

    def call(*arguments: object) -> str:
        before = {path: path.stat().st_mtime_ns for path in here.rglob("*")}
        result = cli(*arguments)
        assert result.status == 2
        assert result.out == ""
        assert result.err.startswith("error: ")
        assert result.err.count("\n") == 1
        assert {path: path.stat().st_mtime_ns for path in here.rglob("*")} == before
        return result.err

    return call


@pytest.fixture
def broken(random_checkpoint: Path, tmp_path: Path) -> Path:
    """A copy of a checkpoint that a test damages."""
    return Path(shutil.copytree(random_checkpoint, tmp_path / "broken"))


def test_unknown_model_name(refused: Callable) -> None:
    assert "model 'tinny' is unknown: it is neither a shipped model (tiny" in refused(
        "generate", "a", "--model", "tinny"
    )


def test_hub_name_without_network(refused: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    message = refused("generate", "a", "--model", "nobody/nothing")
    assert "could not be fetched from the hub" in message
    assert "config.json" in message


def test_folder_without_weights(refused: Callable, broken: Path) -> None:
    (broken / "model.safetensors").unlink()
    assert "holds no weights: expected one of model.safetensors" in refused("generate", "a", "--model", broken)


def test_truncated_weights(refused: Callable, broken: Path) -> None:
    file = broken / "model.safetensors"
    file.write_bytes(file.read_bytes()[:5000])
    assert "model.safetensors' is truncated" in refused("generate", "a", "--model", broken)


def test_weights_of_another_shape(refused: Callable, broken: Path) -> None:
    file = broken / "model.safetensors"
    weights = load_file(file)
    weights["showo.lm_head.bias"] = weights["showo.lm_head.bias"][:-1].clone()
    weights["stranger"] = weights.pop("showo.model.final_layernorm.bias")
    save_file(weights, file)
    message = refused("generate", "a", "--model", broken)
    assert "missing: showo.model.final_layernorm.bias; unexpected: stranger" in message
    assert "showo.lm_head.bias is (326,) where the config says (327,)" in message


def test_weights_with_code(refused: Callable, broken: Path) -> None:
    (broken / "model.safetensors").unlink()
    torch.save({"showo.lm_head.bias": Malicious()}, broken / "pytorch_model.bin")
    message = refused("generate", "a", "--model", broken)
    assert "pytorch_model.bin' was refused: it holds more than tensors" in message
    assert "could run code" in message


@pytest.mark.parametrize("command", [("ask", "image.png", "What?"), ("describe", "image.png")])
def test_unreadable_images(refused: Callable, here: Path, random_checkpoint: Path, command: tuple) -> None:
    arguments = (*command, "--model", random_checkpoint)
    assert "image.png' does not exist" in refused(*arguments)
    (here / "image.png").touch()
    assert "image.png' cannot be read as an image: expected " in refused(*arguments)
    (here / "image.png").write_text("not an image")
    assert "image.png' cannot be read as an image: expected " in refused(*arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([""], "prompt is empty"),
        (["  "], "prompt is empty"),
        (["a red car " * 60], "prompt is too long: the model takes 128 tokens, and its end, '"),
        (["a", "--steps", 0], "num_inference_steps is 0: choose 1 to 16"),
        (["a", "--num-inference-steps", 17], "num_inference_steps is 17: choose 1 to 16"),
        (["a", "--top-k", -1], "top_k is -1: choose 1 to 16"),
        (["a", "--top-k", 17], "top_k is 17: choose 1 to 16"),
        (["a", "--guidance-scale", -1], "guidance_scale is -1.0: choose 0"),
        (["a", "--temperature", -1], "temperature is -1.0"),
        (["a", "--schedule", "cubist"], "schedule 'cubist' is unknown"),
        (["a", "--seed", -1], "seed is -1"),
        (["a", "--num-images", 0], "num_images_per_prompt is 0"),
        (["a", "--device", "abacus"], "device 'abacus' cannot be used here"),
        (["a", "--quantization", "int4"], "quantization 'int4' is unknown: choose int8, float8"),
        (["a", "--dtype", "float12"], "dtype 'float12' is unknown: choose float32"),
        (["a", "-o", "missing/out.abc"], "output 'missing/out.abc' ends in .abc, which is no format"),
        (["a", "-o", "out.json"], "output 'out.json' ends in .json, which is no format"),
        (["a", "b", "-o", "out.png"], "output 'out.png' must be a folder"),
        (["a", "--prompts-file", "missing.txt"], "prompts file 'missing.txt' cannot be read (No such file"),
        ([], "prompt is missing: give one"),
        (["--from-sidecar", "missing.json"], "sidecar 'missing.json' cannot be read (No such file"),
        (["a", ""], "prompt is empty"),
    ],
)
def test_invalid_arguments_of_generate(
    refused: Callable, random_checkpoint: Path, arguments: list[object], message: str
) -> None:
    model = [] if "--from-sidecar" in arguments else ["--model", random_checkpoint]
    assert message in refused("generate", *arguments, *model)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([""], "question is empty"),
        (["What?", ""], "question is empty"),
        (["why " * 400], "question has 1599 characters, at most 1024"),
        (["What?", "--decoding", "guess"], "decoding is 'guess': choose jacobi or autoregressive"),
        (["What?", "--block-length", 0], "block_length is 0"),
        (["What?", "--max-new-tokens", 0], "max_new_tokens is 0"),
        (["What?", "--max-new-tokens", 1000], "but the model has 256 positions"),
        (["What?", "--do-sample"], "do_sample needs decoding='autoregressive'"),
        (["What?", "--top-k", 3], "top_k 3 are for sampling"),
        (["What?", "--top-k", -1], "top_k is -1: choose 1 or more"),
        (["What?", "--temperature", 0], "temperature is 0.0: choose more than 0"),
        (["What?", "--seed", -1], "seed is -1"),
    ],
)
def test_invalid_arguments_of_ask(
    refused: Callable, here: Path, random_checkpoint: Path, arguments: list[object], message: str
) -> None:
    Image.new("RGB", (40, 40)).save(here / "image.png")
    assert message in refused("ask", "image.png", *arguments, "--model", random_checkpoint)


@pytest.mark.parametrize("existing", ["out.png", "out.json"])
def test_existing_files_are_not_replaced(refused: Callable, here: Path, random_checkpoint: Path, existing: str) -> None:
    (here / existing).write_text("precious")
    assert f"output '{existing}' exists" in refused("generate", "a", "--model", random_checkpoint)
    assert (here / existing).read_text() == "precious"


def test_a_folder_that_is_not_writable(refused: Callable, random_checkpoint: Path) -> None:
    message = refused("generate", "a", "-o", "/proc/out.png", "--model", random_checkpoint)
    assert "output folder '/proc' is not writable" in message


def test_a_full_disk_leaves_no_file(
    refused: Callable, random_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: bytes) -> None:
        path.touch()
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(files.Path, "write_bytes", full)
    assert "No space left on device" in refused("generate", "a", "--model", random_checkpoint)


@pytest.mark.parametrize("content", [b"", b" \n\n", b"\xff\xfe\xfa", "\ufeff\n\ufeff\r\n".encode()])
def test_invalid_prompts_files(refused: Callable, here: Path, content: bytes) -> None:
    (here / "prompts.txt").write_bytes(content)
    assert "prompts file 'prompts.txt' is" in refused("generate", "--prompts-file", "prompts.txt")


def test_a_byte_order_mark_is_not_part_of_a_prompt(cli: Callable, here: Path, random_checkpoint: Path) -> None:
    """Editors on Windows write one before the text."""
    (here / "prompts.txt").write_bytes("\ufeffa dog\n".encode())
    assert cli("generate", "--prompts-file", "prompts.txt", "--model", random_checkpoint).status == 0
    assert json.loads((here / "out.json").read_text())["prompt"] == "a dog"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("image-tokenizer", "batch_size=0"), "batch_size is 0"),
        (("image-tokenizer", "lr=-1"), "lr is -1"),
        (("text-tokenizer", "vocab_size=-1"), "vocab_size is -1: choose a whole number, 257 or more"),
        (("showo", "hidden_size=130"), "hidden_size is 130: choose a multiple of num_attention_heads, 4"),
        (("showo", "condition_dropout=2"), "condition_dropout is 2"),
        (("scene-pool", "image_tokenizer=nowhere"), "image tokenizer 'nowhere' is unknown"),
        (("scene-pool", "image_tokenizer=tiny", "count=0"), "count is 0"),
    ],
)
def test_invalid_settings_of_pretrain(refused: Callable, arguments: tuple[str, ...], words: str) -> None:
    assert words in refused("pretrain", *arguments)


@pytest.mark.parametrize("seed", [-3, 2**63])
@pytest.mark.parametrize("command", ["demo", "evaluate"])
def test_seeds_out_of_range(refused: Callable, command: str, seed: int) -> None:
    assert f"seed is {seed}: choose a whole number from 0" in refused(command, "--seed", seed)


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"prompt": "a"}'])
def test_invalid_sidecars(refused: Callable, here: Path, content: str) -> None:
    (here / "other.json").write_text(content)
    assert "sidecar 'other.json' is not" in refused("generate", "--from-sidecar", "other.json")


def test_a_sidecar_takes_no_other_options(refused: Callable, here: Path) -> None:
    (here / "out.json").write_text(json.dumps({}))
    message = refused("generate", "a", "--steps", 3, "--from-sidecar", "out.json")
    assert "leave prompts, num-inference-steps out" in message


def test_usage_errors_have_the_same_status(cli: Callable) -> None:
    for arguments in (["paint"], ["generate", "a", "--steps", "many"], ["ask"]):
        result = cli(*arguments)
        assert result.status == 2
        assert "Traceback" not in result.err


def test_the_console_script_shows_no_traceback(here: Path) -> None:
    command = [Path(sys.executable).parent / "showo-turbo", "generate", "a", "--model", "tinny"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: model 'tinny' is unknown")
    assert done.stderr.count("\n") == 1
    assert not list(here.iterdir())


def test_an_interruption_shows_no_traceback(cli: Callable, random_checkpoint: Path, here: Path, monkeypatch) -> None:
    def interrupt(*arguments: object, **options: object) -> None:
        signal.default_int_handler(signal.SIGINT, None)  # a shell may ignore the signal itself in the background

    monkeypatch.setattr("showo_turbo.pipelines.image_generation.denoise_windows", interrupt)
    result = cli("generate", "a", "--model", random_checkpoint)
    assert result.status == 130
    assert "Traceback" not in result.err
    assert not list(here.iterdir())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "stages are named []"),
        (("config=nowhere.yaml",), "nowhere.yaml"),
        (("stages=[{name: a, loop: {stps: 4}}]",), "stps"),
        (("stages=[{name: a}]", "teacher=nobody"), "model 'nobody' is unknown"),
        (("stages=[{name: a}]",), "no source of captions"),
        (("stages=[{name: a}]", "captions=[{kind: coko, path: a}]"), "the nearest known one is 'coco'"),
        (("stages=[{name: a}]", "captions=[{kind: coco, path: a.json}]"), "'a.json' does not exist"),
    ],
)
def test_invalid_settings_of_distill(refused: Callable, arguments: tuple[str, ...], words: str) -> None:
    assert words in refused("distill", *arguments)


def test_a_missing_extra_is_named(refused: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "accelerate", None)
    for module in [
        name for name in sys.modules if name.startswith(("showo_turbo.training", "showo_turbo.distillation"))
    ]:
        monkeypatch.delitem(sys.modules, module)
    assert "pip install -e '.[train]' in a clone" in refused("pretrain", "image-tokenizer")


def test_text_in_another_encoding(refused: Callable) -> None:
    """Python passes a byte that is not UTF-8 as a surrogate."""
    assert "prompt 'caf\\udce9' is in another encoding" in refused("generate", "caf\udce9")
