"""The stages of a distillation, in order: checks of the whole configuration first, then one training run per stage."""

from contextlib import ExitStack, closing, nullcontext
from copy import deepcopy
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from showo_turbo.checkpoints.loading import CheckpointFiles, locate
from showo_turbo.checkpoints.weights import average_weights
from showo_turbo.data import CaptionSample, DialogueSample, TextSample, check_sources
from showo_turbo.distillation.config import ORIGINAL, PREVIOUS, DistillationConfig, Stage
from showo_turbo.distillation.consistency_task import ConsistencyTask
from showo_turbo.distillation.distribution_matching_task import DistributionMatchingTask
from showo_turbo.distillation.latents import add_latents
from showo_turbo.distillation.loss_terms import OnPolicy
from showo_turbo.distillation.on_policy import OnPolicyRollouts
from showo_turbo.distillation.rollouts import dialogue_ids
from showo_turbo.distillation.sharded_teacher import shard_teacher
from showo_turbo.distillation.trajectory_sources import (
    FreshTrajectories,
    ImageRollouts,
    StoredTrajectories,
    check_or_write_trajectory_manifest,
    missing_files,
    write_missing_files,
)
from showo_turbo.errors import InputError
from showo_turbo.extras import require_module
from showo_turbo.generation.scheduler import UnmaskingScheduler
from showo_turbo.pipelines.pipeline import ShowoPipeline
from showo_turbo.training.adapters import prepare_model, require_peft
from showo_turbo.training.before_training import (
    check_environment,
    check_optimizer,
    check_or_write_run_manifest,
    set_num_threads,
)
from showo_turbo.training.loop import train
from showo_turbo.training.processes import (
    broadcast_from_main,
    errors_of_lost_processes,
    lock_output,
    process_state,
    uses_deepspeed,
)
from showo_turbo.training.sample_sources import SampleSources
from showo_turbo.training.state import newest_step

TERMS = ((CaptionSample, "captions", "image"), (DialogueSample, "dialogues", "text"), (TextSample, "texts", "language"))
"""Class of samples, config key of its sources, and the term of the loss that uses them."""


def check_distillation(config: DistillationConfig) -> None:
    """Check names, teachers, sources and the environment of a distillation before any computation.

    Raises:
        InputError: if a source or a teacher is missing or does not fit, or the `train` extra is not installed.
    """
    require_module("matplotlib.figure", "the loss curve of a distillation")
    names = {name for stage in config.stages for name in (stage.teacher, stage.student, stage.text.teacher)}
    names |= {config.teacher, config.student}
    for name in sorted(name for name in names if name is not None and name not in (PREVIOUS, ORIGINAL)):
        locate(name, config.image_tokenizer, config.text_tokenizer)
    _check_teachers(config)
    _check_not_extended(config)
    for samples, kind, term in TERMS:
        if any(getattr(stage, term).weight for stage in config.stages):
            check_sources(getattr(config, kind), samples)
    for stage in config.stages:
        if stage.loop.sharding != "none" and (stage.average_target or stage.optimizer.name != "adamw"):
            raise InputError(
                f"stage {stage.name!r}: loop.sharding is {stage.loop.sharding!r}, which needs the optimizer adamw and "
                "the student as its own target: set optimizer.name to adamw and average_target to false, or leave out "
                "loop.sharding"
            )
    for stage in config.stages:  # initializes accelerate, which `process_state` needs
        check_environment(stage.loop)
        check_optimizer(stage.optimizer.name)
        unsupported = {
            "average_target is true": stage.average_target,
            "image.distribution_matching has a weight": stage.image.distribution_matching.weight,
        }
        for setting, is_set in unsupported.items():
            if uses_deepspeed() and is_set:
                raise InputError(
                    f"stage {stage.name!r}: {setting}, which a training by DeepSpeed does not support: leave it out, "
                    "or start it without DeepSpeed"
                )
        if stage.lora.rank:
            require_peft()


def distill(config: DistillationConfig) -> Path:
    """Run all stages, each from its newest checkpoint; return the folder of the last student.

    Raises:
        InputError: as `check_distillation`, or if another process writes the folder of a stage; before any computation.
    """
    check_distillation(config)
    student: str | Path = config.student or config.teacher
    with ExitStack() as locks, errors_of_lost_processes():
        for stage in config.stages:
            locks.enter_context(lock_output(Path(config.output) / stage.name))
        for stage in config.stages:
            student = _run_stage(config, stage, student)
    process_state().destroy_process_group()
    assert isinstance(student, Path)  # there is at least one stage
    return student


def _check_teachers(config: DistillationConfig) -> None:
    """Check that the sampling options and loss terms of each stage fit its teacher.

    Raises:
        InputError: if they do not.
    """
    previous: str | Path = config.student or config.teacher
    for stage in config.stages:
        teacher = _resolve_name(config, stage.teacher, previous)
        model = locate(teacher, config.image_tokenizer, config.text_tokenizer).config
        if model.w_clip_vit and stage.text.weight:
            raise InputError(
                f"stage {stage.name!r}: {teacher!r} answers by CLIP features (w_clip_vit), for which there is no text "
                "term: set text.weight to 0, or choose a teacher that reads images as codes"
            )
        if stage.image.label_size is not None and not 1 <= stage.image.label_size <= model.codebook_size:
            raise InputError(
                f"stage {stage.name!r}: image.label_size is {stage.image.label_size}; choose 1 to "
                f"{model.codebook_size} (the codebook's size), or leave it out"
            )
        options = [stage.sampling]
        if stage.image.weight:
            options += [stage.image.teacher_sampling, stage.image.sampled_teacher_sampling]
        if stage.image.weight and stage.image.on_policy.prompts:
            options.append(stage.image.student_sampling)
        if stage.image.distribution_matching.weight:
            options += stage.image.distribution_matching.samplings(stage.sampling)
        for sampling in options:  # a scheduler refuses invalid options
            UnmaskingScheduler.from_options(sampling, model.codebook_size, model.num_vq_tokens)
        previous = teacher  # a student has the codebook of its teacher


def _check_not_extended(config: DistillationConfig) -> None:
    """Refuse to extend a stage that a later stage was trained from."""
    for stage, following in pairwise(config.stages):
        done, started = (newest_step(Path(config.output) / one.name / "checkpoints") for one in (stage, following))
        depends = PREVIOUS in (following.teacher, following.student, following.text.teacher)
        if done is not None and started is not None and depends and done < stage.loop.steps:
            raise InputError(
                f"stage {stage.name!r} would be extended to {stage.loop.steps} steps, but {following.name!r} was "
                f"trained from it at step {done}: choose another output, or remove the folder of {following.name!r}"
            )


def _run_stage(config: DistillationConfig, stage: Stage, previous: str | Path) -> Path:
    """Run a stage from its newest checkpoint; return the folder of its student."""
    output = Path(config.output) / stage.name
    seed = stage.loop.seed if config.seed is None else config.seed
    stage = replace(stage, loop=replace(stage.loop, output=str(output), seed=seed))
    set_num_threads(stage.loop)  # before the rollouts of the teachers

    text_teacher_name = stage.text.teacher or stage.teacher
    names = dict.fromkeys((stage.teacher, text_teacher_name))  # in the same order in all processes
    models = {name: _load_teacher(config, stage, name, previous) for name in names}
    files, teacher = models[stage.teacher]
    text_files, text_teacher = models[text_teacher_name]
    initial_files, initial = _load(config, stage.student or stage.teacher, previous, "float32", process_state().device)
    for name, pipe in ((stage.text.teacher, text_teacher), (stage.student, initial)):
        _check_same_codes(name, pipe, teacher)
    if stage.teacher_share:
        own, others = initial.model.config.num_latents, teacher.model.config.num_latents
        if own != others:
            raise InputError(
                f"stage {stage.name!r}: teacher_share is {stage.teacher_share}, but {stage.student!r} has {own} "
                f"latents and its teacher {others}: leave out teacher_share, or take an earlier student"
            )
        shares = [1 - stage.teacher_share, stage.teacher_share]
        average_weights(initial.model.state_dict(), [files.weights()], shares)
    add_latents(initial.model, stage.num_latents, teacher.prompts.vocabulary, seed)

    def dialogue_length(sample: DialogueSample) -> int:
        ids = dialogue_ids(teacher.prompts, [0] * teacher.model.config.num_vq_tokens, sample.turns)
        return len(ids) + stage.text.given_ids + stage.text.max_new_tokens

    sources = SampleSources(config, seed, teacher, output, dialogue_length, stage.image.known_share > 0)
    with closing(sources):
        digests = {one: one.weights_sha256() for one in {files, text_files, initial_files}}
        teacher_digests = {"teacher": digests[files], "text_teacher": digests[text_files]}
        used = [kind for _, kind, term in TERMS if getattr(stage, term).weight]
        settings = teacher_digests | {"student": digests[initial_files]} | sources.settings(used)
        settings |= _stage_settings(config, stage)
        check_or_write_run_manifest(stage.loop, settings, "a student", sources.digests(used))
        trajectories = _teacher_trajectories(stage, sources, text_teacher, teacher_digests)
        images: ImageRollouts = trajectories
        if stage.image.on_policy.prompts:
            captions = sources.open(CaptionSample, stage.image.on_policy.prompts, log="captions_on_policy")
            state = process_state()
            images = OnPolicyRollouts(
                teacher, captions, stage.image, seed, trajectories, state.process_index, state.num_processes
            )
        texts = sources.open(TextSample, stage.language.batch_size) if stage.language.weight else None
        student = prepare_model(initial.model, stage.lora, stage.gradient_checkpointing, seed)
        task = ConsistencyTask(stage, teacher, student, images, trajectories, texts)
        if stage.image.distribution_matching.weight:
            score = deepcopy(teacher.model).float()
            score = prepare_model(score, stage.lora, stage.gradient_checkpointing, seed)
            train(DistributionMatchingTask(task, score), stage.loop)
        else:
            train(task, stage.loop)
    return output / "model"


def _resolve_name(config: DistillationConfig, name: str, previous: str | Path) -> str | Path:
    """Return the model that a stage's "previous", "original" or other name stands for."""
    return {PREVIOUS: previous, ORIGINAL: config.teacher}.get(name, name)


def _load_teacher(
    config: DistillationConfig, stage: Stage, name: str, previous: str | Path
) -> tuple[CheckpointFiles, ShowoPipeline]:
    """Load a teacher of a stage; one that is sharded is never whole on the device."""
    state = process_state()
    if not stage.shard_teacher or state.num_processes == 1:
        return _load(config, name, previous, config.dtype, state.device)
    files, pipe = _load(config, name, previous, config.dtype, torch.device("cpu"))
    shard_teacher(pipe.model, state.device)
    return files, pipe.to(state.device)


def _load(
    config: DistillationConfig, name: str, previous: str | Path, dtype: str, device: torch.device
) -> tuple[CheckpointFiles, ShowoPipeline]:
    """Load a model of a stage; the students of earlier stages have their own tokenizers."""
    model = _resolve_name(config, name, previous)
    tokenizers = {}
    if not isinstance(model, Path):
        tokenizers = {"image_tokenizer": config.image_tokenizer, "text_tokenizer": config.text_tokenizer}
    pipe = ShowoPipeline.from_pretrained(model, device=device, dtype=dtype, **tokenizers)
    return locate(model, **tokenizers), pipe


def _check_same_codes(name: str | None, pipe: ShowoPipeline, teacher: ShowoPipeline) -> None:
    """Raise InputError unless a model has the id layout and image size of its stage's teacher."""
    own, expected = ((one.prompts.vocabulary, one.model.config.num_vq_tokens) for one in (pipe, teacher))
    if own != expected:
        raise InputError(
            f"{name!r} has {own[0]} and images of {own[1]} codes, its stage's teacher {expected[0]} and {expected[1]}"
        )


def _stage_settings(config: DistillationConfig, stage: Stage) -> dict[str, Any]:
    """Return the settings of a stage that determine its student, besides models and sources."""
    settings = asdict(stage)
    for name in ("name", "loop", "teacher", "student", "gradient_checkpointing", "shard_teacher"):
        del settings[name]
    del settings["text"]["teacher"], settings["trajectories"]["folder"]  # the digests identify the teachers
    return settings | {"dtype": config.dtype, "text_tokenizer": config.text_tokenizer}


def _teacher_trajectories(
    stage: Stage, sources: SampleSources, text_teacher: ShowoPipeline, teacher_digests: dict[str, dict[str, str]]
) -> FreshTrajectories | StoredTrajectories:
    """Return the teachers' trajectories: fresh ones, or stored ones, of which each process writes its slice."""
    files, state = stage.trajectories, process_state()
    stored = files.count > 0
    seed = files.seed if stored else stage.loop.seed
    image_batch_size = stage.image.teacher_batch_size or stage.image.batch_size
    image = replace(stage.image, batch_size=files.batch_size if stored else image_batch_size, on_policy=OnPolicy())
    text = replace(stage.text, batch_size=files.batch_size if stored else stage.text.batch_size)
    captions = dialogues = None
    if stage.image.weight and stage.image.teacher_batch_size:
        captions = sources.open(CaptionSample, image.batch_size, seed, sharded=not stored)
    if stage.text.weight:
        dialogues = sources.open(DialogueSample, text.batch_size, seed, sharded=not stored)
    fresh = FreshTrajectories(sources.pipe, text_teacher, captions, dialogues, image, text, seed)
    if not stored:
        return fresh
    folder = Path(files.folder) if files.folder else sources.output / "trajectories"
    origin = teacher_digests if files.folder else teacher_digests | sources.settings(("captions", "dialogues"))
    counts = (files.count, files.num_dialogues)
    complete = broadcast_from_main(not any(missing_files(folder, fresh, *counts).values()))
    with nullcontext() if complete else lock_output(folder):  # complete files are only read, by many runs at once
        digests = {} if files.folder else sources.digests(("captions", "dialogues"))
        check_or_write_trajectory_manifest(folder, fresh, origin, digests)
        write_missing_files(folder, fresh, *counts, state.process_index, state.num_processes)
        sources.close()  # the samples are in the files now
        state.wait_for_everyone()
    # The spelling of a seed must stay as it is, or runs are not reproducible across versions.
    order = f"{stage.loop.seed}/0"
    return StoredTrajectories(folder, image_batch_size, stage.text.batch_size, order, sources.pipe.model.config)
