"""`showo-turbo evaluate`: scores of one model, as tables and as JSON."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from showo_turbo.cli.common_options import (
    DEFAULT_DTYPE,
    DEFAULT_MODEL,
    Device,
    Dtype,
    Model,
    Overwrite,
    Quantization,
    command_line_option,
    given_options,
    load_pipeline,
    with_options,
    world_of,
)
from showo_turbo.cli.early_checks import check_model, check_sampling
from showo_turbo.cli.evaluate_benchmark import BenchmarkArguments, ModelArguments, evaluate_benchmark
from showo_turbo.cli.output_files import check_outputs
from showo_turbo.errors import InputError
from showo_turbo.files import write_json
from showo_turbo.generation.options import MAX_IMAGES, DecodingOptions, SamplingOptions, add_options
from showo_turbo.validation import check_integer, check_seed

if TYPE_CHECKING:
    from rich.table import Table

    from showo_turbo.evaluation.scene_questions import QuestionSet
    from showo_turbo.pipelines.pipeline import ShowoPipeline
    from showo_turbo.scenes.benchmark import ScenePrompt

SCENES = "scenes"
"""Name of the benchmark on the built-in world."""

TASKS = ("all", "text-to-image", "understanding", "reconstruction")
MAX_SCENES = 100_000


@dataclass(frozen=True)
class MeasuringArguments:
    """Hold the options of every command that measures on the built-in world.

    Raises:
        InputError: if a number is out of its range.
    """

    num_images: Annotated[
        int | None, typer.Option("--num-images", "--images-per-prompt", help="Images of every prompt; 4 if left out.")
    ] = None
    prompts_file: Annotated[
        Path | None, typer.Option(help="JSONL prompts in GenEval's format; the held-out set if left out.")
    ] = None
    scenes: Annotated[int, typer.Option(help="Held-out images to ask questions about.")] = 300
    seed: Annotated[int, typer.Option(help="Seed of the images and of the choice of questions.")] = 0
    device: Device = None
    dtype: Dtype = DEFAULT_DTYPE

    def __post_init__(self) -> None:
        check_integer("num-images", self.images_per_prompt, 1, MAX_IMAGES)
        check_integer("scenes", self.scenes, 1, MAX_SCENES)
        check_seed("seed", self.seed)

    @property
    def images_per_prompt(self) -> int:
        """Number of images of every prompt."""
        return 4 if self.num_images is None else self.num_images


@dataclass(frozen=True)
@add_options(SamplingOptions, command_line_option)
class SamplingArguments:
    """Hold the sampling options of `evaluate`."""


@dataclass(frozen=True)
@add_options(DecodingOptions, command_line_option, only=("decoding", "block_length"))
class BlockDecodingArguments:
    """Hold the decoding options of `evaluate`."""


@dataclass(frozen=True)
class _Plan:
    """Hold the settings of an evaluation."""

    model: str
    prompts: "list[ScenePrompt]"
    sampling: SamplingOptions
    images_per_prompt: int
    question_set: "QuestionSet"
    decoding: DecodingOptions
    seed: int


@with_options
def evaluate(
    sampling_arguments: SamplingArguments,
    decoding_arguments: BlockDecodingArguments,
    measuring: MeasuringArguments,
    published: BenchmarkArguments,
    benchmark: Annotated[
        str, typer.Argument(help="scenes, the built-in world, or a published benchmark, see --list.")
    ] = SCENES,
    model: Model = DEFAULT_MODEL,
    task: Annotated[str, typer.Option(help="all, text-to-image, understanding or reconstruction.")] = "all",
    quantization: Quantization = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="JSON file for scores and settings; of a published benchmark, a folder."),
    ] = None,
    overwrite: Overwrite = False,
    list_benchmarks: Annotated[bool, typer.Option("--list", help="List the benchmarks and stop.")] = False,
) -> None:
    """Evaluate a model on the built-in world or a published benchmark, with 95 % confidence intervals."""
    if list_benchmarks:
        from showo_turbo.evaluation.benchmark_tables import benchmark_list

        typer.echo(benchmark_list())
        return
    chosen = given_options(SamplingOptions, sampling_arguments)
    decoding = given_options(DecodingOptions, decoding_arguments)
    if benchmark != SCENES:
        if task != "all" or measuring.prompts_file is not None or measuring.scenes != MeasuringArguments.scenes:
            raise InputError("task, prompts-file and scenes are for the built-in world: leave them out")
        seed, images = measuring.seed, measuring.num_images
        how = (model, measuring.device, measuring.dtype, quantization, seed, images, chosen, decoding)
        evaluate_benchmark(benchmark, output, published, ModelArguments(*how))
        return
    if published.given():
        raise InputError(
            f"{', '.join(published.given())} is for published benchmarks: name one first, as in showo-turbo evaluate "
            "geneval --data FILE; --list shows all"
        )
    if task not in TASKS:
        raise InputError(f"task is {task!r}: choose {', '.join(TASKS)}")
    if output is not None:
        check_outputs([output], overwrite)
    # Plain blocks measure the model: the gain by a sliding window and drafts depends on the texts.
    plain = DecodingOptions(**decoding, sliding_window=False, drafts=False)
    check_model(model, measuring.dtype, quantization)
    check_sampling(model, chosen)
    _evaluate_scenes(model, quantization, measuring, chosen, plain, TASKS[1:] if task == "all" else (task,), output)


def _evaluate_scenes(
    model: str,
    quantization: str | None,
    measuring: MeasuringArguments,
    chosen: dict[str, Any],
    decoding: DecodingOptions,
    tasks: Sequence[str],
    output: Path | None,
) -> None:
    """Evaluate a model on the built-in world, print the tables and write the JSON file."""
    from rich.console import Console

    from showo_turbo.evaluation import tables
    from showo_turbo.evaluation.scene_questions import make_question_set
    from showo_turbo.generation.scheduler import UnmaskingScheduler
    from showo_turbo.scenes.benchmark import benchmark_prompts

    world = world_of(model)
    prompts = benchmark_prompts(measuring.prompts_file, world)
    pipe = load_pipeline(model, measuring.device, measuring.dtype, quantization)
    sampling = pipe.recommended.override(**chosen)
    UnmaskingScheduler.from_options(sampling, pipe.model.config.codebook_size, pipe.model.config.num_vq_tokens)

    question_set = make_question_set(measuring.scenes, measuring.seed, world)
    plan = _Plan(model, prompts, sampling, measuring.images_per_prompt, question_set, decoding, measuring.seed)
    console, results = Console(), {}
    for name, scores, table in _measure(pipe, plan, tasks):
        results[name] = scores
        console.print(table)
    if output is not None:
        stamp = {
            **tables.stamp(model, pipe, prompts),
            "sampling": asdict(sampling),
            "decoding": asdict(decoding),
            "images_per_prompt": measuring.images_per_prompt,
            "scenes": measuring.scenes,
            "seed": measuring.seed,
        }
        write_json(output, {"stamp": stamp} | results)


def _measure(pipe: "ShowoPipeline", plan: _Plan, tasks: Sequence[str]) -> "Iterator[tuple[str, dict[str, Any], Table]]":
    """Yield, task by task, the name and the scores in the JSON file, and their table."""
    from showo_turbo.evaluation import tables
    from showo_turbo.evaluation.reconstruction import evaluate_reconstruction
    from showo_turbo.evaluation.scene_benchmark import evaluate_text_to_image, evaluate_understanding

    world = plan.question_set.world
    if "text-to-image" in tasks:
        scores = evaluate_text_to_image(pipe, plan.prompts, plan.sampling, plan.images_per_prompt, plan.seed, world)
        scale = plan.sampling.guidance_scale
        guidance = f"guidance {scale:g}" if scale else "no guidance"
        prompts = f"{len(plan.prompts)} prompts x {plan.images_per_prompt} images"
        title = f"{plan.model}: {plan.sampling.num_inference_steps} steps, {guidance}, {prompts}"
        yield "text_to_image", asdict(scores), tables.text_to_image_table(title, scores)
    if "understanding" in tasks:
        answers = evaluate_understanding(pipe, plan.question_set, plan.decoding, plan.seed)
        title = f"{plan.model}: {len(plan.question_set.scenes)} held-out pictures, {plan.decoding.decoding}"
        yield "understanding", asdict(answers), tables.understanding_table(title, answers)
    if "reconstruction" in tasks:
        reconstruction = evaluate_reconstruction(pipe, plan.question_set.scenes, world)
        title = f"{plan.model}: scenes read without a fault by the detector"
        yield "reconstruction", asdict(reconstruction), tables.reconstruction_table(title, reconstruction)
