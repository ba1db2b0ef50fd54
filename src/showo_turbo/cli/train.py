"""`showo-turbo pretrain`, `distill`: the embedded default from nothing, and students of a teacher.

    pretrain: text-tokenizer -> image-tokenizer -> scene-pool -> showo -> assemble

Every command takes `key=value` settings, among them `config=FILE`. Training resumes from its last checkpoint. A
training that a signal stops says how to resume it; its exit status is 128 and the number of the signal, as of a shell.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from showo_turbo.training.task import Task

pretrain = typer.Typer(no_args_is_help=True, help="Train the embedded default from nothing on rendered scenes.")

Settings = Annotated[list[str] | None, typer.Argument(help="key=value settings; config=FILE reads a YAML file first.")]


@pretrain.command()
def text_tokenizer(settings: Settings = None) -> None:
    """Train the text tokenizer on the captions and questions of the built-in world (seconds)."""
    from showo_turbo.config_reader import read_config
    from showo_turbo.pretraining.text_tokenizer_training import TextTokenizerTrainingConfig, train_text_tokenizer

    train_text_tokenizer(read_config(TextTokenizerTrainingConfig, settings or []))


@pretrain.command()
def image_tokenizer(settings: Settings = None) -> None:
    """Train the MAGVIT-v2 image tokenizer on rendered scenes (minutes)."""
    from showo_turbo.config_reader import read_config
    from showo_turbo.pretraining.image_tokenizer_training import ImageTokenizerTraining, ImageTokenizerTrainingConfig

    _train(ImageTokenizerTraining, read_config(ImageTokenizerTrainingConfig, settings or []))


@pretrain.command()
def scene_pool(settings: Settings = None) -> None:
    """Encode training scenes once, so that pre-training reads codes (minutes)."""
    from showo_turbo.checkpoints.image_tokenizer import load_image_tokenizer
    from showo_turbo.checkpoints.loading import locate
    from showo_turbo.checkpoints.names import IMAGE_TOKENIZER, SHIPPED_MODELS, resolve
    from showo_turbo.config_reader import read_config
    from showo_turbo.scenes.pool import ScenePoolConfig, build_scene_pool
    from showo_turbo.scenes.worlds import find_world

    config = read_config(ScenePoolConfig, settings or [])
    name = config.image_tokenizer
    shipped = locate(name).image_tokenizer if name in SHIPPED_MODELS else None
    image_tokenizer = load_image_tokenizer(shipped or resolve(name, IMAGE_TOKENIZER))
    build_scene_pool(Path(config.output), image_tokenizer, config.count, config.seed, find_world(config.world))


@pretrain.command()
def showo(settings: Settings = None) -> None:
    """Pre-train the transformer: masked image codes and next-token answers (hours)."""
    from showo_turbo.config_reader import read_config
    from showo_turbo.pretraining.showo_pretraining import ShowoPretraining, ShowoPretrainingConfig

    _train(ShowoPretraining, read_config(ShowoPretrainingConfig, settings or []))


@pretrain.command()
def assemble(settings: Settings = None) -> None:
    """Collect the trained components in one folder that loads by its path (seconds)."""
    from showo_turbo.config_reader import read_config
    from showo_turbo.pretraining import assemble as assembly

    assembly.assemble(read_config(assembly.AssemblyConfig, settings or []))


def distill(settings: Settings = None) -> None:
    """Distill a teacher's image and text trajectories into a student that takes fewer steps (hours)."""
    from showo_turbo.config_reader import read_config
    from showo_turbo.distillation.config import DistillationConfig
    from showo_turbo.distillation.stages import distill as run_stages

    config = read_config(DistillationConfig, settings or [])
    with _exit_when_stopped():
        student = run_stages(config)
    typer.echo(f"student: {student}")


def _train(task: "Callable[[Any], Task]", config: Any) -> None:
    """Train the task of a config in a folder that is for this config only."""
    from showo_turbo.data.digests import digest
    from showo_turbo.training.loop import check_environment, check_or_write_run_manifest, train
    from showo_turbo.training.processes import lock_output

    check_environment(config.loop)
    with _exit_when_stopped(), lock_output(Path(config.loop.output)):
        settings = asdict(config)
        paths = {key: Path(value) for key, value in settings.items() if value and isinstance(value, str)}
        data = {f"{key} {path}": digest([path]) for key, path in paths.items() if path.exists()}
        check_or_write_run_manifest(config.loop, settings, "a model", data)
        train(task(config), config.loop)


@contextmanager
def _exit_when_stopped() -> Iterator[None]:
    """Exit if a signal stops the training in the block; the main process says how to resume it."""
    from showo_turbo.interruption import TrainingStopped

    try:
        yield
    except TrainingStopped as stopped:
        if str(stopped):
            typer.echo(str(stopped), err=True)
        raise typer.Exit(128 + stopped.signal) from None
