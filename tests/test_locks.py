"""One process writes a folder or a file; a lock does not outlive its process."""

import socket
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from hold_lock import another_writer

from showo_turbo.errors import InputError
from showo_turbo.locks import lock_file, lock_folder


@pytest.mark.parametrize("lock", [lock_folder, lock_file])
def test_a_second_writer_is_refused_and_told_of_the_first(
    tmp_path: Path, lock: Callable[[Path], AbstractContextManager[None]]
) -> None:
    path = tmp_path / "output"
    with another_writer(path, lock.__name__) as process:
        owner = rf"process {process.pid} on {socket.gethostname()}, which started at 20.*hold_lock\.py lock_"
        with (
            pytest.raises(InputError, match=rf"output' is being written by {owner}.*choose another output"),
            lock(path),
        ):
            pass
        process.kill()
        process.wait()
        with lock(path):
            pass
    assert [file.name for file in tmp_path.rglob("*")] == (["output"] if lock is lock_folder else [])


def test_an_owner_that_is_not_readable_is_another_process(tmp_path: Path) -> None:
    with another_writer(tmp_path):
        (tmp_path / ".lock.json").write_text("[")
        with pytest.raises(InputError, match="is being written by another process: wait"), lock_folder(tmp_path):
            pass


def test_a_lock_is_released_by_an_error(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), lock_folder(tmp_path):
            raise ZeroDivisionError


def test_a_link_to_a_file_has_the_lock_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "file.json").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "link.json").symlink_to(tmp_path / "file.json")
    link = lock_file(tmp_path / "folder" / "link.json")
    with another_writer(tmp_path / "file.json", "lock_file"), pytest.raises(InputError, match="is being written"), link:
        pass


def test_partial_files_are_removed_where_no_other_run_writes(tmp_path: Path) -> None:
    run, other = tmp_path / "run", tmp_path / "run" / "other"
    for folder in (run, run / "checkpoints", other / "checkpoints"):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".file.pt.123.partial").touch()
    with another_writer(other):
        (other / ".file.pt.123.partial").touch()
        with lock_folder(run):
            pass
        assert sorted(run.rglob("*.partial")) == [other / ".file.pt.123.partial", *other.glob("checkpoints/.*.partial")]
    for name in (".report.json.9.partial", ".report.json.bak.9.partial", ".other.json.9.partial"):
        (tmp_path / name).touch()
    with lock_file(tmp_path / "report.json"):
        left = sorted(path.name for path in tmp_path.glob(".*.partial"))
    assert left == [".other.json.9.partial", ".report.json.bak.9.partial"]


def test_a_process_may_lock_a_folder_again(tmp_path: Path) -> None:
    with lock_folder(tmp_path):
        with lock_folder(tmp_path):
            pass
        assert (tmp_path / ".lock").exists()
    assert list(tmp_path.iterdir()) == []
