"""Fine-tuning of an image tokenizer on pictures: it learns, resumes, keeps codes, and refuses bad settings."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from small_models import SMALL_IMAGE_TOKENIZER
from typer.testing import CliRunner

from showo_turbo.checkpoints.image_tokenizer import load_image_tokenizer
from showo_turbo.checkpoints.saving import save_image_tokenizer
from showo_turbo.cli.main import app
from showo_turbo.errors import InputError
from showo_turbo.finetuning.image_tokenizer_finetuning import ImageTokenizerFinetuningConfig, finetune_image_tokenizer
from showo_turbo.models.magvit_v2 import MagvitV2
from showo_turbo.training.image_tokenizer_losses import PatchDiscriminator, codebook_entropy_loss, pyramid_loss
from showo_turbo.training.loop_config import LoopConfig


@pytest.fixture
def config(tmp_path: Path) -> ImageTokenizerFinetuningConfig:
    """Make twelve pictures of two sizes, a damaged one, and an image tokenizer with random weights."""
    pictures = tmp_path / "pictures"
    (pictures / "more").mkdir(parents=True)
    for number in range(12):
        image = Image.new("RGB", (40, 50 + number), (20 * number, 255 - 20 * number, 90))
        image.paste((250, 250, 0), (10, 10, 25, 20 + number))
        image.save(pictures / ("more" if number % 2 else ".") / f"{number}.png")
    (pictures / "broken.png").write_bytes(b"no picture")
    (pictures / "notes.txt").write_text("no picture")
    torch.manual_seed(0)
    save_image_tokenizer(tmp_path / "tokenizer", MagvitV2(SMALL_IMAGE_TOKENIZER))
    loop = LoopConfig(str(tmp_path / "run"), steps=4, warmup_steps=1, decay_share=0.0, ema_decay=0.0, threads=1)
    return ImageTokenizerFinetuningConfig(
        loop=replace(loop, log_steps=1),
        image_tokenizer=str(tmp_path / "tokenizer"),
        pictures=[str(pictures)],
        resolution=32,
        batch_size=4,
        lr=1e-2,
        num_workers=0,
    )


def codes_of(folder: Path) -> torch.Tensor:
    pixels = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return load_image_tokenizer(folder).get_codes(pixels)


@pytest.mark.parametrize("decoder_only", [True, False])
def test_errors_fall_and_the_decoder_alone_keeps_the_codes(
    config: ImageTokenizerFinetuningConfig, decoder_only: bool
) -> None:
    loop = replace(config.loop, steps=40, log_steps=10, validation_steps=20)
    model = finetune_image_tokenizer(replace(config, loop=loop, decoder_only=decoder_only))
    output = Path(config.loop.output)
    assert model == output / "best" / "model"
    lines = [json.loads(line) for line in (output / "validation.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [0, 20, 40]
    assert lines[-1]["loss"] < 0.9 * lines[0]["loss"]
    before = codes_of(Path(config.image_tokenizer))
    assert codes_of(model).equal(before) == decoder_only
    with Image.open(output / "samples.png") as sheet:
        assert sheet.size == (32, 2 * 32)  # one held-out picture above its reconstruction
    assert "broken.png" in "".join(path.read_text() for path in output.glob("bad_*.jsonl"))


def test_every_loss_is_logged_and_a_resumed_run_equals_an_uninterrupted_one(
    config: ImageTokenizerFinetuningConfig, tmp_path: Path
) -> None:
    weights = {"entropy_weight": 0.1, "perceptual_weight": 1.0, "gan_weight": 0.1, "max_noise": 0.1}
    config = replace(config, decoder_only=False, **weights)
    whole = finetune_image_tokenizer(config)
    log = (Path(config.loop.output) / "log.jsonl").read_text().splitlines()
    parts = {"l1", "mse", "commitment", "entropy", "edges", "adversary", "discriminator"}
    assert parts <= json.loads(log[-1]).keys()
    resumed = replace(config, loop=replace(config.loop, output=str(tmp_path / "resumed"), steps=2))
    finetune_image_tokenizer(resumed)
    model = finetune_image_tokenizer(replace(resumed, loop=replace(resumed.loop, steps=4)))
    one, other = (load_file(folder / "model.safetensors") for folder in (whole, model))
    assert one.keys() == MagvitV2(SMALL_IMAGE_TOKENIZER).state_dict().keys()  # without the discriminator
    assert all(one[name].equal(other[name]) for name in one)
    with pytest.raises(InputError, match=r"has another gan_weight \(0\.1, now 0\.2\)"):
        finetune_image_tokenizer(replace(resumed, gan_weight=0.2))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pictures": []}, "pictures is empty"),
        ({"pictures": ["nowhere"]}, "nowhere"),
        ({"resolution": 30}, "resolution is 30: choose a multiple of 8"),
        ({"resolution": 0}, "resolution is 0"),
        ({"held_out": 1.0}, r"held_out is 1\.0"),
        ({"image_tokenizer": "nowhere"}, "image tokenizer 'nowhere' is unknown"),
        ({"perceptual_weight": -1.0}, r"perceptual_weight is -1\.0"),
    ],
)
def test_invalid_settings_are_refused(
    config: ImageTokenizerFinetuningConfig, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        finetune_image_tokenizer(replace(config, **changes))


def test_a_folder_without_pictures_is_refused(config: ImageTokenizerFinetuningConfig, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="has no picture"):
        finetune_image_tokenizer(replace(config, pictures=[str(tmp_path / "empty")]))


def test_the_command(config: ImageTokenizerFinetuningConfig) -> None:
    settings = [f"{key}={getattr(config, key)}" for key in ("image_tokenizer", "resolution", "batch_size")]
    settings += [f"pictures=[{config.pictures[0]}]", f"loop.output={config.loop.output}", "loop.steps=1"]
    done = CliRunner().invoke(app, ["finetune", "image-tokenizer", *settings, "num_workers=0"])
    assert done.exit_code == 0, done.output
    assert f"image tokenizer: {config.loop.output}/model" in done.output.replace("\n", "")


def test_the_pyramid_counts_edges() -> None:
    flat = torch.zeros(1, 3, 32, 32)
    edges = flat.clone()
    edges[..., ::2] = 0.2
    assert pyramid_loss(flat, flat) == 0
    assert pyramid_loss(edges, flat) > pyramid_loss(flat + 0.1, flat)  # of the same mean absolute error


def test_the_entropy_loss_is_lowest_for_certain_and_even_codes() -> None:
    signs = torch.where(torch.arange(64) % 2 == 0, 1.0, -1.0).reshape(1, 1, 8, 8)
    even, uneven, uncertain = 5 * signs, torch.full_like(signs, 5.0), 0.01 * signs
    losses = [float(codebook_entropy_loss(latents)) for latents in (even, uneven, uncertain)]
    assert losses[0] == pytest.approx(-0.6931, abs=1e-3)
    assert losses[1:] == pytest.approx([0.0, 0.0], abs=1e-3)


def test_each_side_of_the_adversary_gets_its_own_gradient() -> None:
    discriminator = PatchDiscriminator(channels=4, levels=2)
    images, targets = torch.rand(2, 1, 3, 16, 16).unbind()
    images.requires_grad_()
    discriminator.adversarial_loss(images).backward()
    assert images.grad is not None
    assert all(parameter.grad is None for parameter in discriminator.parameters())
    images.grad = None
    discriminator.hinge_loss(images, targets).backward()
    assert images.grad is None
    assert all(parameter.grad is not None for parameter in discriminator.parameters())
