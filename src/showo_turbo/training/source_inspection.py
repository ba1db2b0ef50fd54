"""Read sources through, and report what a training would find: counts, sizes, bad samples, lengths of texts.

Decisions:
- Lengths are those of the ids that a training makes of a sample: a caption with its special tokens; the questions and
  answers of a dialogue without its image; a text.
- A sample that the model refuses, such as a caption with a reserved token, counts as bad, as in a training.
- Samples are read by threads and dropped at once; small copies of some evenly spaced images are kept for the sheet.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps
from rich.table import Table
from torch import Tensor

from showo_turbo.checkpoints.image_tokenizer import fingerprint, load_image_tokenizer
from showo_turbo.checkpoints.loading import CheckpointFiles
from showo_turbo.data.samples import (
    BadSampleError,
    CaptionSample,
    DialogueSample,
    EditSample,
    Sample,
    TextSample,
    bad_sample_errors,
)
from showo_turbo.data.source_config import SourceConfig, open_source
from showo_turbo.data.sources.encoded import encoder_of
from showo_turbo.data.sources.source import Source
from showo_turbo.data.threaded_reads import read_ahead
from showo_turbo.extras import require_module
from showo_turbo.files import atomic_file, atomic_files, write_json
from showo_turbo.processing.image_files import check_aspect_ratio
from showo_turbo.processing.image_labels import label_image
from showo_turbo.processing.images import make_grid, pixels_to_images
from showo_turbo.processing.prompts import PromptBuilder

_SHEET_IMAGES, _SHEET_COLUMNS, _SHEET_HEIGHT = 24, 6, 160
_PERCENTILES = {"smallest": 0, "median": 50, "95 %": 95, "largest": 100}


@dataclass
class Inspection:
    """Hold what was found in a source.

    Attributes:
        title: of the source.
        kind: of the source.
        total: number of its samples.
        read: number of samples that were read.
        bad: key and reason of the bad ones.
        lengths: tokens of the texts of each good sample.
        sides: width and height in pixels of each image.
        encoded: number of images that are codes.
        pictures: some images, with their texts.
    """

    title: str
    kind: str
    total: int
    read: int = 0
    bad: list[tuple[str, str]] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    sides: list[tuple[int, int]] = field(default_factory=list)
    encoded: int = 0
    pictures: list[tuple[Image.Image, str]] = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        """Return the numbers as JSON values."""
        shorter = [min(side) for side in self.sides]
        return {
            "source": self.title,
            "kind": self.kind,
            "samples": self.total,
            "read": self.read,
            "bad": len(self.bad),
            "images": len(self.sides),
            "encoded_images": self.encoded,
            "tokens": _percentiles(self.lengths),
            "shorter_side": _percentiles(shorter),
        }


class SourceInspector:
    """Read sources through with the tokenizers of a model."""

    def __init__(self, files: CheckpointFiles, num_workers: int, limit: int | None = None) -> None:
        """Load the text tokenizer; the image tokenizer is loaded when codes are met.

        Args:
            files: of the model.
            num_workers: threads that read samples.
            limit: read the first samples of each source only.

        Raises:
            InputError: if the text tokenizer cannot be read.
        """
        self.files, self.num_workers, self.limit = files, num_workers, limit
        self.prompts = PromptBuilder.from_pretrained(files.text_tokenizer, files.config)

    def inspect(self, config: SourceConfig, on_item: Callable[[int, int], None]) -> Inspection:
        """Read one source.

        Args:
            config: the source.
            on_item: called with the number of samples that were read and of all to read.

        Raises:
            InputError: if the source cannot be read.
        """
        source = open_source(config)
        found = Inspection(config.title, config.kind, len(source))
        count = min(len(source), self.limit or len(source))
        shown = set(np.linspace(0, count - 1, min(count, _SHEET_IMAGES), dtype=int).tolist()) if count else set()
        codes: list[tuple[Tensor, str]] = []
        for index, result in enumerate(self._results(source, count)):
            found.read = index + 1
            if isinstance(result, BadSampleError):
                found.bad.append((result.key, result.reason))
            else:
                self._add(found, *result, codes if index in shown else None)
            on_item(index + 1, count)
        found.pictures += self._decode(source, codes)
        return found

    def _results(self, source: Source[Any], count: int) -> Iterator[tuple[Sample, int] | BadSampleError]:
        """Yield samples with their lengths, or their errors, in order."""

        def read(index: int) -> tuple[Sample, int] | BadSampleError:
            try:
                sample = source[index]
                with bad_sample_errors(sample.key):
                    return sample, self._length(sample)
            except BadSampleError as error:
                return BadSampleError(error.key, error.reason)

        with ThreadPoolExecutor(self.num_workers) as threads:
            yield from read_ahead(threads, read, range(count), 2 * self.num_workers)

    def _length(self, sample: Sample) -> int:
        """Return the number of ids of a sample's texts.

        Raises:
            InputError: if a training would refuse the sample.
        """
        prompts = self.prompts
        if isinstance(sample, CaptionSample):
            prompts.check_prompt(sample.text)
            return len(prompts.text_to_image(sample.text))
        if isinstance(sample, DialogueSample):
            if isinstance(sample.image, Image.Image):
                check_aspect_ratio(sample.image)
            for turn in sample.turns:
                prompts.check_question(turn.question)
            return sum(len(prompts.encode(f"{turn.question} {turn.answer}")) for turn in sample.turns)
        if isinstance(sample, EditSample):
            for image in (sample.source, sample.target):
                if isinstance(image, Image.Image):
                    check_aspect_ratio(image)
            prompts.check_prompt(sample.instruction)
            return len(prompts.text_to_image(sample.instruction))
        assert isinstance(sample, TextSample)
        return len(prompts.language_modelling(sample.text))

    def _add(self, found: Inspection, sample: Sample, length: int, codes: list[tuple[Tensor, str]] | None) -> None:
        """Count a good sample; keep a small copy of its image, or its codes, if it is to be shown."""
        found.lengths.append(length)
        image: Image.Image | Tensor | None
        if isinstance(sample, EditSample):
            image, text = sample.target, sample.instruction
        else:
            image = sample.image if isinstance(sample, CaptionSample | DialogueSample) else None
            text = sample.text if isinstance(sample, CaptionSample | TextSample) else sample.turns[0].question
        if isinstance(image, Tensor):
            found.encoded += 1
            if codes is not None:
                codes.append((image, text))
        elif image is not None:
            found.sides.append(image.size)
            if codes is not None:
                found.pictures.append((ImageOps.pad(image, (_SHEET_HEIGHT, _SHEET_HEIGHT), color="white"), text))

    def _decode(self, source: Source[Any], codes: Sequence[tuple[Tensor, str]]) -> list[tuple[Image.Image, str]]:
        """Return the images of codes, if the model's image tokenizer has encoded them."""
        if not codes or self.files.image_tokenizer is None:
            return []
        image_tokenizer = load_image_tokenizer(self.files.image_tokenizer)
        if fingerprint(image_tokenizer) != encoder_of(source):
            return []
        return [(pixels_to_images(image_tokenizer.decode_codes(one[None]).detach())[0], text) for one, text in codes]


def inspection_table(inspections: Sequence[Inspection]) -> Table:
    """Return a table with one row per source."""
    table = Table()
    for column in ("source", "samples", "read", "bad", "images", "pixels, shorter side", "tokens"):
        table.add_column(column, justify="left" if column == "source" else "right", overflow="fold")
    for one in inspections:
        values = one.summary()
        cells = [values["samples"], values["read"], values["bad"], values["images"] + values["encoded_images"]]
        table.add_row(one.title, *map(str, cells), _range(values["shorter_side"]), _range(values["tokens"]))
    return table


def write_inspection(folder: Path, inspections: Sequence[Inspection]) -> None:
    """Write `report.json`, `bad_samples.jsonl`, `lengths.png` and, if there are images, `images.png`.

    Raises:
        OSError: if the folder cannot be written.
        InputError: if matplotlib is not installed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "report.json", {"sources": [one.summary() for one in inspections]})
    lines = [
        json.dumps({"source": one.title, "key": key, "reason": reason}) + "\n"
        for one in inspections
        for key, reason in one.bad
    ]
    atomic_files({folder / "bad_samples.jsonl": "".join(lines).encode()})
    _plot_lengths(folder / "lengths.png", inspections)
    pictures = [picture for one in inspections for picture in one.pictures]
    if pictures:
        cells = [label_image(image, text, _SHEET_HEIGHT) for image, text in pictures]
        with atomic_file(folder / "images.png") as file:
            make_grid(cells, _SHEET_COLUMNS).save(file, "PNG")


def _plot_lengths(file: Path, inspections: Sequence[Inspection]) -> None:
    """Plot a histogram of the lengths of each source."""
    plots = require_module("matplotlib.figure", "the histograms of a report")
    figure = plots.Figure(figsize=(7, 1 + 2 * len(inspections)), layout="constrained")
    for axes, one in zip(np.atleast_1d(figure.subplots(len(inspections))), inspections, strict=True):
        if one.lengths:
            largest = max(one.lengths)
            axes.hist(one.lengths, bins=min(largest, 50), range=(0.5, largest + 0.5))
        axes.set_title(f"{one.title}: {len(one.lengths)} samples", fontsize=9)
        axes.set(xlabel="tokens", ylabel="samples")
        axes.grid(alpha=0.3)
    with atomic_file(file) as temporary:
        figure.savefig(temporary, dpi=110, format="png")


def _percentiles(values: Sequence[int]) -> dict[str, int]:
    if not values:
        return {}
    return {name: int(np.percentile(values, rank)) for name, rank in _PERCENTILES.items()}


def _range(percentiles: dict[str, int]) -> str:
    if not percentiles:
        return ""
    return f"{percentiles['smallest']} - {percentiles['largest']}, median {percentiles['median']}"
