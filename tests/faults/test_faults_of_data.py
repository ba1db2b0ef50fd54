"""Shards that are damaged, missing or exchanged, and workers that end: what a training does, and what is lost."""

import logging
import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from captioned_shards import write_shard
from trainings import Training, same

from showo_turbo.errors import InputError
from showo_turbo.files import read_json_lines


def at_batch(monkeypatch: pytest.MonkeyPatch, training: Training, number: int, action: Callable[[], object]) -> None:
    """Run an action before a batch of the training."""
    batch = training.task.batch

    def with_action(self: Any, one: int) -> Any:
        if one == number:
            action()
        return batch(self, one)

    monkeypatch.setattr(training.task, "batch", with_action)


def bad_samples(training: Training) -> list[str]:
    return (training.folder / "bad_captions_0.jsonl").read_text().splitlines()


def test_damaged_samples_of_a_shard_are_replaced_and_logged(training: Training, data: Path) -> None:
    shard = data / "a.tar"
    content = bytearray(shard.read_bytes())
    image = content.index(b"\x89PNG")
    content[image : image + 60] = bytes(60)
    shard.write_bytes(content)
    training.run()
    (line,) = bad_samples(training)
    assert "a.tar: red" in line
    assert len(read_json_lines(training.folder / "log.jsonl")) == 4


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda shard: shard.write_bytes(shard.read_bytes()[:700]), r"a\.tar"),
        (lambda shard: shard.write_bytes(b"not a tar file"), r"a\.tar"),
        (lambda shard: [one.unlink() for one in shard.parent.glob("*.tar")], r"\*\.tar"),
    ],
    ids=["truncated", "no tar", "missing"],
)
def test_a_shard_that_cannot_be_read_is_refused_before_the_first_step(
    training: Training, data: Path, damage: Callable[[Path], object], message: str
) -> None:
    damage(data / "a.tar")
    with pytest.raises(InputError, match=message):
        training.run()
    assert not list(training.folder.glob("checkpoints/*"))


def test_samples_of_a_shard_that_is_removed_during_the_run_are_replaced(
    training: Training, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_batch(monkeypatch, training, 1, (data / "b.tar").unlink)
    training.into(Path(training.config.output), steps=8).run()
    assert bad_samples(training)
    assert all("b.tar" in line for line in bad_samples(training))
    assert [line["step"] for line in read_json_lines(training.folder / "log.jsonl")] == list(range(1, 9))


def test_data_that_changes_between_runs_is_reported_and_the_run_continues(
    training: Training, data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    training.into(Path(training.config.output), steps=2).run()
    write_shard(data / "b.tar", ["blue", "red", "green"])
    write_shard(data / "c.tar", ["blue"])
    with caplog.at_level(logging.WARNING):
        training.run()
    changed = [message for message in caplog.messages if "has changed since" in message]
    assert len(changed) == 1
    assert "*.tar' has changed since" in changed[0]
    assert [line["step"] for line in read_json_lines(training.folder / "log.jsonl")] == [1, 2, 3, 4]


def test_a_worker_that_dies_costs_nothing(
    training: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    whole = training.into(tmp_path / "whole", steps=7)
    whole.run()

    def kill_workers() -> None:
        workers = multiprocessing.active_children()
        assert workers
        for worker in workers:
            assert worker.pid is not None
            os.kill(worker.pid, signal.SIGKILL)

    at_batch(monkeypatch, training, 2, kill_workers)
    with caplog.at_level(logging.WARNING):
        training.into(Path(training.config.output), steps=7).with_workers(1).run()
    assert "workers that read data have ended" in caplog.text
    assert same(whole.weights(), training.weights())
