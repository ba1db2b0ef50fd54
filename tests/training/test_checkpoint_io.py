"""A training does not wait for the write of a checkpoint; the next write, a stop and the end do."""

import logging
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from test_loop import Regression, config, same, weights

from showo_turbo.training import checkpoint_io, state
from showo_turbo.training.checkpoint_io import CheckpointIO
from showo_turbo.training.loop import train


def test_steps_are_taken_while_a_checkpoint_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The write of step 1 ends when the batch of step 2 is read; it has the state of step 1."""
    train(Regression(), config(tmp_path / "whole"))
    read, complete = threading.Event(), state.complete_checkpoint

    def slow_write(partial: Path, values: dict[str, Any]) -> Path:
        assert values["step"] > 1 or read.wait(60)
        return complete(partial, values)

    class Reading(Regression):
        def losses(self, ema_model: torch.nn.Linear, batch: int) -> Any:
            found = super().losses(ema_model, batch)
            if batch == 1:
                read.set()
            elif batch == 2:
                raise KeyboardInterrupt
            return found

    monkeypatch.setattr(checkpoint_io, "complete_checkpoint", slow_write)
    with pytest.raises(KeyboardInterrupt):
        train(Reading(), config(tmp_path / "run"))
    assert state.newest_step(tmp_path / "run" / "checkpoints") == 2
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "step-00000002")
    train(Regression(), config(tmp_path / "run"))  # from step 1
    assert same(weights(tmp_path / "run"), weights(tmp_path / "whole"))


def test_a_failed_write_is_logged_with_its_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    complete = state.complete_checkpoint

    def full_at_3(partial: Path, values: dict[str, Any]) -> Path:
        if values["step"] == 3:
            raise OSError(28, "No space left on device")
        return complete(partial, values)

    monkeypatch.setattr(checkpoint_io, "complete_checkpoint", full_at_3)
    with caplog.at_level(logging.WARNING):
        train(Regression(), config(tmp_path))
    assert [message for message in caplog.messages if "step 3 could not be saved" in message]
    assert state.newest_step(tmp_path / "checkpoints") == 6


def test_a_failure_is_returned_once_and_leaves_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*ignored: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint_io, "complete_checkpoint", full)
    checkpoints = CheckpointIO(tmp_path, 1.0)
    checkpoints.start(1, {"model.a": torch.zeros(2)}, {}, {})
    assert checkpoints.wait() == "[Errno 28] No space left on device"
    assert checkpoints.wait() == ""
    assert not list(tmp_path.iterdir())
    checkpoints.close()


def test_an_error_of_the_program_is_raised(tmp_path: Path) -> None:
    checkpoints = CheckpointIO(tmp_path, 1.0)
    checkpoints.start(1, {"model.a": torch.zeros(2)}, {}, {"step": Path("no JSON")})
    with pytest.raises(TypeError, match="not JSON serializable"):
        checkpoints.wait()
    checkpoints.close()


def test_what_is_written_does_not_change_with_the_original(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed, write = threading.Event(), checkpoint_io._Storage.write_data

    def late(self: Any, *given: Any) -> Any:
        assert changed.wait(60)
        return write(self, *given)

    monkeypatch.setattr(checkpoint_io._Storage, "write_data", late)
    tensors = {
        "model.a": torch.zeros(2),
        "model.b": torch.zeros(3, 2).T,
        "model.c": torch.zeros(()),
        "ema.a": torch.ones(1, dtype=torch.long),
    }
    checkpoints = CheckpointIO(tmp_path, 1.0)
    checkpoints.start(7, tensors, {}, {"step": 7})
    for tensor in tensors.values():
        tensor += 1
    changed.set()
    assert checkpoints.wait() == ""
    read = {name: torch.full_like(tensor, 5) for name, tensor in tensors.items()}
    checkpoints.read(tmp_path / "step-00000007", read)
    assert [tensor.sum() for tensor in read.values()] == [0, 0, 0, 1]
    checkpoints.close()


def test_tensors_of_any_layout_are_written(tmp_path: Path) -> None:
    """Also if they share their memory, are views of a larger tensor, or are empty."""
    base = torch.arange(24.0).view(4, 6)
    tensors = {
        "model.tied": base,
        "model.tied_too": base,
        "model.rows": base[1:3],
        "model.columns": base[:, 1:3],
        "model.transposed": base.T,
        "model.pixels": torch.rand(2, 3, 4, 4).to(memory_format=torch.channels_last),
        "model.half": torch.rand(3).bfloat16(),
        "model.empty": torch.zeros(0, 3),
        "model.number": torch.tensor(3),
    }
    checkpoints = CheckpointIO(tmp_path, 1.0)
    checkpoints.start(7, tensors, {"tasks.0.a": torch.tensor([True])}, {"step": 7})
    assert checkpoints.wait() == ""
    path = tmp_path / "step-00000007"
    stored = checkpoint_io.stored_tensors(path)
    assert stored.keys() == tensors.keys() | {"tasks.0.a"}
    read = checkpoint_io.empty_tensors(stored, stored)
    checkpoints.read(path, read)
    assert all(read[name].equal(tensor) and read[name].dtype == tensor.dtype for name, tensor in tensors.items())
    assert read["tasks.0.a"].tolist() == [True]
    checkpoints.close()


def test_a_large_checkpoint_has_several_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint_io, "MAX_FILE_BYTES", 100)
    tensors = {f"model.{number}": torch.full((10,), float(number)) for number in range(6)}
    checkpoints = CheckpointIO(tmp_path, 1.0)
    checkpoints.start(7, tensors, {}, {"step": 7})
    assert checkpoints.wait() == ""
    files = list((tmp_path / "step-00000007").glob("*.safetensors"))
    assert len(files) == 3
    assert all(file.stat().st_size < 600 for file in files)
    read = {name: torch.zeros(10) for name in tensors}
    checkpoints.read(tmp_path / "step-00000007", read)
    assert all(read[name].equal(tensor) for name, tensor in tensors.items())
    checkpoints.close()
