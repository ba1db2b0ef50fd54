"""Edited data is noticed by its digest."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from showo_turbo.data.digests import digest, source_digests
from showo_turbo.data.source_config import SourceConfig


def edit_image(folder: Path) -> None:
    (folder / "images" / "7.png").write_bytes(b"other")


def add_image(folder: Path) -> None:
    (folder / "images" / "new.png").write_bytes(b"image 7")


def rename_image(folder: Path) -> None:
    (folder / "images" / "7.png").rename(folder / "images" / "77.png")


def edit_captions(folder: Path) -> None:
    (folder / "captions.json").write_text("another text")


def edit_end_of_large_file(folder: Path) -> None:
    with (folder / "large").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"x")
    os.utime(folder / "large", (0, 0))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "images" / "more").mkdir(parents=True)
    for number in range(9):
        (tmp_path / "images" / f"{number}.png").write_bytes(b"image %d" % number)
    (tmp_path / "captions.json").write_text("some texts")
    with (tmp_path / "large").open("wb") as file:
        file.truncate(2**25)
    os.utime(tmp_path / "large", (0, 0))
    return tmp_path


@pytest.mark.parametrize("edit", [edit_image, add_image, rename_image, edit_captions, edit_end_of_large_file])
def test_an_edit_changes_the_digest(folder: Path, edit: Callable[[Path], None]) -> None:
    paths = [folder / "captions.json", folder / "images", folder / "large"]
    before = digest(paths)
    assert digest(paths) == before
    edit(folder)
    assert digest(paths)["sha256"] != before["sha256"]


def test_the_time_of_a_file_is_apart_from_its_content(folder: Path) -> None:
    before = digest([folder / "captions.json"])
    os.utime(folder / "captions.json", (1, 1))
    after = digest([folder / "captions.json"])
    assert {key for key in after if after[key] != before[key]} == {"time"}


def test_sources_have_digests_by_title(folder: Path) -> None:
    configs = [
        SourceConfig("coco", str(folder / "captions.json"), images=str(folder / "images"), name="mine"),
        SourceConfig("webdataset", str(folder / "images" / "*.png")),
    ]
    digests = source_digests(configs)
    assert list(digests) == ["mine", f"webdataset {folder}/images/*.png"]
    assert [one["files"] for one in digests.values()] == [10, 9]
