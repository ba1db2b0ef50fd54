"""Training from random weights by `finetune`: sizes in place of a model, validated and resumed as any other run."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from safetensors.torch import load_file
from typer.testing import CliRunner

from showo_turbo.cli.main import app
from showo_turbo.data import SourceConfig
from showo_turbo.errors import InputError
from showo_turbo.finetuning.finetune import finetune
from showo_turbo.finetuning.finetuning_config import FinetuningConfig
from showo_turbo.pipelines.pipeline import ShowoPipeline
from showo_turbo.training.adapters import LoraConfig
from showo_turbo.training.architecture import ArchitectureConfig
from showo_turbo.training.loop import LoopConfig
from showo_turbo.training.optimizers import OptimizerConfig

SIZES: dict[str, Any] = {
    "num_vq_tokens": 16,
    "codebook_size": 16,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
    "max_text_length": 32,
}
LOOP = LoopConfig(
    steps=30, warmup_steps=1, log_steps=10, threads=1, ema_decay=0.0, decay_share=0.0, validation_steps=10
)


@pytest.fixture
def config(tmp_path: Path, random_checkpoint: Path) -> FinetuningConfig:
    """A run on eight captioned images."""
    colors = ("red", "green", "blue", "grey")
    for number in range(8):
        Image.new("RGB", (32, 32), colors[number % 4]).save(tmp_path / f"{number}.png")
    lines = [{"image": f"{number}.png", "caption": f"a {colors[number % 4]} car"} for number in range(8)]
    (tmp_path / "captions.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return FinetuningConfig(
        output=str(tmp_path / "run"),
        captions=[SourceConfig("image_folder", str(tmp_path / "captions.jsonl"))],
        captions_batch_size=4,
        loop=LOOP,
        optimizer=OptimizerConfig(lr=1e-2),
        num_workers=0,
        architecture=ArchitectureConfig(**SIZES),
        image_tokenizer=str(random_checkpoint / "magvitv2"),
        text_tokenizer=str(random_checkpoint / "phi"),
    )


def test_a_model_is_trained_from_random_weights_validated_and_resumed(config: FinetuningConfig, tmp_path: Path) -> None:
    best = finetune(config)
    lines = [json.loads(line) for line in (tmp_path / "run" / "validation.jsonl").read_text().splitlines()]
    assert lines[-1]["loss"] < 0.8 * lines[0]["loss"]
    assert best == tmp_path / "run" / "best" / "model"
    pipe = ShowoPipeline.from_pretrained(best)
    assert pipe.model.showo.config.hidden_size == 32
    assert pipe.text_to_image("a red car", seed=0, num_inference_steps=2).images[0].size == (32, 32)

    resumed = replace(config, output=str(tmp_path / "resumed"))
    finetune(replace(resumed, loop=replace(LOOP, steps=10)))
    finetune(resumed)
    one, other = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("run", "resumed"))
    assert all(one[name].equal(other[name]) for name in one)
    with pytest.raises(InputError, match=r"has another architecture\.hidden_size \(32, now 64\)"):
        finetune(replace(resumed, architecture=ArchitectureConfig(**SIZES | {"hidden_size": 64})))


def test_the_command_reads_sizes_from_a_config_and_names_of_shipped_models(
    config: FinetuningConfig, tmp_path: Path
) -> None:
    small = "{hidden_size: 16, intermediate_size: 16, num_hidden_layers: 1, num_attention_heads: 2}"
    (tmp_path / "config.yaml").write_text(
        f"output: {tmp_path / 'shipped'}\nnum_workers: 0\nimage_tokenizer: tiny\ntext_tokenizer: tiny\n"
        f"architecture: {small}\ncaptions_batch_size: 2\nloop: {{steps: 1, warmup_steps: 0}}\n"
        f"captions: [{{kind: image_folder, path: {config.captions[0].path}}}]\n"
    )
    done = CliRunner().invoke(app, ["finetune", f"config={tmp_path / 'config.yaml'}"])
    assert done.exit_code == 0, done.output
    model = ShowoPipeline.from_pretrained(tmp_path / "shipped" / "model").model
    assert (model.config.num_vq_tokens, model.config.codebook_size, model.showo.config.hidden_size) == (64, 1024, 16)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "tiny"}, r"model is 'tiny', and architecture is given as well: leave one of them out"),
        ({"lora": LoraConfig(rank=4)}, r"lora\.rank is 4, but architecture starts from random weights: leave lora out"),
        ({"vision_tower": "clip"}, r"vision_tower is given, but architecture reads images as codes"),
    ],
)
def test_settings_that_need_a_trained_model_are_refused(
    config: FinetuningConfig, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        replace(config, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"text_tokenizer": None}, r"architecture starts from random weights, without text_tokenizer: give a shipped"),
        ({"image_tokenizer": None, "text_tokenizer": None}, r"without image_tokenizer and text_tokenizer: give"),
        ({"image_tokenizer": "tiny"}, r"architecture\.codebook_size is 16, but image tokenizer 'tiny' has 1024 codes"),
        ({"text_tokenizer": "no-such-folder"}, r"text tokenizer 'no-such-folder' is unknown"),
    ],
)
def test_tokenizers_that_are_missing_or_do_not_fit_are_named(
    config: FinetuningConfig, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        finetune(replace(config, **changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": 33}, r"hidden_size is 33: choose a multiple of num_attention_heads, 4"),
        ({"num_hidden_layers": 0}, r"num_hidden_layers is 0"),
        ({"max_position_embeddings": 40}, r"max_position_embeddings is 40: choose at least 50, for 16 codes"),
    ],
)
def test_invalid_sizes_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ArchitectureConfig(**SIZES | changes)
