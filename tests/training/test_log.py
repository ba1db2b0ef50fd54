"""The means in a line of the training log."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from showo_turbo.training.log import TrainingLog


def test_the_mean_of_a_loss_is_over_the_steps_that_have_it(tmp_path: Path) -> None:
    log = TrainingLog(tmp_path / "log.jsonl", Accelerator(cpu=True), 0.0)
    log.add({"loss": 1.0}, 2)
    log.add({"loss": 2.0, "passes": 3.0}, 2)
    assert log.write(2) == {"loss": 1.5, "passes": 3.0}
    log.add({"loss": 5.0}, 2)
    assert log.write(3) == {"loss": 5.0}


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_a_line_after_a_resume_covers_the_steps_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processes: int
) -> None:
    """Two processes wrote the states; their samples and sums are divided among the processes now."""
    states = []
    for loss in (1.0, 2.0):
        log = TrainingLog(tmp_path / "log.jsonl", Accelerator(cpu=True))
        log.add({"loss": torch.tensor(loss), "probe": 0.1}, 4)
        states.append(log.state_dict())
    totals = []
    for process in range(processes):
        monkeypatch.setattr(Accelerator, "num_processes", processes)
        monkeypatch.setattr(Accelerator, "process_index", process)
        log = TrainingLog(tmp_path / "log.jsonl", Accelerator(cpu=True))
        log.resume(60.0, states)
        assert log.steps == 1
        assert 60 < log.seconds < 70
        totals.append((float(log.sums.get("loss", 0.0)), log.counts["loss"], log.samples))
    assert [sum(column) for column in zip(*totals, strict=True)] == [3.0, 2, 8]


def test_processes_may_have_different_losses(tmp_path: Path) -> None:
    script, path = Path(__file__).with_name("log_of_two_processes.py"), tmp_path / "log.jsonl"
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")
    subprocess.run([sys.executable, *launcher, str(script), str(path)], check=True, timeout=120)
    (line,) = path.read_text().splitlines()
    assert {"step": 2, "loss": 2.25, "passes": 2.0}.items() <= json.loads(line).items()
