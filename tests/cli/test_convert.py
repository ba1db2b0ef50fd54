"""`showo-turbo convert`: any layout to ours and back, bit for bit; a failed run leaves no files."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from showo_turbo.pipelines.pipeline import ShowoPipeline


def load(folder: Path | str, **options: object) -> ShowoPipeline:
    return ShowoPipeline.from_pretrained(folder, device="cpu", **options)


def assert_same_weights(found: Path, expected: Path) -> None:
    found, expected = load_file(found), load_file(expected)
    assert found.keys() == expected.keys()
    assert all(found[name].equal(expected[name]) and found[name].dtype == expected[name].dtype for name in expected)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_the_published_layout_to_ours_and_back(cli: Callable, here: Path, tiny_folder: Path) -> None:
    assert cli("convert", tiny_folder, "ours").out == "checkpoint: ours\n"
    assert cli("convert", "ours", "published", "--to", "published", "--llm-model-path", "phi-tiny").status == 0
    assert_same_weights(here / "published" / "pytorch_model.safetensors", tiny_folder / "pytorch_model.safetensors")
    assert_same_weights(here / "ours" / "model.safetensors", tiny_folder / "pytorch_model.safetensors")
    config = json.loads((here / "published" / "config.json").read_text())
    assert config == json.loads((tiny_folder / "config.json").read_text())
    assert load("published").prompts.text_to_image("two dogs") == load(tiny_folder).prompts.text_to_image("two dogs")
    assert {path.name for path in here.iterdir()} == {"ours", "published"}


def test_ours_to_the_published_layout_and_back(cli: Callable, here: Path, random_checkpoint: Path) -> None:
    assert cli("convert", random_checkpoint, "published", "--to", "published").status == 0
    assert cli("convert", "published", here / "again").status == 0
    before, after = contents(random_checkpoint), contents(here / "again")
    card, title = after.pop("README.md").decode(), before.pop("README.md").decode()
    assert after == before
    assert card == title.replace("random", "again")
    assert len({file.stat().st_mode for file in (here / "again").rglob("*") if file.is_file()}) == 1
    codes = [load(one).text_to_image("a red car", seed=0).codes for one in (random_checkpoint, "published", "again")]
    assert codes[0].equal(codes[1])
    assert codes[0].equal(codes[2])


def test_a_converted_checkpoint_has_a_card(cli: Callable, here: Path, random_checkpoint: Path) -> None:
    (here / "drawings").mkdir()
    assert cli("convert", random_checkpoint, "drawings", "--dtype", "bfloat16").status == 0
    card = (here / "drawings" / "README.md").read_text()
    assert "# drawings" in card
    assert "bfloat16" in card
    assert "4 x 4 codes, 32 x 32 pixels" in card
    assert "4 steps, guidance 0, top-k off" in card


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_stored_dtype_is_preserved(cli: Callable, here: Path, random_checkpoint: Path, dtype: torch.dtype) -> None:
    source = Path(shutil.copytree(random_checkpoint, here / "half"))
    half = {name: tensor.to(dtype) for name, tensor in load_file(source / "model.safetensors").items()}
    save_file(half, source / "model.safetensors")
    assert cli("convert", "half", "converted").status == 0
    assert_same_weights(here / "converted" / "model.safetensors", source / "model.safetensors")


def test_an_adapter_is_merged(cli: Callable, here: Path, random_checkpoint: Path) -> None:
    (here / "adapter").mkdir()
    (here / "adapter" / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 1, "lora_alpha": 1}')
    module = "base_model.model.showo.model.layers.1.self_attn.dense"
    factors = {f"{module}.lora_A.weight": torch.ones(1, 32), f"{module}.lora_B.weight": torch.ones(32, 1)}
    save_file(factors, here / "adapter" / "adapter_model.safetensors")
    assert cli("convert", "adapter", "merged", "--base", random_checkpoint).status == 0
    found = load_file(here / "merged" / "model.safetensors")["showo.model.layers.1.self_attn.dense.weight"]
    base = load_file(random_checkpoint / "model.safetensors")["showo.model.layers.1.self_attn.dense.weight"]
    assert found.equal(base + 1)


def test_tokenizers_in_other_folders_are_included(cli: Callable, here: Path, random_checkpoint: Path) -> None:
    source = Path(shutil.copytree(random_checkpoint, here / "source"))
    image, text = (shutil.move(source / name, here / name) for name in ("magvitv2", "phi"))
    assert cli("convert", "source", "whole", "--image-tokenizer", image, "--text-tokenizer", text).status == 0
    assert contents(here / "whole").keys() == contents(random_checkpoint).keys()


def test_invalid_input_leaves_no_files(cli: Callable, here: Path, random_checkpoint: Path) -> None:
    broken = Path(shutil.copytree(random_checkpoint, here / "broken"))
    (broken / "model.safetensors").write_bytes(b"noise")
    for arguments, message in (
        ((random_checkpoint, "broken"), "'broken' exists: give the name of a new or an empty folder"),
        ((random_checkpoint, "gone/out"), "gone' is missing: create it first"),
        ((random_checkpoint, "/proc/out"), "output folder '/proc' is not writable"),
        ((random_checkpoint, "out", "--to", "theirs"), "to is 'theirs': choose showo-turbo, published"),
        ((random_checkpoint, "out", "--llm-model-path", "phi"), "llm-model-path is for --to published"),
        ((random_checkpoint, "out", "--dtype", "int8"), "dtype 'int8' is unknown"),
        ((random_checkpoint, "out", "--base", random_checkpoint), "is not an adapter"),
        (("tinny", "out"), "model 'tinny' is unknown"),
        ((broken, "out"), "truncated or damaged"),
    ):
        result = cli("convert", *arguments)
        assert (result.status, result.out) == (2, "")
        assert message in result.err
    assert [path.name for path in here.iterdir()] == ["broken"]
    shutil.rmtree(broken)
    assert "output '.' is the current folder" in cli("convert", random_checkpoint, ".").err


def test_a_full_disk_leaves_no_files(
    cli: Callable, here: Path, random_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("showo_turbo.checkpoints.weight_files.save_file", fail)
    assert "No space left" in cli("convert", random_checkpoint, "out").err
    assert not list(here.iterdir())


@pytest.mark.parametrize("layout", ["showo-turbo", "published"])
def test_a_model_with_the_image_tokenizer_of_another_is_written_whole(cli: Callable, here: Path, layout: str) -> None:
    assert cli("convert", "tiny-turbo", "whole", "--to", layout, "--dtype", "float32").status == 0
    assert "shipped_image_tokenizer" not in (here / "whole" / "config.json").read_text()
    codes = load("tiny-turbo").text_to_image("a red circle", seed=0, output_type="latent").codes
    decoded = [load(model).decode_codes(codes)[0].tobytes() for model in ("tiny-turbo", "whole")]
    assert decoded[0] == decoded[1]
