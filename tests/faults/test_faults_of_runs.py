"""Clocks that jump, signals, and a second run in a folder: what a training does, and what is lost."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from hold_lock import another_writer
from omegaconf import OmegaConf
from trainings import Training, run_script, same
from typer.testing import CliRunner

from showo_turbo.cli.main import app
from showo_turbo.errors import InputError
from showo_turbo.files import read_json_lines
from showo_turbo.training import state

HOUR = 3600.0


JUMPS = {1: -24 * HOUR, 2: 72 * HOUR, 3: -12 * HOUR}
"""Seconds by which the wall clock is set before a batch."""


def test_a_clock_that_jumps_costs_nothing(
    training: Training, whole: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Checkpoints are due by time, and the log has times and rates."""
    real, now = time.time, [0.0]
    batch = training.task.batch

    def with_jump(self: Any, number: int) -> Any:
        now[0] += JUMPS.get(number, 0.0)
        return batch(self, number)

    monkeypatch.setattr(training.task, "batch", with_jump)
    monkeypatch.setattr(time, "time", lambda: real() + now[0])
    training.run()
    assert now == [sum(JUMPS.values())]
    assert same(whole, training.weights())
    lines = read_json_lines(training.folder / "log.jsonl")
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    assert all(0 <= line["seconds"] < HOUR and line["samples_per_second"] > 0 for line in lines)
    checkpoints = sorted(path.name for path in (training.folder / "checkpoints").iterdir())
    assert checkpoints == ["step-00000003", "step-00000004"]


def test_a_signal_ends_the_command_after_its_step_and_a_checkpoint(
    training: Training, whole: dict[str, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = training.task.batch

    def with_signal(self: Any, one: int) -> Any:
        if one == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return batch(self, one)

    path = tmp_path / "config.yaml"
    config = training.into(tmp_path / "run", checkpoint_minutes=9.0).config
    path.write_text(OmegaConf.to_yaml(OmegaConf.structured(config)))
    with monkeypatch.context() as patches:
        patches.setattr(training.task, "batch", with_signal)
        done = CliRunner().invoke(app, [training.command, f"config={path}"])
    assert done.exit_code == 128 + signal.SIGTERM
    assert "stopped by SIGTERM at step 2 of 4; step 2 is saved in" in done.stderr
    assert state.newest_step(training.folder / "checkpoints") == 2
    training.run()
    assert same(whole, training.weights())


def test_a_second_run_in_a_folder_is_refused(training: Training) -> None:
    with another_writer(training.folder), pytest.raises(InputError, match=r"is being written by process \d+ on "):
        training.run()
    assert not list(training.folder.glob("checkpoints/*"))


@pytest.mark.slow
def test_a_kill_in_a_write_of_a_checkpoint_costs_its_steps_only(
    training: Training, whole: dict[str, torch.Tensor]
) -> None:
    killed = run_script(training.arguments("killed in a write"))
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    folder = training.folder / "checkpoints"
    assert state.newest_step(folder) == 2
    assert len(list(folder.glob(".*.partial"))) == 1
    training.run()
    assert not list(folder.glob(".*.partial"))
    assert same(whole, training.weights())
