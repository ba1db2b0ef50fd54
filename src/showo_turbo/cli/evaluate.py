"""`showo-turbo evaluate`: how good a model is on the built-in world, as tables and as JSON."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from showo_turbo.checkpoints.names import DEFAULT_MODEL
from showo_turbo.cli.files import check_outputs
from showo_turbo.cli.option_groups import SamplingArguments, with_options
from showo_turbo.cli.options import (
    DEFAULT_DTYPE,
    BlockLength,
    Decoding,
    Device,
    Dtype,
    Model,
    Overwrite,
    Quantization,
    load_pipeline,
)
from showo_turbo.errors import InputError
from showo_turbo.files import write_json
from showo_turbo.scenes.benchmark import benchmark_prompts
from showo_turbo.validation import check_integer, check_seed

if TYPE_CHECKING:
    from rich.table import Table

    from showo_turbo.evaluation.scene_questions import QuestionSet
    from showo_turbo.generation.options import DecodingOptions, SamplingOptions
    from showo_turbo.pipelines.pipeline import ShowoPipeline
    from showo_turbo.scenes.benchmark import ScenePrompt

TASKS = ("all", "text-to-image", "understanding", "reconstruction")


@with_options
def evaluate(
    options: SamplingArguments,
    model: Model = DEFAULT_MODEL,
    task: Annotated[str, typer.Option(help="all, text-to-image, understanding or reconstruction.")] = "all",
    images_per_prompt: Annotated[int, typer.Option(help="Pictures of every prompt.")] = 4,
    prompts_file: Annotated[
        Path | None, typer.Option(help="JSONL prompts in GenEval's format; the held-out set if left out.")
    ] = None,
    scenes: Annotated[int, typer.Option(help="Held-out pictures to ask about.")] = 300,
    decoding: Decoding = "jacobi",
    block_length: BlockLength = 16,
    seed: Annotated[int, typer.Option(help="Of the pictures drawn and of the questions asked.")] = 0,
    device: Device = None,
    dtype: Dtype = DEFAULT_DTYPE,
    quantization: Quantization = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="JSON file for scores and settings.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Judge a model on held-out prompts and pictures of the built-in world, with 95 % confidence intervals."""
    if task not in TASKS:
        raise InputError(f"task is {task!r}: choose {', '.join(TASKS)}")
    for name, value in (("images-per-prompt", images_per_prompt), ("scenes", scenes)):
        check_integer(name, value, 1)
    check_seed("seed", seed)
    if output is not None:
        check_outputs([output], overwrite)
    prompts = benchmark_prompts(prompts_file)

    from rich.console import Console

    from showo_turbo.evaluation import tables as report
    from showo_turbo.evaluation.scene_questions import make_question_set
    from showo_turbo.generation.options import DecodingOptions
    from showo_turbo.generation.scheduler import UnmaskingScheduler

    # Passes of plain blocks measure the model; how far window and drafts get depends on the texts.
    answering = DecodingOptions(decoding=decoding, block_length=block_length, sliding_window=False, drafts=False)
    pipe = load_pipeline(model, device, dtype, quantization)
    drawing = replace(pipe.recommended.with_steps(options.num_inference_steps), **options.given())
    UnmaskingScheduler.from_options(drawing, pipe.model.config.codebook_size, pipe.model.config.num_vq_tokens)

    plan = _Plan(model, prompts, drawing, images_per_prompt, make_question_set(scenes, seed), answering, seed)
    console, results = Console(), {}
    for name, result, table in _measure(pipe, plan, TASKS[1:] if task == "all" else (task,)):
        results[name] = result
        console.print(table)
    if output is not None:
        stamp = {
            **report.stamp(model, pipe, prompts),
            "sampling": asdict(drawing),
            "decoding": asdict(answering),
            "images_per_prompt": images_per_prompt,
            "scenes": scenes,
            "seed": seed,
        }
        write_json(output, {"stamp": stamp} | {name: asdict(result) for name, result in results.items()})


@dataclass(frozen=True)
class _Plan:
    """What is to be measured and how; the fields are those of `evaluate`."""

    model: str
    prompts: "list[ScenePrompt]"
    drawing: "SamplingOptions"
    images_per_prompt: int
    question_set: "QuestionSet"
    answering: "DecodingOptions"
    seed: int


def _measure(pipe: "ShowoPipeline", plan: _Plan, tasks: Sequence[str]) -> "Iterator[tuple[str, object, Table]]":
    """Each task's result, with the name it has in the JSON file and its table, as soon as it is there."""
    from showo_turbo.evaluation import tables as report
    from showo_turbo.evaluation.reconstruction import evaluate_reconstruction
    from showo_turbo.evaluation.scene_benchmark import evaluate_text_to_image, evaluate_understanding

    if "text-to-image" in tasks:
        drawn = evaluate_text_to_image(pipe, plan.prompts, plan.drawing, plan.images_per_prompt, plan.seed)
        title = _title(plan.model, plan.drawing, len(plan.prompts), plan.images_per_prompt)
        yield "text_to_image", drawn, report.text_to_image_table(title, drawn)
    if "understanding" in tasks:
        answered = evaluate_understanding(pipe, plan.question_set, plan.answering, plan.seed)
        title = f"{plan.model}: {len(plan.question_set.scenes)} held-out pictures, {plan.answering.decoding}"
        yield "understanding", answered, report.understanding_table(title, answered)
    if "reconstruction" in tasks:
        rebuilt = evaluate_reconstruction(pipe, plan.question_set.scenes)
        title = f"{plan.model}: scenes read without a fault by the detector"
        yield "reconstruction", rebuilt, report.reconstruction_table(title, rebuilt)


def _title(model: str, drawing: "SamplingOptions", prompts: int, images: int) -> str:
    guidance = f"guidance {drawing.guidance_scale:g}" if drawing.guidance_scale else "no guidance"
    return f"{model}: {drawing.num_inference_steps} steps, {guidance}, {prompts} prompts x {images} images"
