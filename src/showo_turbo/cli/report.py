"""`showo-turbo report`: teacher and students in the paper's two tables."""

from pathlib import Path
from typing import Annotated

import typer

from showo_turbo.checkpoints.names import resolve
from showo_turbo.cli.files import check_outputs, check_png
from showo_turbo.cli.options import DEFAULT_DTYPE, Device, Dtype, load_pipeline
from showo_turbo.errors import InputError
from showo_turbo.files import atomic_files
from showo_turbo.scenes.benchmark import benchmark_prompts
from showo_turbo.validation import check_integer, check_number, check_seed


def report(
    teacher: Annotated[str, typer.Option(help="The teacher: a shipped model, a folder or a hub name.")] = "tiny",
    student: Annotated[
        list[str] | None, typer.Option(help="A student as TITLE=MODEL, its title in the tables; as often as wanted.")
    ] = None,
    guidance_scale: Annotated[list[float], typer.Option(help="Of the teacher; give it twice for two.")] = (0.5, 1.0),
    top_k: Annotated[
        list[int] | None, typer.Option(help="Of the students, each a column; what they recommend if left out.")
    ] = None,
    steps: Annotated[list[int], typer.Option(help="Of text to image; as often as wanted.")] = (16, 8, 4, 2, 1),
    images_per_prompt: Annotated[int, typer.Option(help="Pictures of every prompt.")] = 4,
    prompts_file: Annotated[
        Path | None, typer.Option(help="JSONL prompts in GenEval's format; the held-out set if left out.")
    ] = None,
    scenes: Annotated[int, typer.Option(help="Held-out pictures to ask about.")] = 300,
    seed: Annotated[int, typer.Option(help="Of the pictures drawn and of the questions asked.")] = 0,
    device: Device = None,
    dtype: Dtype = DEFAULT_DTYPE,
    output: Annotated[Path, typer.Option("--output", "-o", help="JSON file of measured cells, gone on with.")] = Path(
        "report.json"
    ),
    plot: Annotated[
        Path | None, typer.Option(help="PNG file for a picture of the scores over the steps; needs the train extra.")
    ] = None,
) -> None:
    """Compare a teacher with its students on the built-in world; goes on where it was stopped."""
    numbers = {
        "images-per-prompt": images_per_prompt,
        "scenes": scenes,
        "steps": min(steps),
        "top-k": min(top_k or [1]),
    }
    for name, value in numbers.items():
        check_integer(name, value, 1)
    for scale in guidance_scale:
        check_number("guidance-scale", scale, 0)
    check_seed("seed", seed)
    students = _titled_students(student or [])
    for model in (teacher, *students.values()):
        resolve(model)
    if plot is not None:
        check_png("plot", plot)
    check_outputs([output, *([plot] if plot else [])], overwrite=True)
    prompts = benchmark_prompts(prompts_file)

    from functools import lru_cache

    if plot is not None:  # where the extra is missing, before anything is measured
        from showo_turbo.evaluation.comparison_chart import score_chart
    from showo_turbo.device import parse_device, parse_dtype
    from showo_turbo.evaluation.comparison import Comparison, ComparisonPlan, image_variants, text_variants
    from showo_turbo.evaluation.comparison_tables import text_to_image_table, understanding_table

    plan = ComparisonPlan(
        image_variants=image_variants(teacher, students, guidance_scale, top_k or [None]),
        text_variants=text_variants(teacher, students),
        steps=tuple(steps),
        prompts=prompts,
        images_per_prompt=images_per_prompt,
        scenes=scenes,
        seed=seed,
        device=parse_device(device).type,
        dtype=str(parse_dtype(dtype)).removeprefix("torch."),
    )
    comparison = Comparison(plan, output, lru_cache(maxsize=1)(lambda name: load_pipeline(name, device, dtype)))
    image_scores = comparison.image_scores()
    typer.echo(f"{text_to_image_table(plan, image_scores)}\n")
    if plot is not None:
        atomic_files({plot: score_chart(plan, image_scores)})
    typer.echo(f"{understanding_table(plan, comparison.text_scores())}\n")


def _titled_students(given: list[str]) -> dict[str, str]:
    """Models by title."""
    students: dict[str, str] = {}
    for student in given:
        title, equals, model = student.partition("=")
        if not (title and equals and model):
            raise InputError(f"student is {student!r}: give TITLE=MODEL, such as Turbo=tiny-turbo")
        if title in students:
            raise InputError(f"two students are titled {title!r}: give each a title of its own")
        students[title] = model
    return students
