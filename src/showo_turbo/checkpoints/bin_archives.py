"""Check a `.bin` file before torch reads it: the zip archive, whose compression and checksums torch does not look at
when it maps the file into memory, or the pickles of a file from before 2020.

Decisions:
- A compressed entry is refused: a memory map would take its bytes for numbers, and unpacked it can be of any size.
- Checksums are compared piece by piece, so memory holds no more than a piece.
- Torch's reader of pickles takes a second for ten thousand names, so their size is bounded. A former file does not tell
  it: its pickles are read up to the bound, without building what they hold.
"""

import pickletools
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from showo_turbo.checkpoints.names import MAX_HEADER_BYTES, MAX_TENSORS
from showo_turbo.errors import InputError, one_line

_PICKLE = "data.pkl"
_FORMER_PICKLES = 5
"""Magic number, version, system, tensors, and the names of their storages."""
_BYTES_PER_READ = 2**20


def check_layout(file: Path) -> None:
    """Check that the entries of an archive are stored as they are, and the checksum of its pickle.

    Raises:
        InputError: if an entry is compressed or encrypted, two have one name, there are too many, or the archive is
            damaged.
    """
    with _opened(file) as archive:
        entries = archive.infolist()
        for entry in entries:
            if (
                entry.compress_type != zipfile.ZIP_STORED
                or entry.flag_bits & 1
                or entry.file_size != entry.compress_size
            ):
                raise InputError(
                    f"weight file {str(file)!r} has compressed or encrypted entries, such as {entry.filename!r}: load "
                    "it with torch and write it again with torch.save, which stores numbers as they are, or use a "
                    "safetensors file"
                )
        if len({entry.filename for entry in entries}) < len(entries):
            raise InputError(f"weight file {str(file)!r} is damaged (two entries have one name): fetch it again")
        pickles = [entry for entry in entries if Path(entry.filename).name == _PICKLE]
        if len(entries) > 2 * MAX_TENSORS or any(entry.file_size > MAX_HEADER_BYTES for entry in pickles):
            raise _too_much(file)
        _compare(archive, pickles)


def check_former_layout(file: Path) -> None:
    """Check that the pickles of a file in torch's format from before 2020 are no longer than `MAX_HEADER_BYTES`.

    Raises:
        InputError: if they are.
    """
    is_long = False
    with file.open("rb") as opened, suppress(ValueError, EOFError):  # of damaged pickles, which torch reports
        pickles = (operation for _ in range(_FORMER_PICKLES) for operation in pickletools.genops(opened))
        is_long = any(position > MAX_HEADER_BYTES for _, _, position in pickles if position is not None)
    if is_long:
        raise _too_much(file)


def check_checksums(file: Path) -> None:
    """Compare all entries of an archive with their checksums.

    Raises:
        InputError: if one differs.
    """
    with _opened(file) as archive:
        _compare(archive, archive.infolist())


@contextmanager
def _opened(file: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(file) as archive:
            yield archive
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, NotImplementedError, RuntimeError) as error:
        raise InputError(f"weight file {str(file)!r} is damaged ({one_line(error)}): fetch it again") from error


def _compare(archive: zipfile.ZipFile, entries: list[zipfile.ZipInfo]) -> None:
    if not any(entry.CRC for entry in archive.infolist()):
        return  # written without checksums, see torch.serialization.set_crc32_options
    for entry in entries:
        with archive.open(entry) as opened:  # raises BadZipFile at the end of an entry that differs
            while opened.read(_BYTES_PER_READ):
                pass


def _too_much(file: Path) -> InputError:
    return InputError(
        f"weight file {str(file)!r} holds too much: expected at most {MAX_TENSORS:,} tensors, and nothing else such as "
        "numpy arrays"
    )
