"""A training does not wait for the write of a checkpoint; the next write, a stop and the end do."""

import logging
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from test_loop import Regression, config, same, weights

from showo_turbo.training import loop, state
from showo_turbo.training.background import BackgroundWriter, copy_to_cpu
from showo_turbo.training.loop import train


def test_steps_are_taken_while_a_checkpoint_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The write of step 1 ends when the batch of step 2 is read; it has the state of step 1."""
    train(Regression(), config(tmp_path / "whole"))
    read, write = threading.Event(), state.write_checkpoint

    def slow_write(folder: Path, step: int, content: dict[str, Any]) -> None:
        assert step > 1 or read.wait(60)
        write(folder, step, content)

    class Reading(Regression):
        def losses(self, ema_model: torch.nn.Linear, batch: int) -> Any:
            found = super().losses(ema_model, batch)
            if batch == 1:
                read.set()
            elif batch == 2:
                raise KeyboardInterrupt
            return found

    monkeypatch.setattr(loop, "write_checkpoint", slow_write)
    with pytest.raises(KeyboardInterrupt):
        train(Reading(), config(tmp_path / "run"))
    assert state.newest_step(tmp_path / "run" / "checkpoints") == 2
    for path in (tmp_path / "run" / "checkpoints").glob("step-00000002.*"):
        path.unlink()
    train(Regression(), config(tmp_path / "run"))  # from step 1
    assert same(weights(tmp_path / "run"), weights(tmp_path / "whole"))


def test_a_failed_write_is_logged_with_its_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write = state.write_checkpoint

    def full_at_3(folder: Path, step: int, content: dict[str, Any]) -> None:
        if step == 3:
            raise OSError(28, "No space left on device")
        write(folder, step, content)

    monkeypatch.setattr(loop, "write_checkpoint", full_at_3)
    with caplog.at_level(logging.WARNING):
        train(Regression(), config(tmp_path))
    assert [message for message in caplog.messages if "step 3 could not be saved" in message]
    assert state.newest_step(tmp_path / "checkpoints") == 6


def test_an_error_is_raised_once_by_the_next_wait() -> None:
    writer = BackgroundWriter()
    writer.start(int, "no number")
    with pytest.raises(ValueError, match="no number"):
        writer.start(int, "1")
    writer.wait()


def test_copies_do_not_change_with_the_original() -> None:
    tensor = torch.zeros(2)
    copied = copy_to_cpu({"a": [tensor, 1], "b": (tensor, "c")})
    tensor += 1
    assert copied["a"][0].tolist() == copied["b"][0].tolist() == [0, 0]
    assert copied["a"][1] == 1
