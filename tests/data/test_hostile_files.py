"""Damaged and hostile tar and Parquet files: a bad sample or one line, never another error or gigabytes."""

import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from showo_turbo.data.samples import BadSampleError
from showo_turbo.data.sources.parquet import ParquetTexts
from showo_turbo.data.sources.webdataset import WebDataset
from showo_turbo.errors import InputError

CAPTION = b"a red circle"


def write_tar(path: Path, headers: dict[str, dict[str, str]]) -> Path:
    """Write a caption for each name, with PAX headers."""
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for name, pax in headers.items():
            member = tarfile.TarInfo(name)
            member.size, member.pax_headers = len(CAPTION), pax
            archive.addfile(member, io.BytesIO(CAPTION))
    return path


def read_all(path: Path) -> list[str]:
    """Return the texts of all samples, and the reasons of bad ones."""
    source, found = WebDataset(path), []
    for index in range(len(source)):
        try:
            found.append(source[index].text)
        except BadSampleError as error:
            found.append(error.reason)
    return found


@pytest.mark.parametrize(
    "pax",
    [
        {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "99999999999"},
        {"GNU.sparse.map": "0,x", "GNU.sparse.size": "5"},
        {"GNU.sparse.size": "abc"},
        {"size": "-5"},
        {"size": "9" * 30},
        {"mtime": "never"},
        {"path": "a\0b.txt"},
        {"hdrcharset": "BINARY", "path": "é.txt"},
    ],
)
def test_pax_headers_of_any_kind_end_in_one_line(tmp_path: Path, pax: dict[str, str]) -> None:
    path = write_tar(tmp_path / "a.tar", {"one.txt": {}, "two.txt": pax})
    try:
        found = read_all(path)
    except InputError as error:
        found = [str(error)]
    assert all("\n" not in one for one in found)
    assert found


@pytest.mark.parametrize("typeflag", [tarfile.REGTYPE, tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_member_that_declares_gigabytes_takes_no_memory(tmp_path: Path, typeflag: bytes) -> None:
    member = tarfile.TarInfo("a.txt")
    member.size, member.type = 6 << 30, typeflag
    path = tmp_path / "a.tar"
    path.write_bytes(member.tobuf(tarfile.GNU_FORMAT) + CAPTION)
    code = (
        "import resource, sys; from showo_turbo.data.sources.webdataset import WebDataset\n"
        "resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))\n"
        "try: print([WebDataset(sys.argv[1])[0]])\n"
        "except ValueError as error: print(type(error).__name__)\n"
    )
    ran = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() in ("InputError", "BadSampleError")


def test_a_fifo_in_place_of_a_shard_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.tar")
    for source in (WebDataset, ParquetTexts):
        with pytest.raises(InputError, match=r"a\.tar"):
            source(tmp_path / "a.tar")


def test_parquet_texts_that_are_not_utf8_are_bad_samples(tmp_path: Path) -> None:
    invalid = pyarrow.array([b"good", b"\xff\xfe", b"too"]).view(pyarrow.string())
    pyarrow.parquet.write_table(pyarrow.table({"text": invalid}), tmp_path / "a.parquet")
    source = ParquetTexts(tmp_path / "a.parquet")
    assert [source[0].text, source[2].text] == ["good", "too"]
    with pytest.raises(BadSampleError, match="text is not UTF-8"):
        source[1]


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    table = pyarrow.Table.from_arrays([pyarrow.array(["a"]), pyarrow.array(["b"])], names=["text", "text"])
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(InputError, match="has 2 columns 'text': rename one"):
        ParquetTexts(tmp_path / "a.parquet")


@pytest.mark.parametrize("step", range(0, 400, 23))
def test_flipped_bits_of_a_parquet_file_end_in_one_line(tmp_path: Path, step: int) -> None:
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"text": ["one", "two"]}), path)
    content = bytearray(path.read_bytes())
    content[step % len(content)] ^= 1 << step % 8
    path.write_bytes(content)
    try:
        source = ParquetTexts(path)
        texts = [source[index].text for index in range(min(len(source), 10))]
    except InputError as error:
        texts = [str(error)]
    assert all("\n" not in one for one in texts)
