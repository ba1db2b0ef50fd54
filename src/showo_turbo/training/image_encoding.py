"""Encode the images of sources once, into shards that every trainer reads.

    sources --in order, `shard_size` samples each--> shards --every `processes`-th--> images --tokenizer--> codes

Decisions:
- Which samples a shard has follows from the sources and the size of a shard alone. A shard is written when it is
  complete, atomically; a shard that is there is finished. So a killed run does the rest, with any number of processes.
- Threads read, resize and crop the images of the next batches while one is encoded: Pillow releases the interpreter.
- Only the image tokenizer is loaded. Images are resized as `ShowoPipeline.encode_image` does.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from math import isqrt
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from showo_turbo.checkpoints.image_tokenizer import fingerprint, load_image_tokenizer
from showo_turbo.checkpoints.loading import CheckpointFiles
from showo_turbo.data.digests import source_digests
from showo_turbo.data.encoded_shards import ENCODED_KINDS, ShardHeader, images_of, record_of, write_shard
from showo_turbo.data.samples import BadSampleError, Sample, bad_sample_errors
from showo_turbo.data.source_config import SourceConfig, open_source
from showo_turbo.data.sources.encoded import encoder_of
from showo_turbo.data.sources.source import Source
from showo_turbo.data.threaded_reads import read_ahead
from showo_turbo.errors import InputError
from showo_turbo.files import remove_partial_files
from showo_turbo.models.magvit_v2 import MagvitV2
from showo_turbo.processing.image_files import preprocess_images
from showo_turbo.training.run_manifest import check_or_write_manifest


@dataclass(frozen=True)
class EncodingPlan:
    """Hold what is encoded, and where to.

    Attributes:
        sources: the sources, by the class of their samples.
        folder: output folder.
        image_tokenizer: the image tokenizer, on its device.
        resolution: side of the encoded squares in pixels.
        shard_size: samples of a shard.
        batch_size: images at a time.
        num_workers: threads that read images.
    """

    sources: dict[type[Sample], list[SourceConfig]]
    folder: Path
    image_tokenizer: MagvitV2
    resolution: int
    shard_size: int
    batch_size: int
    num_workers: int


@dataclass(frozen=True)
class _ShardPlan:
    """Hold the samples of a shard, by their numbers among those of all sources of a kind, and its file."""

    file: Path
    header: ShardHeader
    sources: Sequence[Source[Any]]
    samples: range

    def read(self, number: int) -> Any:
        """Read a sample by its number among those of all sources."""
        for source in self.sources:
            if number < len(source):
                return source[number]
            number -= len(source)
        raise IndexError(number)


def load_encoder(files: CheckpointFiles, name: str) -> tuple[MagvitV2, int]:
    """Return the image tokenizer of a checkpoint and the side of the images that its model reads.

    Raises:
        InputError: if it has no image tokenizer.
    """
    if files.image_tokenizer is None:
        raise InputError(f"model {name!r} has no image tokenizer: choose one that has, or name it as --image-tokenizer")
    image_tokenizer = load_image_tokenizer(files.image_tokenizer)
    return image_tokenizer, isqrt(files.config.num_vq_tokens) * image_tokenizer.config.downsampling_factor


def encode_sources(
    plan: EncodingPlan,
    process: int = 0,
    processes: int = 1,
    on_item: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, int] | None:
    """Encode the shards of this process that are not finished.

    Args:
        plan: the plan.
        process: number of this process.
        processes: number of processes.
        on_item: called with the number of finished samples and of all samples of this process.

    Returns:
        The number of shards by kind if those of all processes are finished, else None.

    Raises:
        InputError: if a source cannot be read or is encoded already, or the folder has shards of other settings.
    """
    sha256 = fingerprint(plan.image_tokenizer)
    shards = [shard for samples in plan.sources for shard in _plan_shards(plan, samples, sha256)]
    configs = [config for sources in plan.sources.values() for config in sources]
    kinds = [ENCODED_KINDS[samples] for samples in plan.sources]
    settings: dict[str, Any] = {
        "image_tokenizer": sha256,
        "resolution": plan.resolution,
        "shard_size": plan.shard_size,
        "sources": {ENCODED_KINDS[samples]: [asdict(one) for one in some] for samples, some in plan.sources.items()},
        "samples": {one.file.name: len(one.samples) for one in shards},
    }
    started = any(plan.folder.glob("*.safetensors"))
    check_or_write_manifest(plan.folder / "settings.json", settings, "the output", started, source_digests(configs))
    mine = shards[process::processes]
    total, done = sum(len(shard.samples) for shard in mine), 0
    with ThreadPoolExecutor(plan.num_workers) as threads:
        for shard in mine:
            if shard.file.exists():
                done += len(shard.samples)
                continue
            for _ in _encode_shard(plan, shard, threads):
                done += 1
                on_item(done, total)
    if not all(shard.file.exists() for shard in shards):
        return None
    remove_partial_files(plan.folder)  # of killed processes
    return {kind: sum(shard.header.kind == kind for shard in shards) for kind in kinds}


def _plan_shards(plan: EncodingPlan, samples: type[Sample], sha256: str) -> list[_ShardPlan]:
    """Return the shards of a kind.

    Raises:
        InputError: if a source cannot be read, has no samples or is encoded already.
    """
    sources = [open_source(config) for config in plan.sources[samples]]
    for config, source in zip(plan.sources[samples], sources, strict=True):
        if encoder_of(source) is not None:
            raise InputError(f"source {config.title!r} holds codes already: leave it out")
    kind, total = ENCODED_KINDS[samples], sum(len(source) for source in sources)
    if not total:
        raise InputError(f"sources of {kind} hold no samples: give others")
    starts = range(0, total, plan.shard_size)
    return [
        _ShardPlan(
            plan.folder / f"{kind}-{number:05}.safetensors",
            ShardHeader(kind, number, len(starts), sha256, plan.resolution),
            sources,
            range(start, min(start + plan.shard_size, total)),
        )
        for number, start in enumerate(starts)
    ]


def _encode_shard(plan: EncodingPlan, shard: _ShardPlan, threads: ThreadPoolExecutor) -> Iterator[None]:
    """Encode the images of a shard, and write it; yields after each sample."""
    records: list[dict[str, Any]] = []
    codes: list[Tensor] = []
    bad: list[tuple[str, str]] = []
    batch: list[Tensor] = []
    read = read_ahead(threads, lambda number: _read(shard, number, plan.resolution), shard.samples, 2 * plan.batch_size)
    for result in read:
        if isinstance(result, BadSampleError):
            bad.append((result.key, result.reason))
        else:
            records.append(result[0])
            batch.append(result[1])
        if len(batch) == plan.batch_size:
            codes.append(_encode(plan.image_tokenizer, batch))
            batch = []
        yield
    if batch:
        codes.append(_encode(plan.image_tokenizer, batch))
    tokens = (plan.resolution // plan.image_tokenizer.config.downsampling_factor) ** 2
    all_codes = torch.cat(codes) if codes else torch.zeros(0, 1, tokens, dtype=torch.long)
    header = ShardHeader(**{**asdict(shard.header), "bad": tuple(bad)})
    write_shard(shard.file, header, records, all_codes)


@torch.inference_mode()
def _encode(image_tokenizer: MagvitV2, batch: Sequence[Tensor]) -> Tensor:
    """Return the codes of the images of samples, long (samples, images, tokens)."""
    pixels = torch.stack(list(batch)).to(next(image_tokenizer.parameters()).device)
    return image_tokenizer.get_codes(pixels.flatten(0, 1)).unflatten(0, pixels.shape[:2]).cpu()


def _read(shard: _ShardPlan, number: int, resolution: int) -> tuple[dict[str, Any], Tensor] | BadSampleError:
    """Return record and pixels, float32 (images, 3, resolution, resolution), of a sample, or its error."""
    try:
        sample = shard.read(number)
        with bad_sample_errors(sample.key):
            images = [image for image in images_of(sample) if isinstance(image, Image.Image)]
            return record_of(sample), preprocess_images(images, resolution)
    except BadSampleError as error:
        return BadSampleError(error.key, error.reason)
