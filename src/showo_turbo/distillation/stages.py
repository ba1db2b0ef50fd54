"""All stages of a distillation, one after the other."""

from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from accelerate import PartialState

from showo_turbo.checkpoints.loading import CheckpointFiles, locate
from showo_turbo.data import check_sources
from showo_turbo.distillation.consistency_task import Distillation
from showo_turbo.distillation.curriculum import ORIGINAL, PREVIOUS, DistillationConfig, Stage
from showo_turbo.distillation.on_policy import StudentTrajectories
from showo_turbo.distillation.streams import SOURCES, StageStreams
from showo_turbo.distillation.student import make_student
from showo_turbo.distillation.terms import OnPolicy
from showo_turbo.distillation.trajectory_sources import (
    FreshTrajectories,
    RollOuts,
    StoredTrajectories,
    claim_folder,
    make_files,
)
from showo_turbo.errors import InputError
from showo_turbo.pipelines.pipeline import ShowoPipeline
from showo_turbo.training.loop import check_environment, claim_run, train, use_threads
from showo_turbo.training.state import newest_step


def distill(config: DistillationConfig) -> Path:
    """Run all stages, each from its newest checkpoint; the folder of the last student.

    Raises:
        InputError: when a source or a teacher is missing or does not fit; before anything is computed.
    """
    named = {name for stage in config.stages for name in (stage.teacher, stage.student, stage.text.teacher)}
    for name in sorted((named | {config.teacher, config.student}) - {PREVIOUS, ORIGINAL, None}):
        locate(name, config.image_tokenizer, config.text_tokenizer)
    _check_models(config)
    _check_growth(config)
    for sources, kind, term in SOURCES:
        if any(getattr(stage, term).weight for stage in config.stages):
            check_sources(getattr(config, sources), kind)
    for stage in config.stages:  # also finds out what `PartialState` then knows: which process this is, and its device
        check_environment(stage.loop)
    student: str | Path = config.student or config.teacher
    for stage in config.stages:
        student = _run_stage(config, stage, student)
    PartialState().destroy_process_group()
    return student


def _check_models(config: DistillationConfig) -> None:
    """See that the codes of each stage can be drawn as its teacher is to and as its student is recommended to, and that
    who answers sees images as codes, as a student does.
    """
    previous = config.student or config.teacher
    for stage in config.stages:
        name = _meant(config, stage.teacher, previous)
        ids = locate(name, config.image_tokenizer, config.text_tokenizer).config
        if ids.w_clip_vit and stage.text.weight:
            raise InputError(
                f"stage {stage.name!r}: {name!r} answers by CLIP features (w_clip_vit), for which there is no text "
                "term: set text.weight to 0, or take a teacher that sees images as codes"
            )
        if stage.image.label_size is not None and not 1 <= stage.image.label_size <= ids.codebook_size:
            raise InputError(
                f"stage {stage.name!r}: image.label_size is {stage.image.label_size}; choose 1 to {ids.codebook_size} "
                "(the codebook's size), or leave it out"
            )
        drawing = [stage.sampling]
        if stage.image.weight:
            drawing.append(stage.image.sampling)
        if stage.image.weight and stage.image.on_policy.prompts:
            drawing.append(stage.image.own_sampling)
        for options in drawing:
            options.scheduler(ids.codebook_size, ids.num_vq_tokens)
        previous = name  # a student has the ids of its teacher


def _check_growth(config: DistillationConfig) -> None:
    """See that no student is to learn on from which another has begun already."""
    for stage, following in pairwise(config.stages):
        there, begun = (newest_step(Path(config.output) / one.name / "checkpoints") for one in (stage, following))
        depends = PREVIOUS in (following.teacher, following.student, following.text.teacher)
        if there is not None and begun is not None and depends and there < stage.loop.steps:
            raise InputError(
                f"stage {stage.name!r} is to go on to {stage.loop.steps} steps, but {following.name!r} has begun from "
                f"it at {there}: choose another output, or remove the folder of {following.name!r}"
            )


def _meant(config: DistillationConfig, name: str, previous: str | Path) -> str | Path:
    """What a stage's name for a model stands for."""
    return {PREVIOUS: previous, ORIGINAL: config.teacher}.get(name, name)


def _run_stage(config: DistillationConfig, stage: Stage, previous: str | Path) -> Path:
    """The folder of the stage's student."""
    output = Path(config.output) / stage.name
    seed = stage.loop.seed if config.seed is None else config.seed
    stage = replace(stage, loop=replace(stage.loop, output=str(output), seed=seed))
    use_threads(stage.loop)  # the teachers' trajectories come before the loop
    teachers = {
        name: _load(config, name, previous, config.dtype) for name in {stage.teacher, stage.text.teacher} - {None}
    }
    files, teacher = teachers[stage.teacher]
    text_files, text_teacher = teachers[stage.text.teacher or stage.teacher]
    start_files, start = _load(config, stage.student or stage.teacher, previous, "float32")
    for name, pipe in ((stage.text.teacher, text_teacher), (stage.student, start)):
        _check_same_ids(name, pipe, teacher)
    streams = StageStreams(config, stage, teacher, output)
    digests = {one: one.weights_sha256() for one in {files, text_files, start_files}}  # often one and the same
    weights = {"teacher": digests[files], "text_teacher": digests[text_files]}
    claim_run(stage.loop, _setting(streams, weights | {"student": digests[start_files]}), "a student")
    trajectories = _trajectories(streams, text_teacher, weights)
    roll_outs = _on_policy(streams, trajectories) if stage.image.on_policy.prompts else trajectories
    texts = streams.open("texts") if stage.language.weight else None
    student, number = make_student(start.model, stage), PartialState().process_index
    train(Distillation(stage, teacher, student, roll_outs, trajectories, texts, number), stage.loop)
    return output / "model"


def _setting(streams: StageStreams, weights: dict[str, dict[str, str]]) -> dict[str, Any]:
    """All that a stage's student follows from."""
    stage, config = asdict(streams.stage), streams.config
    for name in ("name", "loop", "teacher", "student", "gradient_checkpointing"):
        del stage[name]
    del stage["text"]["teacher"], stage["trajectories"]["folder"]  # digests say which models these are, whose they are
    sources = streams.described(*(name for name, _, term in SOURCES if getattr(streams.stage, term).weight))
    return weights | sources | stage | {"dtype": config.dtype, "text_tokenizer": config.text_tokenizer}


def _load(
    config: DistillationConfig, name: str, previous: str | Path, dtype: str
) -> tuple[CheckpointFiles, ShowoPipeline]:
    """A model of a stage: one that users name, or the student before."""
    chosen = _meant(config, name, previous)
    parts = (
        {}
        if isinstance(chosen, Path)
        else {
            "image_tokenizer": config.image_tokenizer,
            "text_tokenizer": config.text_tokenizer,
        }
    )
    device = PartialState().device
    return locate(chosen, **parts), ShowoPipeline.from_pretrained(chosen, device=device, dtype=dtype, **parts)


def _check_same_ids(name: str | None, pipe: ShowoPipeline, teacher: ShowoPipeline) -> None:
    ids, wanted = ((one.prompts.vocabulary, one.model.config.num_vq_tokens) for one in (pipe, teacher))
    if ids != wanted:
        raise InputError(
            f"{name!r} has {ids[0]} and images of {ids[1]} codes, its stage's teacher {wanted[0]} and {wanted[1]}"
        )


def _on_policy(streams: StageStreams, teacher_way: RollOuts) -> StudentTrajectories:
    stage = streams.stage
    captions = streams.open("captions", log="captions_own_way")
    return StudentTrajectories(streams.teacher, captions, stage.image, stage.loop.seed, teacher_way)


def _trajectories(
    streams: StageStreams, text_teacher: ShowoPipeline, weights: dict[str, dict[str, str]]
) -> FreshTrajectories | StoredTrajectories:
    """The teachers': new ones for every batch, or files, of which every process makes its share."""
    stage, state = streams.stage, PartialState()
    files, stored, teachers = stage.trajectories, stage.trajectories.count > 0, (streams.teacher, text_teacher)
    seed = files.seed if stored else stage.loop.seed
    teacher_draws = stage.image.weight and stage.image.teacher_roll_outs
    captions = streams.open("captions", seed, alone=stored) if teacher_draws else None
    dialogues = streams.open("dialogues", seed, alone=stored) if stage.text.weight else None
    roll_outs = stage.image.teacher_roll_outs or stage.image.batch_size  # of none, none are asked for
    terms = replace(stage.image, batch_size=roll_outs), stage.text
    if not stored:
        return FreshTrajectories(*teachers, captions, dialogues, *terms, seed)
    image = replace(stage.image, batch_size=files.batch_size, on_policy=OnPolicy())
    text = replace(stage.text, batch_size=files.batch_size)
    fresh = FreshTrajectories(*teachers, captions, dialogues, image, text, seed)
    folder = Path(files.folder) if files.folder else streams.output / "trajectories"
    made_of = weights if files.folder else weights | streams.described("captions", "dialogues")
    claim_folder(folder, fresh, made_of)
    make_files(folder, fresh, files.count, files.num_dialogues, state.process_index, state.num_processes)
    state.wait_for_everyone()
    return StoredTrajectories(folder, *terms, f"{stage.loop.seed}/{state.process_index}")
