"""`showo-turbo pretrain`: the embedded default from nothing, in four stages.

    text-tokenizer -> image-tokenizer -> scene-pool -> showo

Every stage takes `key=value` settings, among them `config=FILE`, and goes on from its last checkpoint if it has one.
"""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from showo_turbo.training.task import Task

app = typer.Typer(no_args_is_help=True, help="Train the embedded default from nothing on rendered scenes.")

Settings = Annotated[list[str] | None, typer.Argument(help="key=value settings; config=FILE reads a YAML file first.")]


@app.command()
def text_tokenizer(settings: Settings = None) -> None:
    """Learn the text tokenizer on the world's captions and questions (seconds)."""
    from showo_turbo.config_reader import read_config
    from showo_turbo.pretraining.text_tokenizer_training import TextTokenizerTrainingConfig, train_text_tokenizer

    train_text_tokenizer(read_config(TextTokenizerTrainingConfig, settings or []))


@app.command()
def image_tokenizer(settings: Settings = None) -> None:
    """Train the MAGVIT-v2 image tokenizer on rendered scenes (minutes)."""
    from showo_turbo.config_reader import read_config
    from showo_turbo.pretraining.image_tokenizer_training import ImageTokenizerTraining, ImageTokenizerTrainingConfig

    _train(ImageTokenizerTraining, read_config(ImageTokenizerTrainingConfig, settings or []))


@app.command()
def scene_pool(settings: Settings = None) -> None:
    """Encode training scenes once, so that pre-training reads codes (minutes)."""
    from showo_turbo.checkpoints.image_tokenizer import load_image_tokenizer
    from showo_turbo.checkpoints.loading import locate
    from showo_turbo.checkpoints.names import IMAGE_TOKENIZER, SHIPPED_MODELS, resolve
    from showo_turbo.config_reader import read_config
    from showo_turbo.scenes.pool import ScenePoolConfig, build_scene_pool

    config = read_config(ScenePoolConfig, settings or [])
    name = config.image_tokenizer
    folder = locate(name).image_tokenizer if name in SHIPPED_MODELS else resolve(name, IMAGE_TOKENIZER)
    build_scene_pool(Path(config.output), load_image_tokenizer(folder), config.count, config.seed)


@app.command()
def showo(settings: Settings = None) -> None:
    """Pre-train the transformer: masked image codes and next-token answers (hours)."""
    from showo_turbo.config_reader import read_config
    from showo_turbo.pretraining.showo_pretraining import ShowoPretraining, ShowoPretrainingConfig

    _train(ShowoPretraining, read_config(ShowoPretrainingConfig, settings or []))


@app.command()
def assemble(settings: Settings = None) -> None:
    """Put the trained parts into one folder that loads by its path (seconds)."""
    from showo_turbo.config_reader import read_config
    from showo_turbo.pretraining import assemble as assembly

    assembly.assemble(read_config(assembly.AssemblyConfig, settings or []))


def _train(task: "Callable[[Any], Task]", config: Any) -> None:
    """Run what a config with a `loop` makes, in a folder that is of just that config."""
    from showo_turbo.training.loop import check_or_write_run_manifest, train

    check_or_write_run_manifest(config.loop, asdict(config), "a model")
    train(task(config), config.loop)
