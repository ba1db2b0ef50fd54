"""Files of images, and files of prompts, that benchmarks of text to image share."""

from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from showo_turbo.errors import InputError
from showo_turbo.evaluation.benchmarks.definition import DataPaths, Score, ratio_of_sums
from showo_turbo.evaluation.items import BenchmarkData, Item, get, read_lines, read_records
from showo_turbo.files import atomic_files


def write_images(images: Mapping[Path, Image.Image]) -> list[Path]:
    """Write images in the formats that the endings of their names say, atomically; return the files."""
    contents = {}
    for path, image in images.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        buffer = BytesIO()
        image.save(buffer, format="JPEG" if path.suffix == ".jpg" else "PNG")
        contents[path] = buffer.getvalue()
    atomic_files(contents)
    return list(contents)


def read_prompts(paths: DataPaths) -> BenchmarkData:
    """Read prompts, one on each line of a text file, or as `prompt` of the lines of a JSONL file."""
    if paths.data.suffix == ".jsonl":
        found = [(where, get(record, "prompt", str, where), record) for where, record in read_records(paths.data)]
    else:
        found = [(where, text, {}) for where, text in read_lines(paths.data)]
    items = [Item(f"{number:06}", text, where, record) for number, (where, text, record) in enumerate(found)]
    return BenchmarkData(items, [paths.data])


def image_path(folder: Path, item: Item, number: int) -> Path:
    """Return the file of an image where no official scorer asks for another one."""
    return folder / "images" / f"{item.id}-{number}.png"


def write_plain(folder: Path, item: Item, images: Sequence[Image.Image]) -> list[Path]:
    """Write the images of an item as `image_path` names them."""
    return write_images({image_path(folder, item, number): image for number, image in enumerate(images)})


def mean_score(groups: Sequence[Sequence[float]], scale: float = 1.0, ids: Sequence[str] | None = None) -> Score:
    """Return the mean over prompts of the means over their images, with its bootstrap interval over prompts.

    Args:
        groups: values of the images of each prompt.
        scale: unit of the score, such as 100 for percent.
        ids: ids of the prompts, where the score of each is kept.
    """
    counts = np.array([[scale * float(np.mean(group)), 1.0] for group in groups])
    by_item = None if ids is None else dict(zip(ids, counts[:, 0].tolist(), strict=True))
    return Score.of_counts([counts], ratio_of_sums, by_item)


def check_covered(found: int, expected: int, path: Path, unit: str = "images") -> None:
    """Check that a judge's result is about all images.

    Raises:
        InputError: if it has another number.
    """
    if found != expected:
        raise InputError(
            f"the judge's result {str(path)!r} has {found} {unit}, {expected} were drawn: judge them again"
        )
