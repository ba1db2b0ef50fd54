"""Files: atomic writes leave the old content or the new one, and nothing else; JSON and JSON lines; hashes."""

from pathlib import Path

import pytest

from showo_turbo.errors import InputError
from showo_turbo.files import (
    append_json_line,
    atomic_file,
    atomic_files,
    atomic_folder,
    drop_json_lines_after,
    read_json,
    read_json_lines,
    remove_partial_files,
    write_json,
)


@pytest.mark.parametrize("fsync", [False, True])
def test_an_atomic_file_replaces_the_old_one_when_it_is_complete(tmp_path: Path, fsync: bool) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with atomic_file(path, fsync) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def write_and_fail(path: Path) -> None:
    with atomic_file(path) as temporary:
        temporary.write_text("new")
        raise KeyError


def test_a_failed_atomic_file_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(KeyError):
        write_and_fail(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_atomic_folder_may_replace_an_earlier_one(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    for content in ("old", "new"):
        with atomic_folder(folder, replace=True) as temporary:
            (temporary / content).touch()
            assert folder.exists() == (content == "new")
        assert [path.name for path in folder.iterdir()] == [content]
    with pytest.raises(KeyError), atomic_folder(folder, replace=True):
        raise KeyError
    assert [path.name for path in folder.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [folder]


def test_partial_files_of_killed_processes_are_removed(tmp_path: Path) -> None:
    others = ("..partial", ".a.partial", "a.1.partial", ".a.1x.partial", ".a.1.partial.json")
    for name in (".a.json.1.partial", ".b.23.partial", *others):
        (tmp_path / name).touch()
    (tmp_path / ".model.4711.partial" / "model").mkdir(parents=True)
    remove_partial_files(tmp_path, "a.json")
    assert {path.name for path in tmp_path.iterdir()} == {*others, ".b.23.partial", ".model.4711.partial"}
    remove_partial_files(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(others)


def test_atomic_files_are_all_written_or_none(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "missing" / "second"
    with pytest.raises(FileNotFoundError):
        atomic_files({first: b"1", second: b"2"})
    assert not list(tmp_path.iterdir())
    second.parent.mkdir()
    atomic_files({first: b"1", second: b"2"})
    assert (first.read_bytes(), second.read_bytes()) == (b"1", b"2")
    assert list(second.parent.iterdir()) == [second]


def test_atomic_files_are_renamed_in_order(tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()  # a file cannot replace it
    with pytest.raises(OSError, match="second"):
        atomic_files({tmp_path / "first": b"1", tmp_path / "second": b"2", tmp_path / "third": b"3"})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first", "second"]


def test_an_atomic_folder_has_its_name_from_the_start(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "folder") as temporary:
        assert temporary.name == "folder"
        (temporary / "file").touch()
        assert not (tmp_path / "folder").exists()
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["file"]
    with pytest.raises(KeyError), atomic_folder(tmp_path / "other"):
        raise KeyError
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_json_is_written_as_text_for_people(tmp_path: Path) -> None:
    path = tmp_path / "values.json"
    write_json(path, {"name": "é"})
    assert path.read_text(encoding="utf-8") == '{\n  "name": "é"\n}\n'
    assert read_json(path) == {"name": "é"}
    path.write_text("[]")
    with pytest.raises(InputError, match="holds a list; expected a JSON object"):
        read_json(path)


def test_lines_of_later_steps_are_dropped(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    drop_json_lines_after(log, 0)
    assert read_json_lines(log) == []
    for step in (1, 2, 3):
        append_json_line(log, {"step": step})
    with log.open("a") as file:
        file.write('{"step": 2')
    drop_json_lines_after(log, 2)
    assert read_json_lines(log) == [{"step": 1}, {"step": 2}]
