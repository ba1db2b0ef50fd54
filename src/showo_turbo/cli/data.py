"""`showo-turbo data`: read sources through, and encode their images once."""

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from showo_turbo.cli.common_options import DEFAULT_MODEL, Device
from showo_turbo.cli.evaluate_benchmark import device_of
from showo_turbo.cli.item_progress import ItemProgress
from showo_turbo.cli.terminal import note, progress_bar
from showo_turbo.errors import InputError
from showo_turbo.validation import check_integer

data = typer.Typer(help="Check sources of training data, and encode their images once.", no_args_is_help=True)

Sources = Annotated[
    list[str], typer.Argument(help="KIND:PATH, KIND:PATH,OPTION=VALUE, or the YAML file of a training.")
]
EncoderModel = Annotated[str, typer.Option("--model", help="Model whose image and text tokenizer are used.")]

_MAX_THREADS = 256
_SHOWN_BAD_SAMPLES = 3


@data.command()
def encode(
    sources: Sources,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the shards.")],
    model: EncoderModel = DEFAULT_MODEL,
    image_tokenizer: Annotated[
        str | None, typer.Option(help="Folder or hub name of another image tokenizer than the model's own.")
    ] = None,
    device: Device = None,
    shard_size: Annotated[int, typer.Option(help="Samples of a shard; a killed run loses at most one.")] = 1000,
    batch_size: Annotated[int, typer.Option(help="Images at a time.")] = 16,
    num_workers: Annotated[int, typer.Option(help="Threads that read images.")] = 4,
) -> None:
    """Encode the images of captions and dialogues into shards that every training reads.

    The same command resumes a run that was stopped. Under torchrun, each process encodes a part of the shards.

    \b
    Examples:
      showo-turbo data encode image_folder:photos/captions.jsonl -o shards
      torchrun --nproc_per_node 8 -m showo_turbo data encode \\
        "webdataset:cc12m/*.tar" -o shards --model SJTU-Deng-Lab/Show-o-Turbo-512
      showo-turbo finetune captions='[{kind: encoded_captions, path: shards}]'
    """
    from showo_turbo.checkpoints.loading import locate
    from showo_turbo.data.encoded_shards import ENCODED_KINDS
    from showo_turbo.data.source_arguments import read_sources
    from showo_turbo.device import parse_device
    from showo_turbo.evaluation.item_store import Process
    from showo_turbo.locks import lock_file
    from showo_turbo.training.image_encoding import EncodingPlan, encode_sources, load_encoder

    for name, value, maximum in (
        ("shard-size", shard_size, None),
        ("batch-size", batch_size, None),
        ("num-workers", num_workers, _MAX_THREADS),
    ):
        check_integer(name, value, 1, maximum)
    if output.exists() and not output.is_dir():
        raise InputError(f"output {str(output)!r} is a file: give the name of a folder")
    by_class = read_sources(sources)
    for samples, configs in by_class.items():
        if samples not in ENCODED_KINDS:
            raise InputError(f"source {configs[0].title!r} has no captions or dialogues with images: leave it out")
    process = Process.from_environment()
    encoder, resolution = load_encoder(locate(model, image_tokenizer), model)
    encoder.to(parse_device(device_of(device, process)))
    output.mkdir(parents=True, exist_ok=True)
    plan = EncodingPlan(by_class, output, encoder, resolution, shard_size, batch_size, num_workers)
    with progress_bar() as progress, lock_file(output / "run") if process.index == 0 else nullcontext():
        on_item = ItemProgress(progress, "encoding", "samples")
        on_process = on_item if process.index == 0 else lambda *_: None
        finished = encode_sources(plan, process.index, process.count, on_process)
    if finished is not None:
        _report_shards(output, finished)


def _report_shards(output: Path, shards: Mapping[str, int]) -> None:
    """Print what a complete folder holds, and how to use it."""
    from showo_turbo.data.encoded_shards import write_bad_samples
    from showo_turbo.data.sources.encoded import EncodedSource

    for kind, count in shards.items():
        source = EncodedSource(kind, output)
        bad = [one for shard in source.shards for one in shard.header.bad]
        log = output / f"bad_{kind}.jsonl"
        if bad:
            write_bad_samples(log, bad)
        note(f"{kind}: {len(source)} samples in {count} shards, {len(bad)} bad{f', see {log}' if bad else ''}")
        typer.echo(f"{kind}: [{{kind: encoded_{kind}, path: {output}}}]")


@data.command()
def check(
    sources: Sources,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder for the report.")] = None,
    model: EncoderModel = DEFAULT_MODEL,
    limit: Annotated[int | None, typer.Option(help="Read the first samples of each source only.")] = None,
    num_workers: Annotated[int, typer.Option(help="Threads that read samples.")] = 4,
) -> None:
    """Read sources through: counts, sizes, bad samples, lengths of texts in tokens.

    With -o, writes report.json, bad_samples.jsonl, lengths.png (histograms of the lengths) and images.png (a contact
    sheet of images with their texts).

    \b
    Example:
      showo-turbo data check image_folder:photos/captions.jsonl -o report
    """
    from rich.console import Console

    from showo_turbo.checkpoints.loading import locate
    from showo_turbo.data.source_arguments import read_sources
    from showo_turbo.extras import require_module
    from showo_turbo.training.source_inspection import SourceInspector, inspection_table, write_inspection

    check_integer("num-workers", num_workers, 1, _MAX_THREADS)
    if limit is not None:
        check_integer("limit", limit, 1)
    if output is not None:
        require_module("matplotlib.figure", "the histograms of a report")
        if output.exists() and not output.is_dir():
            raise InputError(f"output {str(output)!r} is a file: give the name of a folder")
    configs = [config for some in read_sources(sources).values() for config in some]
    inspector = SourceInspector(locate(model), num_workers, limit)
    with progress_bar() as progress:
        found = [inspector.inspect(one, ItemProgress(progress, one.title, "samples")) for one in configs]
    Console().print(inspection_table(found))
    for one in found:
        for key, reason in one.bad[:_SHOWN_BAD_SAMPLES]:
            note(f"bad sample {key}: {reason}")
    if output is not None:
        write_inspection(output, found)
        note(f"{str(output)!r} has report.json, bad_samples.jsonl, lengths.png and images.png")
