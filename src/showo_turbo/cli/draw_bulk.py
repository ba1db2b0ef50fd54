"""`showo-turbo generate --format`: the images of a long file of prompts, by one process or many."""

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from showo_turbo.cli.common_options import DEFAULT_DTYPE, given_options, load_pipeline
from showo_turbo.cli.early_checks import check_model, check_sampling
from showo_turbo.cli.evaluate_benchmark import device_of
from showo_turbo.cli.item_progress import ItemProgress
from showo_turbo.cli.terminal import note, progress_bar
from showo_turbo.errors import InputError
from showo_turbo.generation.options import MAX_IMAGES, SamplingOptions
from showo_turbo.validation import check_integer, check_seed

if TYPE_CHECKING:
    from showo_turbo.cli.drawing_arguments import DrawingArguments
    from showo_turbo.evaluation.item_store import Process
    from showo_turbo.evaluation.items import BenchmarkData
    from showo_turbo.pipelines.pipeline import ShowoPipeline

FORMATS = ("files", "webdataset", "parquet")


@dataclass(frozen=True)
class BulkArguments:
    """Hold the options of drawing in packs.

    Raises:
        InputError: if one is out of its range.
    """

    format: Annotated[
        str | None,
        typer.Option(
            help="files, webdataset or parquet: draw --prompts-file in packs, resumable, under torchrun too.",
        ),
    ] = None
    batch_size: Annotated[
        int,
        typer.Option(help="Images at a time, with --format; they do not depend on it.", rich_help_panel="Many prompts"),
    ] = 16
    pack_size: Annotated[int, typer.Option(help="Prompts in a pack, with --format.")] = 1000

    def __post_init__(self) -> None:
        if self.format not in (None, *FORMATS):
            raise InputError(f"format is {self.format!r}: choose {', '.join(FORMATS)}")
        check_integer("batch-size", self.batch_size, 1)
        check_integer("pack-size", self.pack_size, 1)


def generate_packs(
    options: "DrawingArguments", bulk: BulkArguments, given: Mapping[str, Any], skip_existing: bool
) -> None:
    """Draw a file of prompts in packs; the seed is 0 if left out, so that the same command resumes.

    Args:
        options: options of the command.
        bulk: options of packs.
        given: arguments of `generate` that are given.
        skip_existing: option of the command, which packs imply.

    Raises:
        InputError: naming the option, or file and line of the prompts; before anything is drawn.
    """
    from showo_turbo.evaluation.benchmarks.definition import DataPaths
    from showo_turbo.evaluation.benchmarks.drawn_images import read_prompts
    from showo_turbo.evaluation.item_store import Process
    from showo_turbo.extras import require_module

    others = [name for name in given if name != "prompts_file"]
    others += ["skip_existing"] * skip_existing + ["overwrite"] * options.overwrite
    if others:
        raise InputError(f"--format draws --prompts-file into -o: leave {', '.join(others).replace('_', '-')} out")
    if "prompts_file" not in given or options.output is None:
        raise InputError("--format needs --prompts-file FILE and -o FOLDER: give both")
    if options.output.exists() and not options.output.is_dir():
        raise InputError(f"output {str(options.output)!r} is a file: give the name of a folder")
    if options.seed is not None:
        check_seed("seed", options.seed)
    check_integer("num-images", 1 if options.num_images is None else options.num_images, 1, MAX_IMAGES)
    if bulk.format == "parquet":
        require_module("pyarrow.parquet", "--format parquet")
    dtype = DEFAULT_DTYPE if options.dtype is None else options.dtype
    check_model(options.model_name, dtype, options.quantization)
    check_sampling(options.model_name, given_options(SamplingOptions, options))
    data, process = read_prompts(DataPaths(given["prompts_file"])), Process.from_environment()
    data.check()
    device = device_of(options.device, process)
    pipe = load_pipeline(options.model_name, device, dtype, options.quantization, options.base)
    _draw(pipe, data, options, bulk, process)


def _draw(
    pipe: "ShowoPipeline",
    data: "BenchmarkData",
    options: "DrawingArguments",
    bulk: BulkArguments,
    process: "Process",
) -> None:
    """Check the prompts, and draw the packs of this process."""
    from showo_turbo.checkpoints.loading import locate
    from showo_turbo.evaluation.bulk_drawing import BulkPlan, draw_bulk
    from showo_turbo.evaluation.run import naming
    from showo_turbo.generation.scheduler import UnmaskingScheduler
    from showo_turbo.locks import lock_file

    assert options.output is not None
    assert bulk.format is not None
    plan = BulkPlan(
        data=data,
        folder=options.output,
        format=bulk.format,
        sampling=pipe.recommended.override(**given_options(SamplingOptions, options)),
        seed=0 if options.seed is None else options.seed,
        images_per_prompt=1 if options.num_images is None else options.num_images,
        prompts_per_pack=bulk.pack_size,
        batch_size=bulk.batch_size,
    )
    config = pipe.model.config
    UnmaskingScheduler.from_options(plan.sampling, config.codebook_size, config.num_vq_tokens)
    for item in data.items:
        with naming(item):
            pipe.prompts.check_prompt(item.text)
    weights_sha256 = locate(options.model_name, base=options.base).weights_sha256()
    settings = plan.settings(pipe, options.model_name, weights_sha256)
    plan.folder.mkdir(parents=True, exist_ok=True)
    with progress_bar() as progress, lock_file(plan.folder / "run") if process.index == 0 else nullcontext():
        on_item = ItemProgress(progress, "drawing", "images", plan.images_per_prompt)
        seconds = draw_bulk(pipe, plan, settings, process, on_item if process.index == 0 else lambda *_: None)
    if seconds is not None:
        count = len(data.items) * plan.images_per_prompt
        rate = f", {count / seconds:.2f} images/s" if seconds else ""
        note(f"{str(plan.folder)!r} has all {count} images of {len(data.items)} prompts: {seconds:.0f} s{rate}")
