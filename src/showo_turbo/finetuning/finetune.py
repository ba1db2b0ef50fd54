"""The entry point of a fine-tuning: checks of the whole configuration first, then the training."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from showo_turbo.data import DialogueSample, check_sources
from showo_turbo.errors import InputError
from showo_turbo.extras import require_module
from showo_turbo.finetuning.base_model import base_digests, check_base, open_base
from showo_turbo.finetuning.finetuning_config import FinetuningConfig
from showo_turbo.finetuning.loaders import open_loaders, sheet_prompts
from showo_turbo.finetuning.terms import Terms
from showo_turbo.models.showo import Showo
from showo_turbo.pipelines.pipeline import ShowoPipeline
from showo_turbo.training.adapters import merge_adapters, prepare_model, require_peft, save_adapter
from showo_turbo.training.before_training import (
    check_environment,
    check_optimizer,
    check_or_write_run_manifest,
    set_num_threads,
)
from showo_turbo.training.export import export_pipeline
from showo_turbo.training.loop import train
from showo_turbo.training.processes import errors_of_lost_processes, lock_output, process_state
from showo_turbo.training.sample_sheet import write_sample_sheet
from showo_turbo.training.sample_sources import KINDS, SampleSources
from showo_turbo.training.supervised_batches import dialogue_row
from showo_turbo.training.supervised_task import SupervisedTask
from showo_turbo.training.validations import BEST_FOLDER

_SHEET_PROMPTS = 8


def check_finetuning(config: FinetuningConfig) -> None:
    """Check names, sources and the environment of a fine-tuning before any computation.

    Raises:
        InputError: if a source, the model or the vision tower that dialogues need is missing, or the `train` extra is
            not installed.
    """
    require_module("matplotlib.figure", "the loss curve of a training")
    if config.lora.rank:
        require_peft()
    if config.loop.sharding != "none" and config.optimizer.name != "adamw":
        raise InputError(
            f"loop.sharding is {config.loop.sharding!r}, for which optimizer.name is to be 'adamw', not "
            f"{config.optimizer.name!r}: choose it, or leave out loop.sharding"
        )
    check_base(config)
    for samples, kind in KINDS.items():
        if kind in config.kinds:
            check_sources(getattr(config, kind), samples)
            if held_out := getattr(config.validation, kind):
                check_sources(held_out, samples)
    check_environment(config.loop)  # initializes accelerate, which `process_state` needs
    check_optimizer(config.optimizer.name)


def finetune(config: FinetuningConfig) -> Path:
    """Fine-tune a model, from the newest checkpoint if the output folder holds one; return the folder of the model.

    With validation, it is the model with the lowest loss of held-out samples.

    Raises:
        InputError: as `check_finetuning`, if the folder holds a run of other settings, or another process writes it.
        TrainingStopped: if a signal stops it, after a checkpoint is written.
    """
    check_finetuning(config)
    output = Path(config.output)
    seed = config.loop.seed if config.seed is None else config.seed
    config = replace(config, loop=replace(config.loop, output=config.output, seed=seed))
    with errors_of_lost_processes(), lock_output(output):
        _run(config, output)
    process_state().destroy_process_group()
    return (output / BEST_FOLDER if config.loop.validation_steps else output) / "model"


def _run(config: FinetuningConfig, output: Path) -> None:
    set_num_threads(config.loop)
    pipe = open_base(config, process_state().device)
    tower = pipe.vision_tower
    image_length = pipe.model.config.num_vq_tokens if tower is None else tower.num_features

    def dialogue_length(sample: DialogueSample) -> int:
        return len(dialogue_row(pipe.prompts, [0] * image_length, sample)[0])

    sources = SampleSources(config, config.loop.seed, pipe, output, dialogue_length, captions_need_codes=True)
    with closing(sources):
        settings = _settings(config) | {"model": base_digests(config)}
        check_or_write_run_manifest(
            config.loop, settings | sources.settings(config.kinds), "a model", sources.digests(config.kinds)
        )
        loaders = open_loaders(config, sources)
        prompts = sheet_prompts(config, loaders, _SHEET_PROMPTS)
        terms = Terms(config, pipe)
        prepare_model(pipe.model, config.lora, config.gradient_checkpointing, config.loop.seed)
        if "edits" in config.kinds:
            pipe.model.config = replace(pipe.model.config, edits_images=True)
        if pipe.vision_tower is not None and "dialogues" in config.kinds and not config.lora.rank:
            pipe.model.mm_projector.requires_grad_(True)
        task = SupervisedTask(
            pipe.model,
            pipe.prompts.vocabulary,
            {kind: terms.build(kind, one) for kind, one in loaders.items()},
            config.optimizer,
            partial(_export, config, pipe, prompts),
            partial(_draw_samples, pipe, prompts),
        )
        train(task, config.loop)


def _export(config: FinetuningConfig, pipe: ShowoPipeline, prompts: Sequence[str], model: Showo, folder: Path) -> None:
    """Write a checkpoint with float16 weights, the adapter if there is one, a sample sheet and the loss curves."""
    if config.lora.rank:
        save_adapter(folder / "adapter", model, config.lora, config.base)
    export_pipeline(folder, _with_model(pipe, model), prompts)


def _draw_samples(pipe: ShowoPipeline, prompts: Sequence[str], model: Showo, file: Path) -> None:
    """Write a sample sheet, if there are prompts and an image tokenizer."""
    if pipe.image_tokenizer is not None and prompts:
        write_sample_sheet(file, _with_model(pipe, model), prompts)


def _with_model(pipe: ShowoPipeline, model: Showo) -> ShowoPipeline:
    """Return a pipeline of a trained model; the description of the base's small world is not that of the model."""
    return replace(pipe, model=merge_adapters(model), known_world=None)


def _settings(config: FinetuningConfig) -> dict[str, Any]:
    """Return the settings that determine the weights, besides model, sources and loop."""
    settings = asdict(config)
    others = ("model", "output", *KINDS.values(), "loop", "sheet_prompts", "gradient_checkpointing", "num_workers")
    if not config.loop.validation_steps:
        others += ("validation",)
    return {name: value for name, value in settings.items() if name not in (*others, "seed")}
