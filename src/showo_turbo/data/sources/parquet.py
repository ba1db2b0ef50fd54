"""Parquet files with a column of texts.

Parquet is read one row group at a time, and the last few row groups are cached. So memory and the time to read a sample
depend on the size of a row group: write files for training with some thousand rows in each.
"""

from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from types import ModuleType

from showo_turbo.data.samples import TextSample, bad_sample_errors
from showo_turbo.data.source_files import matching_files
from showo_turbo.errors import InputError, one_line
from showo_turbo.extras import require_module

_CACHED_ROW_GROUPS = 4


class ParquetTexts:
    """Read the texts of one column, one sample per row."""

    def __init__(self, path: str | Path, column: str = "text") -> None:
        """Index the row groups.

        Args:
            path: file, or a pattern of files.
            column: a column of strings.

        Raises:
            InputError: if there is no file, a file is not Parquet or lacks the column, or pyarrow is not installed.
        """
        self.path, self.column = path, column
        self._files = matching_files(path)
        groups = [(number, *group) for number, file in enumerate(self._files) for group in _row_groups(file, column)]
        self._groups = [(file, group) for file, group, _, _ in groups]
        self._first_rows = [first for _, _, first, _ in groups]
        self._ends = list(accumulate(rows for *_, rows in groups))
        self._texts = lru_cache(maxsize=_CACHED_ROW_GROUPS)(self._read_group)

    def __reduce__(self) -> tuple[type, tuple[str | Path, str]]:
        return type(self), (self.path, self.column)  # the cache of row groups cannot be pickled

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, index: int) -> TextSample:
        number = bisect_right(self._ends, index)
        file, group = self._groups[number]
        row = index - (self._ends[number - 1] if number else 0)
        key = f"{self._files[file].name}: row {self._first_rows[number] + row}"
        with bad_sample_errors(key):
            text = self._text(file, group, row)
            if text is None or not text.strip():
                raise InputError("text is empty")
            return TextSample(key, text)

    def _text(self, file: int, group: int, row: int) -> str | None:
        """Return the text of a row."""
        arrow, _ = _import_pyarrow()
        texts = self._texts(file, group)
        if row >= len(texts):
            raise InputError(f"row group {group} has {len(texts)} rows where the file says more")
        try:
            return texts[row].as_py()
        except (UnicodeDecodeError, arrow.ArrowException) as error:
            raise InputError(f"text is not UTF-8 ({error})") from error

    def _read_group(self, file: int, group: int) -> Sequence:
        """Return the column of one row group, as an Arrow array."""
        arrow, parquet = _import_pyarrow()
        try:
            with parquet.ParquetFile(self._files[file]) as opened:
                return opened.read_row_group(group, columns=[self.column]).column(0)
        except (OSError, ValueError, LookupError, MemoryError, arrow.ArrowException) as error:
            reason = one_line(error)
            raise InputError(f"row group {group} cannot be read ({reason})") from error


def _row_groups(file: Path, column: str) -> list[tuple[int, int, int]]:
    """Return (number, first row, number of rows) of each row group."""
    arrow, parquet = _import_pyarrow()
    try:
        with parquet.ParquetFile(file) as opened:
            schema, metadata = opened.schema_arrow, opened.metadata
    except (OSError, ValueError, MemoryError, arrow.ArrowException) as error:
        reason = one_line(error)
        raise InputError(f"file {str(file)!r} cannot be read as Parquet ({reason})") from error
    if schema.names.count(column) > 1:
        raise InputError(f"file {str(file)!r} has {schema.names.count(column)} columns {column!r}: rename one")
    if column not in schema.names:
        raise InputError(f"file {str(file)!r} has no column {column!r}, but {', '.join(schema.names)}")
    kind = schema.field(column).type
    kind = kind.value_type if arrow.types.is_dictionary(kind) else kind
    if not (arrow.types.is_string(kind) or arrow.types.is_large_string(kind) or arrow.types.is_string_view(kind)):
        raise InputError(f"column {column!r} of file {str(file)!r} holds {kind}, not strings")
    rows = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
    return [(group, end - count, count) for group, (count, end) in enumerate(zip(rows, accumulate(rows), strict=True))]


def _import_pyarrow() -> tuple[ModuleType, ModuleType]:
    return require_module("pyarrow", "reading Parquet"), require_module("pyarrow.parquet", "reading Parquet")
