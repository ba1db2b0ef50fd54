"""`showo-turbo evaluate BENCHMARK`: generate the outputs of a published benchmark, and score them."""

from contextlib import nullcontext
from dataclasses import dataclass, fields, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from showo_turbo.cli.common_options import load_pipeline
from showo_turbo.cli.early_checks import check_model, check_sampling
from showo_turbo.cli.item_progress import ItemProgress
from showo_turbo.cli.terminal import note, progress_bar
from showo_turbo.errors import InputError
from showo_turbo.generation.options import DecodingOptions
from showo_turbo.validation import check_integer

if TYPE_CHECKING:
    from showo_turbo.evaluation.benchmarks.definition import DrawingBenchmark, QuestionBenchmark, Score
    from showo_turbo.evaluation.item_store import Process
    from showo_turbo.evaluation.items import BenchmarkData
    from showo_turbo.evaluation.presets import Preset
    from showo_turbo.evaluation.run import RunPlan
    from showo_turbo.pipelines.pipeline import ShowoPipeline

PARTS = ("generate", "score")
_LIBRARIES = ("pycocoevalcap", "torchmetrics")


@dataclass(frozen=True)
class BenchmarkArguments:
    """Hold the options of published benchmarks.

    Raises:
        InputError: if one is out of its range.
    """

    data: Annotated[Path | None, typer.Option(help="Official data: a file or a folder, see --list.")] = None
    images: Annotated[Path | None, typer.Option(help="Folder of the images that questions are about.")] = None
    references: Annotated[Path | None, typer.Option(help="VQAv2's file of annotations.")] = None
    split: Annotated[str | None, typer.Option(help="Split of the data; the usual one if left out.")] = None
    preset: Annotated[
        str | None, typer.Option(help="Settings and scores of a row of the paper, such as paper-256-4.")
    ] = None
    only: Annotated[str | None, typer.Option(help="generate or score: one of the two steps.")] = None
    judge: Annotated[Path | None, typer.Option(help="Result file of an external judge, or the folder of CLIP.")] = None
    judge_version: Annotated[str | None, typer.Option(help="Version of the external judge, for the result file.")] = (
        None
    )
    limit: Annotated[int | None, typer.Option(help="Evaluate the first items only.")] = None
    suffix: Annotated[str | None, typer.Option(help="Text after every question; the benchmark's own if left out.")] = (
        None
    )
    max_new_tokens: Annotated[
        int | None, typer.Option(help="Length of the longest answer; the benchmark's own if left out.")
    ] = None
    shorten: Annotated[bool, typer.Option("--shorten", help="Cut prompts and questions that are too long.")] = False
    batch_size: Annotated[
        int, typer.Option(help="Images or answers at a time; they do not depend on it.", rich_help_panel="Benchmark")
    ] = 16

    def __post_init__(self) -> None:
        if self.only not in (None, *PARTS):
            raise InputError(f"only is {self.only!r}: choose {' or '.join(PARTS)}")
        check_integer("batch-size", self.batch_size, 1)
        for name in ("limit", "max_new_tokens"):
            if getattr(self, name) is not None:
                check_integer(name.replace("_", "-"), getattr(self, name), 1)

    def given(self) -> list[str]:
        """Return the names of the options that are given, as on the command line."""
        return [one.name.replace("_", "-") for one in fields(self) if getattr(self, one.name) != one.default]


@dataclass(frozen=True)
class ModelArguments:
    """Hold the model and the options of any evaluation, as given."""

    model: str
    device: str | None
    dtype: str
    quantization: str | None
    seed: int
    images_per_prompt: int | None
    sampling: dict[str, Any]
    decoding: dict[str, Any]


def evaluate_benchmark(name: str, output: Path | None, arguments: BenchmarkArguments, model: ModelArguments) -> None:
    """Generate and score, or one of both; print the scores and write them to a file.

    Args:
        name: name of the benchmark.
        output: folder of outputs and scores.
        arguments: options of benchmarks.
        model: the model and its options.

    Raises:
        InputError: naming the option, or file and line of the data, before the model is loaded where possible.
    """
    from showo_turbo.evaluation.benchmarks.definition import DataPaths
    from showo_turbo.evaluation.benchmarks.registry import find_benchmark
    from showo_turbo.evaluation.item_store import Process
    from showo_turbo.evaluation.presets import find_preset

    benchmark, process = find_benchmark(name), Process.from_environment()
    preset = None if arguments.preset is None else find_preset(arguments.preset)
    if arguments.data is None:
        raise InputError(f"data is missing: give {benchmark.data} as --data")
    if output is None:
        raise InputError("output is missing: give a folder for outputs and scores, as in -o results/" + name)
    if output.exists() and not output.is_dir():
        raise InputError(f"output {str(output)!r} is a file: give the name of a folder")
    data = benchmark.read(DataPaths(arguments.data, arguments.images, arguments.references, arguments.split))
    data = replace(data, items=data.items[: arguments.limit])
    data.check()
    if arguments.only != "score":
        check_model(model.model, model.dtype, model.quantization)
        check_sampling(model.model, model.sampling)
        if not _generate(benchmark, data, output, arguments, model, preset, process):
            return
    if arguments.only != "generate":
        _score(benchmark, data, output, arguments, preset)


def _generate(
    benchmark: "DrawingBenchmark | QuestionBenchmark",
    data: "BenchmarkData",
    output: Path,
    arguments: BenchmarkArguments,
    model: ModelArguments,
    preset: "Preset | None",
    process: "Process",
) -> bool:
    """Generate the outputs of this process; return whether it is the one to report them."""
    from showo_turbo.checkpoints.loading import locate
    from showo_turbo.evaluation.run import check_texts, generate
    from showo_turbo.locks import lock_file

    pipe = load_pipeline(model.model, device_of(model.device, process), model.dtype, model.quantization)
    plan = _plan(pipe, benchmark, data, output, arguments, model, preset)
    items, cut = check_texts(pipe, plan)
    settings = plan.settings(pipe, locate(model.model).weights_sha256()) | {"cut": cut}
    output.mkdir(parents=True, exist_ok=True)
    unit, per_item = ("images", plan.images_per_prompt) if plan.draws else ("answers", 1)
    with progress_bar() as progress, lock_file(output / "run") if process.index == 0 else nullcontext():
        on_item = ItemProgress(progress, benchmark.name, unit, per_item)
        return generate(pipe, plan, items, settings, process, on_item if process.index == 0 else lambda *_: None)


def device_of(device: str | None, process: "Process") -> str | None:
    """Return the device that is given; one GPU for each process of a machine if none is."""
    if device is not None or process.count == 1:
        return device
    import torch

    return f"cuda:{process.local_index % torch.cuda.device_count()}" if torch.cuda.is_available() else None


def _plan(
    pipe: "ShowoPipeline",
    benchmark: "DrawingBenchmark | QuestionBenchmark",
    data: "BenchmarkData",
    output: Path,
    arguments: BenchmarkArguments,
    model: ModelArguments,
    preset: "Preset | None",
) -> "RunPlan":
    """Return the plan of a run.

    Raises:
        InputError: if an option is out of its range, or the model draws in another resolution than the preset.
    """
    from showo_turbo.evaluation.benchmarks.definition import DrawingBenchmark
    from showo_turbo.evaluation.run import RunPlan
    from showo_turbo.generation.scheduler import UnmaskingScheduler

    if preset is not None and preset.resolution != pipe.resolution:
        raise InputError(
            f"preset {preset.name!r} is for images of {preset.resolution} pixels, the model's have {pipe.resolution}: "
            "choose another preset or model"
        )
    sampling = pipe.recommended.override(**({} if preset is None else dict(preset.sampling)) | model.sampling)
    UnmaskingScheduler.from_options(sampling, pipe.model.config.codebook_size, pipe.model.config.num_vq_tokens)
    draws = isinstance(benchmark, DrawingBenchmark)
    tokens = {} if isinstance(benchmark, DrawingBenchmark) else {"max_new_tokens": benchmark.max_new_tokens}
    if arguments.max_new_tokens is not None:
        tokens = {"max_new_tokens": arguments.max_new_tokens}
    images = benchmark.images_per_prompt if isinstance(benchmark, DrawingBenchmark) else 1
    suffix = "" if isinstance(benchmark, DrawingBenchmark) else benchmark.suffix
    return RunPlan(
        benchmark=benchmark,
        data=data,
        folder=output,
        sampling=sampling,
        decoding=DecodingOptions(**(tokens | model.decoding)),
        seed=model.seed,
        images_per_prompt=images if model.images_per_prompt is None or not draws else model.images_per_prompt,
        suffix=suffix if arguments.suffix is None else arguments.suffix,
        shorten=arguments.shorten,
        batch_size=arguments.batch_size,
        model=model.model,
        split=arguments.split,
    )


def _score(
    benchmark: "DrawingBenchmark | QuestionBenchmark",
    data: "BenchmarkData",
    output: Path,
    arguments: BenchmarkArguments,
    preset: "Preset | None",
) -> None:
    """Score complete outputs, print the table and write `scores.json`."""
    from rich.console import Console

    from showo_turbo.evaluation.benchmark_tables import score_table
    from showo_turbo.evaluation.benchmarks.definition import DrawingBenchmark
    from showo_turbo.evaluation.item_store import ItemStore
    from showo_turbo.evaluation.run import read_stamp, score_outputs
    from showo_turbo.evaluation.score_details import write_details
    from showo_turbo.files import write_json

    stamp = read_stamp(output)
    if isinstance(benchmark, DrawingBenchmark) and benchmark.result_name and arguments.only is None:
        judged = arguments.judge or output / benchmark.result_name
        if not judged.is_file():
            note(
                f"the images are complete: judge them as judges/{benchmark.name}/README.md says, then pass --only score"
            )
            return
    scores = score_outputs(benchmark, data, output, arguments.judge)
    title = f"{benchmark.title}: {stamp['model']}, {stamp['items']} {'prompts' if _draws(stamp) else 'questions'}"
    Console().print(score_table(title, benchmark, scores, preset))
    write_details(output, data.items[: stamp["items"]], ItemStore(output).results(), scores)
    write_json(output / "scores.json", _result(stamp, scores, arguments, preset))


def _draws(stamp: dict[str, Any]) -> bool:
    return "sampling" in stamp


def _result(
    stamp: dict[str, Any], scores: "dict[str, Score]", arguments: BenchmarkArguments, preset: "Preset | None"
) -> dict[str, Any]:
    """Return the content of the result file."""
    libraries = {}
    for name in _LIBRARIES:
        try:
            libraries[name] = version(name)
        except PackageNotFoundError:
            continue
    judge = {"file": None if arguments.judge is None else str(arguments.judge), "version": arguments.judge_version}
    published = None if preset is None else {"preset": preset.name, **preset.published.get(stamp["benchmark"], {})}
    return {
        "benchmark": stamp["benchmark"],
        "stamp": stamp,
        "judge": judge | {"libraries": libraries},
        "published": published,
        "scores": {name: {"value": score.value, "interval": score.interval} for name, score in scores.items()},
    }
