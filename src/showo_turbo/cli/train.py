"""`showo-turbo pretrain`, `finetune`, `distill`: the embedded default from nothing, own data, students of a teacher.

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

Settings = Annotated[
    list[str] | None, typer.Argument(metavar="KEY=VALUE...", help="Settings; config=FILE reads a YAML file first.")
]


@pretrain.command()
def text_tokenizer(settings: Settings = None) -> None:
    """Train the text tokenizer on the captions and questions of the built-in world (seconds).

    \b
    Keys: world, output, vocab_size, normalize, scenes, seed.

    \b
    Example: showo-turbo pretrain text-tokenizer output=runs/my/text
    """
    from showo_turbo.config_reader import read_config
    from showo_turbo.pretraining.text_tokenizer_training import TextTokenizerTrainingConfig, train_text_tokenizer

    train_text_tokenizer(read_config(TextTokenizerTrainingConfig, settings or []))


@pretrain.command()
def image_tokenizer(settings: Settings = None) -> None:
    """Train the MAGVIT-v2 image tokenizer on rendered scenes (minutes).

    \b
    Keys:
      loop               {output, steps, seed, warmup_steps, log_steps, ...}
      model              sizes, as in a MAGVIT-v2 config.json
      world, batch_size, lr, muon_lr, mse_weight, commitment_weight,
      entropy_weight, perceptual_weight, gan_weight, latent_batch_norm,
      max_noise, decoder_only, init_from

    \b
    Example:
      showo-turbo pretrain image-tokenizer \\
        config=configs/tiny/image_tokenizer.yaml loop.output=runs/my/image
    """
    from showo_turbo.config_reader import read_config
    from showo_turbo.pretraining.image_tokenizer_training import ImageTokenizerTraining, ImageTokenizerTrainingConfig

    _train(ImageTokenizerTraining, read_config(ImageTokenizerTrainingConfig, settings or []))


@pretrain.command()
def scene_pool(settings: Settings = None) -> None:
    """Encode training scenes once, so that pre-training reads codes (minutes).

    \b
    Keys: world, output, image_tokenizer, count, seed.

    \b
    Example:
      showo-turbo pretrain scene-pool image_tokenizer=tiny count=2000 \\
        output=pool.safetensors
    """
    from showo_turbo.checkpoints.image_tokenizer import load_image_tokenizer
    from showo_turbo.checkpoints.loading import locate_image_tokenizer
    from showo_turbo.config_reader import read_config
    from showo_turbo.scenes.pool import ScenePoolConfig, build_scene_pool
    from showo_turbo.scenes.worlds import find_world

    config = read_config(ScenePoolConfig, settings or [])
    image_tokenizer = load_image_tokenizer(locate_image_tokenizer(config.image_tokenizer))
    build_scene_pool(Path(config.output), image_tokenizer, config.count, config.seed, find_world(config.world))


@pretrain.command()
def showo(settings: Settings = None) -> None:
    """Pre-train the transformer: masked image codes and next-token answers (hours).

    \b
    Keys:
      loop               {output, steps, seed, warmup_steps, log_steps, ...}
      optimizer          {name, lr, muon_lr, betas, weight_decay}
      text_tokenizer, scene_pool, num_vq_tokens, codebook_size, hidden_size,
      intermediate_size, num_hidden_layers, num_attention_heads,
      max_position_embeddings, max_text_length, text_to_image_batch_size,
      understanding_batch_size, questions_per_picture, condition_dropout,
      pair_share, known_share, understanding_weight, init_from

    \b
    Example:
      showo-turbo pretrain showo config=configs/tiny/showo.yaml loop.steps=9000
    """
    from showo_turbo.config_reader import read_config
    from showo_turbo.pretraining.showo_pretraining import ShowoPretraining, ShowoPretrainingConfig

    _train(ShowoPretraining, read_config(ShowoPretrainingConfig, settings or []))


@pretrain.command()
def assemble(settings: Settings = None) -> None:
    """Collect the trained components in one folder that loads by its path (seconds).

    \b
    Keys: output, showo, mean_of, image_tokenizer, sampling, world.

    \b
    Example: showo-turbo pretrain assemble config=configs/tiny/model.yaml
    """
    from showo_turbo.config_reader import read_config
    from showo_turbo.pretraining import assemble as assembly

    assembly.assemble(read_config(assembly.AssemblyConfig, settings or []))


def finetune(
    settings: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[image-tokenizer] KEY=VALUE...",
            help="Settings; config=FILE reads a YAML file first. After `image-tokenizer`, that is what is trained.",
        ),
    ] = None,
) -> None:
    """Fine-tune a model on your own captioned images, dialogues, texts and edits (minutes to hours).

    \b
    Keys (docs/tutorials/finetune.md describes them):
      model, output        what to adapt, and the folder of the run
      architecture         sizes of a model from random weights, in place of model
      captions             images with captions: [{kind: image_folder, path: my.jsonl}]
      dialogues, texts     questions about images; plain texts
      edits                image, instruction, image: [{kind: edit_pairs, path: my.jsonl}]
      lora                 {rank, alpha, targets}: adapters in place of all weights
      loop                 {steps, warmup_steps, validation_steps, patience, ...}
      validation           {held_out, samples, captions, dialogues, texts, edits}
      optimizer            {name, lr, muon_lr, betas, weight_decay}
      captions_batch_size, dialogues_batch_size, texts_batch_size,
      edits_batch_size, captions_weight, dialogues_weight, texts_weight,
      edits_weight, condition_dropout, known_share, max_text_length, sheet_prompts,
      gradient_checkpointing, seed, num_workers, image_tokenizer,
      text_tokenizer, vision_tower

    \b
    Keys of `finetune image-tokenizer`:
      pictures             folders with pictures: [my/pictures]
      image_tokenizer      a shipped model, a folder or a hub name
      loop                 {output, steps, validation_steps, ...}
      resolution, held_out, decoder_only, batch_size, lr, muon_lr,
      mse_weight, commitment_weight, entropy_weight, perceptual_weight,
      gan_weight, max_noise, num_workers

    \b
    Examples:
      showo-turbo finetune config=configs/finetune_lora.yaml output=runs/mine
      showo-turbo finetune image-tokenizer pictures=[my/pictures] \\
        loop.output=runs/my/image_tokenizer
    """
    if settings and settings[0] == "image-tokenizer":
        _finetune_image_tokenizer(settings[1:])
        return
    from showo_turbo.config_reader import read_config
    from showo_turbo.finetuning.finetune import finetune as run
    from showo_turbo.finetuning.finetuning_config import FinetuningConfig

    config = read_config(FinetuningConfig, settings or [])
    with _exit_when_stopped():
        model = run(config)
    typer.echo(f"model: {model}")


def _finetune_image_tokenizer(settings: list[str]) -> None:
    from showo_turbo.config_reader import read_config
    from showo_turbo.finetuning.image_tokenizer_finetuning import (
        ImageTokenizerFinetuningConfig,
        finetune_image_tokenizer,
    )

    config = read_config(ImageTokenizerFinetuningConfig, settings)
    with _exit_when_stopped():
        model = finetune_image_tokenizer(config)
    typer.echo(f"image tokenizer: {model}")


def distill(
    settings: Settings = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Check the settings and print stages, samples, estimated time and memory; write nothing."
        ),
    ] = False,
) -> None:
    """Distill a teacher's image and text trajectories into a student that takes fewer steps (hours).

    \b
    Keys (docs/distillation.md describes them):
      output               folder of the run, with a folder for every stage
      teacher, student     a shipped model, a folder or a hub name
      captions             prompts: [{kind: image_folder, path: my.jsonl}]
      dialogues, texts     questions about images; plain texts
      stages               [{name, teacher, student, teacher_share,
                           num_latents, loop, optimizer, image, text,
                           language, trajectories, average_target, lora,
                           gradient_checkpointing, shard_teacher,
                           sampling}, ...]
      seed, dtype          seed of all stages; precision of the teacher
      num_workers          processes that read samples
      image_tokenizer      for a teacher without its own
      text_tokenizer       likewise

    \b
    Examples:
      showo-turbo distill config=configs/own_data.yaml --dry-run
      showo-turbo distill config=configs/own_data.yaml output=runs/mine
    """
    from showo_turbo.config_reader import read_config
    from showo_turbo.distillation.config import DistillationConfig
    from showo_turbo.distillation.stages import distill as run_stages

    config = read_config(DistillationConfig, settings or [])
    if dry_run:
        from showo_turbo.distillation.dry_run import dry_run as estimate

        for line in estimate(config):
            typer.echo(line)
        return
    with _exit_when_stopped():
        student = run_stages(config)
    typer.echo(f"student: {student}")


def _train(task: "Callable[[Any], Task]", config: Any) -> None:
    """Train the task of a config in a folder that is for this config only."""
    from showo_turbo.data.digests import digest
    from showo_turbo.training.before_training import check_environment, check_or_write_run_manifest
    from showo_turbo.training.loop import train
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
