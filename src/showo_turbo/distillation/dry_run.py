"""Estimate what a distillation takes on this machine, from the sizes of its models and one measured forward pass.

weights, gradients, two moments and EMA of the student, weights of the teacher, activations   -> memory
positions that the teacher and the student compute / positions per second of the teacher      -> time
"""

import time
from collections.abc import Iterator

import torch

from showo_turbo.checkpoints.loading import locate
from showo_turbo.distillation.config import DistillationConfig, Stage
from showo_turbo.distillation.stages import check_distillation
from showo_turbo.pipelines.pipeline import ShowoPipeline

_PROMPT_LENGTH = 24
_STUDENT_FORWARDS = 4
"""Forward passes that a training position costs: one with its gradient, which takes two more, and one of the target."""

_TEXT_PASSES = 6
"""Forward passes of the text teacher until a block of an answer settles, about."""

_VALUES_PER_ACTIVATION = 40
"""Numbers of hidden_size that a layer stores for the gradient of a position, about."""

GIB = 2**30


def dry_run(config: DistillationConfig) -> Iterator[str]:
    """Check a distillation and yield lines on its stages, samples, time and memory; nothing is written.

    Raises:
        InputError: as `stages.distill`.
    """
    check_distillation(config)
    teacher = config.teacher
    pipe = ShowoPipeline.from_pretrained(
        teacher,
        dtype=config.dtype,
        image_tokenizer=config.image_tokenizer,
        text_tokenizer=config.text_tokenizer,
    )
    codes = locate(teacher, config.image_tokenizer, config.text_tokenizer).config.num_vq_tokens
    speed = _positions_per_second(pipe, _PROMPT_LENGTH + codes)
    total = 0.0
    yield f"teacher {teacher}: {_parameters(pipe) / 1e6:.1f} M parameters, {speed:,.0f} positions/s on {pipe.device}"
    for stage in config.stages:
        loop, rollouts = stage.loop, stage.trajectories.count
        samples = loop.steps * loop.gradient_accumulation_steps * stage.samples_per_batch
        seconds = _positions(stage, codes) / speed
        total += seconds
        stored = f"{rollouts:,} stored rollouts" if rollouts else "new rollouts for every batch"
        yield (
            f"stage {stage.name}: {loop.steps:,} steps, {samples:,} samples per process, {stored}; "
            f"about {_duration(seconds)}, {_memory(pipe, stage, codes) / GIB:.1f} GiB"
        )
    yield f"in all: about {_duration(total)} in one process; rough, and longer beside other work"


def _positions_per_second(pipe: ShowoPipeline, length: int, batch: int = 8) -> float:
    """Measure how many positions the teacher computes in a second."""
    ids = torch.zeros(batch, length, dtype=torch.long, device=pipe.device)
    with torch.inference_mode():
        pipe.model(ids).sum().item()  # the first pass is slower
        start = time.perf_counter()
        pipe.model(ids).sum().item()
    return batch * length / (time.perf_counter() - start)


def _positions(stage: Stage, codes: int) -> float:
    """Return the positions that one process computes in a stage, of forward passes like the measured one."""
    image, text, language, loop = stage.image, stage.text, stage.language, stage.loop
    batches = loop.steps * loop.gradient_accumulation_steps
    positions = 0.0
    if image.weight:
        length = _PROMPT_LENGTH + codes
        rollout = image.num_inference_steps * image.teacher_sequences * length
        rollouts = stage.trajectories.count or batches * image.batch_size
        positions += rollouts * rollout + batches * image.batch_size * _STUDENT_FORWARDS * length
        if image.distribution_matching.weight:
            draws, teacher = image.distribution_matching.mean_steps, 2 if image.guidance_scale else 1
            positions += batches * image.batch_size * (draws + teacher + 2 * _STUDENT_FORWARDS) * length
    if text.weight:
        length = _PROMPT_LENGTH + codes + text.max_new_tokens
        answers = stage.trajectories.num_dialogues or batches * text.batch_size
        blocks = text.max_new_tokens // text.block_length
        positions += answers * (length + blocks * _TEXT_PASSES * text.block_length)
        positions += batches * text.batch_size * _STUDENT_FORWARDS * length
    if language.weight:
        positions += batches * language.batch_size * _STUDENT_FORWARDS * language.max_length
    return positions


def _memory(pipe: ShowoPipeline, stage: Stage, codes: int) -> float:
    """Return bytes: weights and optimizer of the student, the teacher, and activations of a batch."""
    own = sum(weight.numel() * weight.element_size() for weight in pipe.model.parameters())
    trained = _parameters(pipe)
    if stage.lora.rank:
        trained = trained * stage.lora.rank // pipe.model.showo.config.hidden_size
    student = 4 * (2 * _parameters(pipe) + 3 * trained)
    if stage.image.distribution_matching.weight:  # the score is as large
        student *= 2
    lengths = (
        (stage.image, _PROMPT_LENGTH + codes),
        (stage.text, _PROMPT_LENGTH + codes + stage.text.max_new_tokens),
        (stage.language, stage.language.max_length),
    )
    rows = max(term.batch_size * length for term, length in lengths if term.weight)
    sizes = pipe.model.showo.config
    layers = 1 if stage.gradient_checkpointing else sizes.num_hidden_layers
    return own + student + 4 * rows * (sizes.hidden_size * _VALUES_PER_ACTIVATION * layers + 3 * sizes.vocab_size)


def _parameters(pipe: ShowoPipeline) -> int:
    return sum(weight.numel() for weight in pipe.model.parameters())


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
