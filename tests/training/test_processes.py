"""Runs of several processes, resumed on another number of them."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from accelerate import Accelerator
from samples_of_processes import train_on_numbers

SCRIPT = Path(__file__).with_name("samples_of_processes.py")


def samples_of(output: Path) -> list[int]:
    """Return the samples of all processes in the order of their batches."""
    lines = [json.loads(line) for log in output.rglob("samples-*.jsonl") for line in log.read_text().splitlines()]
    return [sample for line in sorted(lines, key=lambda line: line["step"]) for sample in line["samples"]]


@pytest.mark.parametrize("numbers", [(1, 2), (2, 1), (2, 3), (1, 2, 1)])
def test_a_run_resumed_on_another_number_of_processes_reads_the_next_samples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, numbers: tuple[int, ...]
) -> None:
    """Every process here is a run of its own, in a copy of the folder."""
    checkpoints = None
    for session, processes in enumerate(numbers, start=1):
        for process in range(processes):
            monkeypatch.setattr(Accelerator, "num_processes", processes)
            monkeypatch.setattr(Accelerator, "process_index", process)
            output = tmp_path / f"session {session}" / f"process {process}"
            if checkpoints is not None:
                shutil.copytree(checkpoints, output / "checkpoints")
            train_on_numbers(output, 2 * session, process, processes)
        checkpoints = output / "checkpoints"
    monkeypatch.undo()
    train_on_numbers(tmp_path / "whole", 2 * sum(numbers))
    whole = samples_of(tmp_path / "whole")
    assert len(set(whole)) == len(whole) == 2 * 2 * 2 * sum(numbers)  # steps, batches, samples of each session
    for session, processes in enumerate(numbers, start=1):
        read = samples_of(tmp_path / f"session {session}")
        assert sorted(read) == sorted(whole[: 8 * processes])
        whole = whole[8 * processes :]


@pytest.mark.slow
@pytest.mark.parametrize("numbers", [(2, 1, 2, 3), (3, 1), (1, 2, 1)])
def test_launched_processes_read_the_next_samples(tmp_path: Path, numbers: tuple[int, ...]) -> None:
    for session, processes in enumerate(numbers, start=1):
        launcher = ("-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}")
        arguments = (str(SCRIPT), str(tmp_path / "run"), str(2 * session))
        subprocess.run([sys.executable, *launcher, *arguments], check=True, timeout=300)
    train_on_numbers(tmp_path / "whole", 2 * sum(numbers))
    assert samples_of(tmp_path / "run") == samples_of(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_signal_to_the_process_group_still_saves(tmp_path: Path, name: str) -> None:
    """It reaches the workers that read the data, and the server that forks them."""
    command = [sys.executable, str(SCRIPT), str(tmp_path), "1000000", "2"]
    run = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    while not (tmp_path / "samples-0.jsonl").exists():
        time.sleep(0.1)
        assert run.poll() is None
    os.killpg(run.pid, getattr(signal, name))
    _, error = run.communicate(timeout=120)
    assert f"TrainingStopped: stopped by {name} at step" in error
    assert list((tmp_path / "checkpoints").glob("step-*"))
    assert "DataLoader" not in error
