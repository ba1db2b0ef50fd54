"""`showo-turbo compare`: the paper's two tables for a teacher and its students, measured on the built-in world."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from showo_turbo.cli.common_options import load_pipeline, with_options, world_of
from showo_turbo.cli.early_checks import check_model, check_sampling
from showo_turbo.cli.evaluate import MeasuringArguments
from showo_turbo.cli.output_files import check_outputs, check_png
from showo_turbo.errors import InputError
from showo_turbo.extras import require_module
from showo_turbo.files import atomic_files

if TYPE_CHECKING:
    from showo_turbo.evaluation.comparison import ComparisonPlan

COMPARED_STEPS = [16, 8, 4, 2, 1]
COMPARED_GUIDANCE_SCALES = [0.5, 1.0]


@with_options
def compare(
    measuring: MeasuringArguments,
    teacher: Annotated[str, typer.Option(help="Teacher: a shipped model, a folder or a hub name.")] = "tiny",
    student: Annotated[
        list[str] | None,
        typer.Option(help="A student as TITLE=MODEL, with its title in the tables; may be given several times."),
    ] = None,
    guidance_scale: Annotated[
        list[float], typer.Option(help="Guidance scale of the teacher; may be given several times.")
    ] = COMPARED_GUIDANCE_SCALES,
    top_k: Annotated[
        list[int] | None, typer.Option(help="Top-k of the students, a column each; their own choice if left out.")
    ] = None,
    steps: Annotated[
        list[int], typer.Option(help="Steps of text to image; may be given several times.")
    ] = COMPARED_STEPS,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="JSON file of measured cells; an existing one is resumed.")
    ] = Path("comparison.json"),
    plot: Annotated[
        Path | None, typer.Option(help="PNG file for a plot of the scores over the steps; needs the train extra.")
    ] = None,
) -> None:
    """Compare a teacher with its students on the built-in world; an interrupted comparison is resumed."""
    students = _parse_students(student or [])
    for model in (teacher, *students.values()):
        check_model(model, measuring.dtype, None)
        for number in steps:
            check_sampling(model, {"num_inference_steps": number})
        for k in top_k or []:
            check_sampling(model, {"top_k": k})
    for scale in guidance_scale:
        check_sampling(teacher, {"guidance_scale": scale})
    if plot is not None:
        check_png("plot", plot)
    check_outputs([output, *([plot] if plot else [])], overwrite=True)
    if plot is not None:
        require_module("matplotlib.figure", "--plot")  # before anything is measured
    variants = _ComparedVariants(teacher, students, tuple(guidance_scale), tuple(top_k or [None]), tuple(steps))
    _compare(measuring, variants, output, plot)


@dataclass(frozen=True)
class _ComparedVariants:
    """Hold what `compare` compares; see its options."""

    teacher: str
    students: dict[str, str]
    guidance_scales: tuple[float, ...]
    top_ks: tuple[int | None, ...]
    steps: tuple[int, ...]

    def plan(self, measuring: MeasuringArguments) -> "ComparisonPlan":
        """Return the plan of the comparison.

        Raises:
            InputError: if the device cannot be used, or the prompts or the world's name cannot be read.
        """
        from showo_turbo.device import parse_device, parse_dtype
        from showo_turbo.evaluation.comparison import ComparisonPlan, image_variants, text_variants
        from showo_turbo.scenes.benchmark import benchmark_prompts

        world = world_of(self.teacher)
        return ComparisonPlan(
            image_variants=image_variants(self.teacher, self.students, self.guidance_scales, self.top_ks),
            text_variants=text_variants(self.teacher, self.students),
            steps=self.steps,
            prompts=benchmark_prompts(measuring.prompts_file, world),
            images_per_prompt=measuring.images_per_prompt,
            scenes=measuring.scenes,
            seed=measuring.seed,
            device=parse_device(measuring.device).type,
            dtype=str(parse_dtype(measuring.dtype)).removeprefix("torch."),
            world=world,
        )


def _compare(measuring: MeasuringArguments, variants: _ComparedVariants, output: Path, plot: Path | None) -> None:
    """Measure the cells that are missing in a file, and print both tables; draw the plot once it can be."""
    from showo_turbo.evaluation.comparison import Comparison
    from showo_turbo.evaluation.comparison_chart import score_chart
    from showo_turbo.evaluation.comparison_tables import text_to_image_table, understanding_table
    from showo_turbo.locks import lock_file

    plan = variants.plan(measuring)
    with lock_file(output):
        load = lru_cache(maxsize=1)(lambda name: load_pipeline(name, measuring.device, measuring.dtype))
        comparison = Comparison(plan, output, load)
        image_scores = comparison.image_scores()
        typer.echo(f"{text_to_image_table(plan, image_scores)}\n")
        if plot is not None:
            atomic_files({plot: score_chart(plan, image_scores)})
        typer.echo(f"{understanding_table(plan, comparison.text_scores())}\n")


def _parse_students(given: list[str]) -> dict[str, str]:
    """Return models by title."""
    students: dict[str, str] = {}
    for student in given:
        title, equals, model = student.partition("=")
        if not (title and equals and model):
            raise InputError(f"student is {student!r}: give TITLE=MODEL, such as Turbo=tiny-turbo")
        if title in students:
            raise InputError(f"two students are titled {title!r}: give each a title of its own")
        students[title] = model
    return students
