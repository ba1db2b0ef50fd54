"""A disk that is full at each kind of write of a training, and what is lost."""

import io
import logging
import re
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from trainings import Training, same

from showo_turbo.distillation import trajectory_files
from showo_turbo.distillation.config import DistillationConfig, TrajectoryFiles
from showo_turbo.errors import InputError
from showo_turbo.training import checkpoint_io, export, log, state


@contextmanager
def full_disk() -> Iterator[None]:
    """Let no file grow over 100 bytes in the block, as if the disk was full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def fill_disk_in(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, calls: range) -> list[int]:
    """Let the disk be full in some calls of a function, counted from 1; return a list that grows by these calls."""
    function, count, failed = getattr(owner, name), 0, []

    def with_full_disk(*arguments: Any, **options: Any) -> Any:
        nonlocal count
        count += 1
        if count not in calls:
            return function(*arguments, **options)
        failed.append(count)
        with full_disk():
            return function(*arguments, **options)

    monkeypatch.setattr(owner, name, with_full_disk)
    return failed


EVERY_STEP = range(1, 100)


@pytest.mark.parametrize(
    ("owner", "name", "calls", "warning"),
    [
        (checkpoint_io._Storage, "write_data", range(2, 3), "step 2 could not be saved"),
        (checkpoint_io, "complete_checkpoint", range(2, 3), "step 2 could not be saved"),
        (export, "save_checkpoint", range(2, 3), "step 2 could not be saved"),
        (log, "append_json_line", EVERY_STEP, "a line of .*log.jsonl could not be written"),
    ],
    ids=["tensors", "values", "export", "log"],
)
def test_a_full_disk_costs_a_checkpoint_or_a_line(
    training: Training,
    whole: dict[str, torch.Tensor],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    owner: Any,
    name: str,
    calls: range,
    warning: str,
) -> None:
    failed = fill_disk_in(monkeypatch, owner, name, calls)
    with caplog.at_level(logging.WARNING):
        training.run()
    assert failed
    assert any(re.search(warning, message) for message in caplog.messages), caplog.messages
    assert same(whole, training.weights())
    assert not list(training.folder.rglob("*.partial"))


@pytest.mark.parametrize("name", ["write_data", "complete_checkpoint", "export"])
def test_a_last_step_on_a_full_disk_is_saved_by_a_second_start(
    training: Training, whole: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    owners = {"write_data": checkpoint_io._Storage, "complete_checkpoint": checkpoint_io, "export": training.task}
    with monkeypatch.context() as patches:
        fill_disk_in(patches, owners[name], name, range(4, 5))
        with pytest.raises(InputError, match=r"the last step could not be saved .*: free disk space"):
            training.run()
    assert state.newest_step(training.folder / "checkpoints") == 3
    training.run()
    assert same(whole, training.weights())


def test_stored_trajectories_on_a_full_disk_are_written_by_a_second_start(
    training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files that were complete stay."""
    if not isinstance(training.config, DistillationConfig):
        pytest.skip("a fine-tuning stores no trajectories")
    files = TrajectoryFiles(count=3 * 16, batch_size=1)
    stage = replace(training.config.stages[0], trajectories=files)
    training = replace(training, config=replace(training.config, stages=[stage]))
    with monkeypatch.context() as patches:
        failed = fill_disk_in(patches, trajectory_files, "write_images", range(2, 3))
        with pytest.raises(OSError, match=r"image-00001.safetensors' cannot be written: .*File too large"):
            training.run()
    assert failed
    folder = training.folder / "trajectories"
    assert [path.name for path in folder.glob("*.safetensors")] == ["image-00000.safetensors"]
    assert not list(folder.glob("*.partial"))
    written = (folder / "image-00000.safetensors").stat().st_mtime_ns
    training.run()
    assert len(list(folder.glob("*.safetensors"))) == 3
    assert (folder / "image-00000.safetensors").stat().st_mtime_ns == written


def test_a_progress_bar_on_a_full_disk_is_not_shown() -> None:
    with open("/dev/full", "wb", buffering=0) as full:

        class Redirected(io.StringIO):
            def write(self, text: str) -> int:
                return full.write(text.encode())

        with log.ProgressBar(total=3, file=Redirected(), mininterval=0) as bar:
            for _ in range(3):
                bar.update()
                bar.set_postfix(loss=1.0)
    assert bar.n == 3
