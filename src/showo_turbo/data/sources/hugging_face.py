"""Data sets of Hugging Face's `datasets`: folders of `save_to_disk`, local files, and names on the hub.

    path                                        opened by
    runs/flowers     (state.json in it)         datasets.load_from_disk
    runs/flowers     (dataset_dict.json in it)  datasets.load_from_disk, of which `split`
    runs/flowers     (any other folder)         datasets.load_dataset(folder), such as imagefolder's metadata.jsonl
    "data/*.parquet", .json, .jsonl, .csv, .arrow, .tar     datasets.load_dataset of their format
    owner/name                                  datasets.load_dataset(name), from the hub or its cache

Decisions:
- Images are read as bytes and decoded by `load_image`, with the limits and messages of all other sources.
- `datasets` 4 runs no scripts of a data set, so earlier releases are refused.
"""

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import Any

from PIL import Image

from showo_turbo.data.samples import CaptionSample, DialogueSample, TextSample, bad_sample_errors
from showo_turbo.data.source_files import matching_files
from showo_turbo.data.sources.llava import read_turns
from showo_turbo.data.sources.source import read_caption
from showo_turbo.errors import InputError, one_line
from showo_turbo.extras import require_module
from showo_turbo.processing.image_files import load_image
from showo_turbo.validation import shown

_FORMATS = {
    ".parquet": "parquet",
    ".json": "json",
    ".jsonl": "json",
    ".csv": "csv",
    ".arrow": "arrow",
    ".tar": "webdataset",
}
_CAPTION_COLUMNS = ("caption", "text")


def dataset_files(path: str) -> tuple[Path, ...]:
    """Return the folder or the files of a data set; none if the path is a name on the hub.

    Raises:
        InputError: if it is none of these.
    """
    if Path(path).is_dir():
        return (Path(path),)
    parts = path.split("/")
    if not Path(path).suffix and len(parts) == 2 and all(parts) and not Path(parts[0]).exists():
        return ()
    return matching_files(path)


class _DatasetRows:
    """Read the rows of one split by number."""

    def __init__(self, path: str | Path, split: str | None, subset: str | None) -> None:
        """Open the data set.

        Raises:
            InputError: if it cannot be read, has no such split, or `datasets` is not installed.
        """
        self.name = Path(path).name
        self.rows = _open(str(path), split, subset)

    def __len__(self) -> int:
        return len(self.rows)

    def choose_column(self, *names: str) -> str:
        """Return the first of these columns that there is.

        Raises:
            InputError: if there is none.
        """
        for name in names:
            if name in self.rows.column_names:
                return name
        raise InputError(f"there is no column {' or '.join(map(repr, names))}, but {', '.join(self.rows.column_names)}")

    def read_undecoded(self, column: str) -> None:
        """Read a column of images as bytes.

        Raises:
            InputError: if it holds something else.
        """
        datasets = _import_datasets()
        if not isinstance(self.rows.features[column], datasets.Image):
            raise InputError(f"column {column!r} holds {self.rows.features[column]}, not images")
        self.rows = self.rows.cast_column(column, datasets.Image(decode=False))

    def row(self, index: int) -> Mapping[str, Any]:
        """Read a row.

        Raises:
            InputError: if it cannot be read.
        """
        try:
            return self.rows[index]
        except Exception as error:  # of any type, for damaged files
            raise InputError(f"row cannot be read ({one_line(error)})") from error


class DatasetCaptions:
    """Read captioned images, one per row; a row without an image is a caption alone."""

    def __init__(
        self,
        path: str | Path,
        column: str | None = None,
        image_column: str | None = None,
        split: str | None = None,
        subset: str | None = None,
    ) -> None:
        """Open the data set.

        Args:
            path: see the module.
            column: column of captions: `caption` or `text` if left out.
            image_column: column of images: `image`, if there is one, if left out.
            split: split of the data set; `train`, or the only one, if left out.
            subset: configuration of a data set on the hub.

        Raises:
            InputError: if it cannot be read, or lacks a column.
        """
        self.rows = _DatasetRows(path, split, subset)
        self.column = self.rows.choose_column(*([column] if column else _CAPTION_COLUMNS))
        has_images = image_column is not None or "image" in self.rows.rows.column_names
        self.image_column = self.rows.choose_column(image_column or "image") if has_images else None
        if self.image_column is not None:
            self.rows.read_undecoded(self.image_column)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> CaptionSample:
        key = f"{self.rows.name}: row {index}"
        with bad_sample_errors(key):
            row = self.rows.row(index)
            text = read_caption({"caption": row[self.column]}, "caption")
            return CaptionSample(key, text, None if self.image_column is None else _image(row[self.image_column]))


class DatasetDialogues:
    """Read dialogues about an image, one per row, in LLaVA's form: `[{"from": "human", "value": ..}, ..]`."""

    def __init__(
        self,
        path: str | Path,
        column: str = "conversations",
        image_column: str = "image",
        split: str | None = None,
        subset: str | None = None,
    ) -> None:
        """Open the data set; see `DatasetCaptions`.

        Args:
            path: see the module.
            column: column of conversations.
            image_column: column of images.
            split: split of the data set.
            subset: configuration of a data set on the hub.
        """
        self.rows = _DatasetRows(path, split, subset)
        self.column, self.image_column = self.rows.choose_column(column), self.rows.choose_column(image_column)
        self.rows.read_undecoded(self.image_column)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> DialogueSample:
        key = f"{self.rows.name}: row {index}"
        with bad_sample_errors(key):
            row = self.rows.row(index)
            turns = read_turns(row[self.column])
            image = _image(row[self.image_column])
            if image is None:
                raise InputError("image is missing")
            return DialogueSample(key, image, turns)


class DatasetTexts:
    """Read texts, one per row."""

    def __init__(
        self, path: str | Path, column: str = "text", split: str | None = None, subset: str | None = None
    ) -> None:
        """Open the data set; see `DatasetCaptions`.

        Args:
            path: see the module.
            column: column of texts.
            split: split of the data set.
            subset: configuration of a data set on the hub.
        """
        self.rows = _DatasetRows(path, split, subset)
        self.column = self.rows.choose_column(column)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> TextSample:
        key = f"{self.rows.name}: row {index}"
        with bad_sample_errors(key):
            text = self.rows.row(index)[self.column]
            if not isinstance(text, str) or not text.strip():
                raise InputError(f"text is {'empty' if isinstance(text, str) else shown(text) + ', not a text'}")
            return TextSample(key, text)


def _open(path: str, split: str | None, subset: str | None) -> Any:
    datasets = _import_datasets()
    folder = Path(path)
    is_saved = any((folder / name).is_file() for name in ("state.json", "dataset_dict.json"))
    files = dataset_files(path)
    try:
        if is_saved:
            loaded = datasets.load_from_disk(path)
        elif folder.is_dir() or not files:
            loaded = datasets.load_dataset(path, subset)
        else:
            loaded = datasets.load_dataset(_format(files), data_files=[str(file) for file in files])
    except InputError:
        raise
    except Exception as error:  # of many types: no connection, no such name, a damaged file
        reason = one_line(f"{type(error).__name__}: {error}")
        raise InputError(f"data set {path!r} cannot be read ({reason})") from error
    if isinstance(loaded, datasets.Dataset):
        if split is not None:
            raise InputError(f"data set {path!r} has no splits: leave split out")
        return loaded
    chosen = split or ("train" if "train" in loaded or len(loaded) > 1 else next(iter(loaded)))
    if chosen not in loaded:
        raise InputError(f"data set {path!r} has no split {chosen!r}: choose {', '.join(loaded)}")
    return loaded[chosen]


def _import_datasets() -> ModuleType:
    datasets = require_module("datasets", "reading data sets of Hugging Face", extra="datasets")
    if int(datasets.__version__.split(".")[0]) < 4:
        raise InputError(f"datasets is release {datasets.__version__}: install 4 or later")
    return datasets


def _format(files: tuple[Path, ...]) -> str:
    endings = {file.suffix.lower() for file in files}
    if len(endings) != 1 or not endings <= _FORMATS.keys():
        raise InputError(f"files end in {', '.join(sorted(endings))}: give files of one of {', '.join(_FORMATS)}")
    return _FORMATS[endings.pop()]


def _image(value: Mapping[str, Any] | None) -> Image.Image | None:
    """Return the image of a cell that is not decoded."""
    if value is None:
        return None
    return load_image(BytesIO(value["bytes"]) if value["bytes"] is not None else value["path"])
