"""Configuration of sources, and the stream that they open.

    captions:
      - {kind: coco, path: annotations/captions_train2017.json, images: train2017, weight: 2}
      - {kind: webdataset, path: "shards/*.tar"}
    texts:
      - {kind: parquet, path: "refinedweb/*.parquet", column: content}

Each kind has samples of one class. Kinds, paths and options are checked before any file is read.
"""

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from showo_turbo.data.bad_samples import BadSamples
from showo_turbo.data.mixture import Mixture
from showo_turbo.data.samples import CaptionSample, DialogueSample, EditSample, Sample, TextSample
from showo_turbo.data.source_files import existing_folder, matching_files
from showo_turbo.data.sources.coco import CocoCaptions
from showo_turbo.data.sources.edit_pairs import EditPairs
from showo_turbo.data.sources.encoded import EncodedSource, encoded_files
from showo_turbo.data.sources.hugging_face import DatasetCaptions, DatasetDialogues, DatasetTexts, dataset_files
from showo_turbo.data.sources.image_folder import ImageFolder
from showo_turbo.data.sources.llava import LlavaDialogues
from showo_turbo.data.sources.parquet import ParquetTexts
from showo_turbo.data.sources.scenes import SceneCaptions, SceneDialogues, SceneEdits, SceneTexts
from showo_turbo.data.sources.source import Source
from showo_turbo.data.sources.webdataset import WebDataset
from showo_turbo.data.stream import MixedStream, WeightedSource, check_names
from showo_turbo.errors import InputError

S = TypeVar("S", CaptionSample, DialogueSample, TextSample, EditSample)


@dataclass(frozen=True)
class SourceConfig:
    """Configure one source of a stream. Options that are left out have the default of the kind.

    Attributes:
        kind: one of KINDS.
        path: file; for `webdataset` and `parquet` also a pattern of files; for encoded samples also their folder; for
            `datasets` a folder, a pattern of files, or a name on the hub.
        weight: relative weight in the stream.
        name: name in logs and errors; kind and path if left out.
        images: folder of images (`coco`, `llava`, `image_folder`, `edit_pairs`).
        column: column of texts (`parquet`, `datasets_captions`, `datasets_texts`) or conversations
            (`datasets_dialogues`).
        image_column: column of images (`datasets_captions`, `datasets_dialogues`).
        split: split of a data set (`datasets_captions`, `datasets_dialogues`, `datasets_texts`).
        subset: configuration of a data set on the hub (likewise).
        draws_per_scene: samples of each scene (`scene_captions`, `scene_dialogues`, `scene_texts`, `scene_edits`).
        num_objects: number of objects that a scene must have (`scene_captions`).
        two_colors: use only scenes of two objects that differ in noun and color (`scene_captions`).
        turns: number of turns of a dialogue (`scene_dialogues`).
        description_share: fraction of the dialogues that begin with a description (`scene_dialogues`).
        question_kinds: kinds of the other questions (`scene_dialogues`).
    """

    kind: str
    path: str
    weight: float = 1.0
    name: str | None = None
    images: str | None = None
    column: str | None = None
    draws_per_scene: int | None = None
    num_objects: int | None = None
    two_colors: bool | None = None
    turns: int | None = None
    description_share: float | None = None
    question_kinds: list[str] | None = None
    image_column: str | None = None
    split: str | None = None
    subset: str | None = None

    @property
    def title(self) -> str:
        """Name in logs and errors."""
        return self.name or f"{self.kind} {self.path}"

    @property
    def options(self) -> dict[str, object]:
        """Options of the kind that are set."""
        common = ("kind", "path", "weight", "name")
        values = {field.name: getattr(self, field.name) for field in fields(self) if field.name not in common}
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True)
class _Kind:
    """Describe a kind of source: how to open it, the class of its samples, its options, and how to find its files."""

    open: Callable[..., Source[Any]]
    samples: type[Sample]
    options: tuple[str, ...] = ()
    files: Callable[[str], tuple[Path, ...]] = matching_files


_DATASETS = ("split", "subset")

KINDS = {
    "coco": _Kind(CocoCaptions, CaptionSample, ("images",)),
    "image_folder": _Kind(ImageFolder, CaptionSample, ("images",)),
    "webdataset": _Kind(WebDataset, CaptionSample),
    "scene_captions": _Kind(SceneCaptions, CaptionSample, ("draws_per_scene", "num_objects", "two_colors")),
    "llava": _Kind(LlavaDialogues, DialogueSample, ("images",)),
    "scene_dialogues": _Kind(
        SceneDialogues, DialogueSample, ("draws_per_scene", "turns", "description_share", "question_kinds")
    ),
    "parquet": _Kind(ParquetTexts, TextSample, ("column",)),
    "scene_texts": _Kind(SceneTexts, TextSample, ("draws_per_scene",)),
    "edit_pairs": _Kind(EditPairs, EditSample, ("images",)),
    "scene_edits": _Kind(SceneEdits, EditSample, ("draws_per_scene",)),
    "encoded_captions": _Kind(
        partial(EncodedSource, "captions"), CaptionSample, files=partial(encoded_files, kind="captions")
    ),
    "encoded_dialogues": _Kind(
        partial(EncodedSource, "dialogues"), DialogueSample, files=partial(encoded_files, kind="dialogues")
    ),
    "datasets_captions": _Kind(DatasetCaptions, CaptionSample, ("column", "image_column", *_DATASETS), dataset_files),
    "datasets_dialogues": _Kind(
        DatasetDialogues, DialogueSample, ("column", "image_column", *_DATASETS), dataset_files
    ),
    "datasets_texts": _Kind(DatasetTexts, TextSample, ("column", *_DATASETS), dataset_files),
}


def check_sources(configs: Sequence[SourceConfig], samples: type[Sample]) -> None:
    """Check the configuration of a stream without reading a file.

    Args:
        configs: sources of one stream.
        samples: class of the samples that every source must have.

    Raises:
        InputError: if there is no source, a weight is invalid, two sources have the same name, a kind is unknown or has
            samples of another class, an option does not belong to the kind, or a file or folder is missing.
    """
    if not configs:
        raise InputError(f"no source of {_plural(samples)}: give at least one of {', '.join(_kinds_of(samples))}")
    Mixture([config.weight for config in configs], seed=0)  # raises for invalid weights
    check_names([config.title for config in configs])
    for config in configs:
        _check_kind(config, samples)
        try:
            KINDS[config.kind].files(config.path)
            if config.images is not None:
                existing_folder(config.images)
        except InputError as error:
            raise InputError(f"source {config.title!r}: {error}") from error


def open_stream(
    configs: Sequence[SourceConfig],
    samples: type[S],
    seed: int,
    *,
    rank: int = 0,
    world_size: int = 1,
    log: str | Path | None = None,
    check: Callable[[S], None] | None = None,
    part: Callable[[Source[S]], Source[S]] | None = None,
) -> MixedStream[S]:
    """Open all sources and mix them.

    Args:
        configs: sources of one stream.
        samples: class of the samples that every source must have.
        seed: seed of the mixture and of the orders.
        rank: number of this process, from 0.
        world_size: number of processes.
        log: JSONL file of bad samples, a different one for each stream and process; see `BadSamples`.
        check: raises InputError for a sample that the model cannot use.
        part: returns the part of a source to read; all of it if left out.

    Raises:
        InputError: if `check_sources` or `part` does, or a file does not have the format of its kind.
    """
    check_sources(configs, samples)
    sources: list[WeightedSource[S]] = [
        WeightedSource(config.title, open_source(config, part), config.weight) for config in configs
    ]
    return MixedStream(sources, seed, rank=rank, world_size=world_size, bad_samples=BadSamples(log), check=check)


def open_source(config: SourceConfig, part: Callable[[Source[Any]], Source[Any]] | None = None) -> Source[Any]:
    """Open one source.

    Args:
        config: the source.
        part: returns the part of it to read; all of it if left out.

    Raises:
        InputError: naming the source, if it cannot be read.
    """
    try:
        source = KINDS[config.kind].open(config.path, **config.options)
        return source if part is None else part(source)
    except InputError as error:
        raise InputError(f"source {config.title!r}: {error}") from error


def source_files(config: SourceConfig) -> list[Path]:
    """Return the files and folders that a source reads; none for a data set on the hub.

    Raises:
        InputError: if they are missing.
    """
    return [*KINDS[config.kind].files(config.path), *([Path(config.images)] if config.images else [])]


def _check_kind(config: SourceConfig, samples: type[Sample]) -> None:
    if config.kind not in KINDS:
        near = difflib.get_close_matches(config.kind, KINDS, n=1, cutoff=0.0)
        raise InputError(f"source {config.title!r}: unknown kind {config.kind!r}; the nearest known one is {near[0]!r}")
    kind = KINDS[config.kind]
    if kind.samples is not samples:
        raise InputError(
            f"source {config.title!r} yields {_plural(kind.samples)} where {_plural(samples)} are read: "
            f"choose {', '.join(_kinds_of(samples))}"
        )
    for option in config.options:
        if option not in kind.options:
            known = ", ".join(kind.options) or "none"
            raise InputError(f"source {config.title!r}: kind {config.kind!r} has no {option!r}; its options: {known}")


def _kinds_of(samples: type[Sample]) -> list[str]:
    return [name for name, kind in KINDS.items() if kind.samples is samples]


def _plural(samples: type[Sample]) -> str:
    names = {CaptionSample: "captions", DialogueSample: "dialogues", TextSample: "texts", EditSample: "edits"}
    return names[samples]
