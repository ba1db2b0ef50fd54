"""`--adapter`: an adapter that finetune or PEFT wrote is used at once on its base, and on no other one."""

import json
import shutil
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from showo_turbo.checkpoints.adapter_base import check_base
from showo_turbo.errors import InputError
from showo_turbo.pipelines.pipeline import ShowoPipeline
from showo_turbo.processing.image_files import load_image
from showo_turbo.training.adapters import LoraConfig, prepare_model, save_adapter


@pytest.fixture
def adapter(here: Path, random_pipe: ShowoPipeline, random_checkpoint: Path) -> Path:
    """Return a folder with an adapter that changes every image."""
    lora = LoraConfig(rank=2, alpha=64)
    model = prepare_model(deepcopy(random_pipe.model), lora, False, seed=0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(generator=torch.Generator().manual_seed(0))
    save_adapter(here / "adapter", model, lora, str(random_checkpoint))
    return here / "adapter"


@pytest.fixture
def other_base(tmp_path: Path, random_checkpoint: Path) -> Path:
    """Return a copy of the base with other weights of the same shapes."""
    folder = tmp_path / "other"
    shutil.copytree(random_checkpoint, folder)
    weights = {name: 1.5 * tensor for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


def test_images_are_those_of_the_merged_model(
    cli: Callable, adapter: Path, random_checkpoint: Path, random_pipe: ShowoPipeline
) -> None:
    command = ("generate", "a red car", "--seed", 3, "--steps", 2, "--adapter", adapter)
    assert cli(*command, "-o", "own.png").status == 0
    assert cli(*command, "-o", "named.png", "--model", random_checkpoint).status == 0
    assert cli("convert", adapter, "merged").status == 0
    merged = ShowoPipeline.from_pretrained("merged")
    expected = merged.text_to_image("a red car", seed=3, num_inference_steps=2).images[0].tobytes()
    assert load_image("own.png").tobytes() == load_image("named.png").tobytes() == expected
    assert expected != random_pipe.text_to_image("a red car", seed=3, num_inference_steps=2).images[0].tobytes()

    sidecars = [json.loads(Path(name).read_text()) for name in ("own.json", "named.json")]
    assert [sidecar["model"] for sidecar in sidecars] == [str(adapter), str(adapter)]
    assert [sidecar.get("base") for sidecar in sidecars] == [None, str(random_checkpoint)]
    assert cli("generate", "--from-sidecar", "named.json", "-o", "again.png").status == 0
    assert Path("again.png").read_bytes() == Path("named.png").read_bytes()


def test_answers_are_those_of_the_merged_model(cli: Callable, adapter: Path, random_pipe: ShowoPipeline) -> None:
    random_pipe.text_to_image("a red car", seed=0).images[0].save("image.png")
    answer = cli("ask", "image.png", "What is it?", "--adapter", adapter, "--max-new-tokens", 6)
    expected = ShowoPipeline.from_pretrained(adapter).image_to_text("image.png", "What is it?", max_new_tokens=6)
    assert (answer.status, answer.out.strip()) == (0, expected.texts[0].strip())


@pytest.mark.parametrize(
    "command", [("generate", "a red car"), ("ask", "image.png", "What?"), ("vary", "image.png", "a")]
)
def test_another_base_is_refused_in_one_line(
    cli: Callable, adapter: Path, other_base: Path, random_pipe: ShowoPipeline, command: tuple[str, ...]
) -> None:
    random_pipe.text_to_image("a red car", seed=0).images[0].save("image.png")
    refused = cli(*command, "--adapter", adapter, "--model", other_base)
    assert refused.status == 2
    assert len(refused.err.splitlines()) == 1
    assert "was trained on" in refused.err
    assert "name the base that it was trained on" in refused.err


def test_a_model_is_no_adapter(cli: Callable, random_checkpoint: Path) -> None:
    refused = cli("generate", "a red car", "--adapter", random_checkpoint)
    assert refused.status == 2
    assert "has no adapter_config.json: give one that `finetune` or PEFT wrote" in refused.err
    assert "'nowhere' is unknown" in cli("generate", "a red car", "--adapter", "nowhere").err


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_base_in_half_precision_is_the_same(
    cli: Callable, adapter: Path, random_checkpoint: Path, dtype: str
) -> None:
    assert cli("convert", random_checkpoint, "half", "--dtype", dtype).status == 0
    assert cli("generate", "a red car", "--adapter", adapter, "--model", "half", "--steps", 1).status == 0


@pytest.mark.parametrize("content", ['{"values": 3}', '{"values": {"a": "b"}}', '{"values": {"a": [1, 2, 3]}}', "{"])
def test_a_damaged_sample_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "base.json").write_text(content)
    with pytest.raises(InputError):
        list(check_base(tmp_path, iter([("a", torch.zeros(4))]), "the base"))
