"""Two processes, one of which is killed, slow, or has a NaN loss: what the training does, and what is lost."""

import time
from pathlib import Path

import pytest
from faulty_training import SLOW_SECONDS
from trainings import Training, same, start_processes

from showo_turbo.files import read_json_lines

pytestmark = pytest.mark.slow

SECONDS_UNTIL_THE_OTHERS_END = 60


def test_torchrun_restarts_the_job_from_the_last_checkpoint(training: Training, tmp_path: Path) -> None:
    whole = training.into(tmp_path / "whole")
    assert whole.launch("none", 0).returncode == 0
    done = training.launch("killed", 1, restarts=1)
    assert done.returncode == 0, done.stderr[-3000:]
    assert same(whole.weights(), training.weights())
    assert [line["step"] for line in read_json_lines(training.folder / "log.jsonl")] == [1, 2, 3, 4]


def test_without_restarts_the_others_end_with_one_line(training: Training) -> None:
    """No launcher ends them."""
    first, second = start_processes(training, "killed", rank=1)
    try:
        second.wait(300)
        killed = time.monotonic()
        _, error = first.communicate(timeout=SECONDS_UNTIL_THE_OTHERS_END)
    finally:
        for process in (first, second):
            process.kill()
            process.communicate()
    assert time.monotonic() - killed < SECONDS_UNTIL_THE_OTHERS_END
    assert first.returncode == 2
    (line,) = [line for line in error.splitlines() if line.startswith("error: ")]
    assert "process 0 of 2 lost the connection to another one: find out which one ended or hangs" in line
    assert "Traceback" not in error


def test_a_nan_in_one_process_skips_the_step_in_all(training: Training) -> None:
    done = training.launch("nan", 1)
    assert done.returncode == 0, done.stderr[-3000:]
    skipped = read_json_lines(training.folder / "skipped.jsonl")
    assert [line["step"] for line in skipped] == [2, 2]  # a line of each process
    assert all(tensor.isfinite().all() for tensor in training.weights().values())
    lines = read_json_lines(training.folder / "log.jsonl")
    assert [line["step"] for line in lines] == [1, 2, 4]


def test_a_slow_process_costs_time_only(training: Training, tmp_path: Path) -> None:
    whole = training.into(tmp_path / "whole")
    assert whole.launch("none", 0).returncode == 0
    start = time.monotonic()
    done = training.launch("slow", 1)
    assert done.returncode == 0, done.stderr[-3000:]
    assert time.monotonic() - start > SLOW_SECONDS
    assert same(whole.weights(), training.weights())
