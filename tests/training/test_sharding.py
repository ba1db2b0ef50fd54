"""Trainings on 1, 2 and 4 processes, as they are or sharded, have the losses and weights of one process."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from test_loop import Regression, config
from train_sharded import train_next_token
from validate_sharded import train_and_validate

from showo_turbo.errors import InputError
from showo_turbo.training.loop import train
from showo_turbo.training.loop_config import LoopConfig

SCRIPT = Path(__file__).with_name("train_sharded.py")
STEPS = 6


def launch(output: Path, steps: int, sharding: str, processes: int, *more: str) -> None:
    run_script(SCRIPT, processes, str(output), str(steps), sharding, *more)


def run_script(script: Path, processes: int, *arguments: str) -> None:
    launcher = ("-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}")
    subprocess.run([sys.executable, *launcher, str(script), *arguments], check=True, timeout=600)


def losses(output: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (output / "log.jsonl").read_text().splitlines()]


def check_same(output: Path, whole: Path) -> None:
    assert losses(output) == pytest.approx(losses(whole), abs=2e-4)
    assert len(losses(output)) == STEPS
    one, other = (torch.load(folder / "model.pt", weights_only=True) for folder in (output, whole))
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, other[name], atol=2e-4, rtol=1e-3, msg=name)


@pytest.mark.slow
@pytest.mark.parametrize(("sharding", "processes"), [("none", 2), ("none", 4), ("fsdp2", 2), ("fsdp2", 4)])
def test_processes_have_the_curve_of_one(tmp_path: Path, sharding: str, processes: int) -> None:
    train_next_token(tmp_path / "whole", STEPS)
    launch(tmp_path / "run", STEPS, sharding, processes)
    check_same(tmp_path / "run", tmp_path / "whole")


@pytest.mark.slow
def test_a_run_is_resumed_on_other_processes_sharded_or_not(tmp_path: Path) -> None:
    train_next_token(tmp_path / "whole", STEPS)
    for steps, sharding, processes in (
        (2, "fsdp2", 4),
        (3, "fsdp2", 2),
        (4, "none", 1),
        (5, "fsdp2", 2),
        (6, "none", 2),
    ):
        launch(tmp_path / "run", steps, sharding, processes)
    check_same(tmp_path / "run", tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ema_decay", "learning_rate", "steps"), [(0.5, 0.01, [0, 2, 4, 6]), (0.0, 0.01, [0, 2, 4, 6]), (0.5, 0.3, [0, 2])]
)
def test_validations_have_the_losses_of_one_process(
    tmp_path: Path, ema_decay: float, learning_rate: float, steps: list[int]
) -> None:
    """Three held-out batches are two for one process and one for the other; with a high rate training ends early."""
    one, two = tmp_path / "one", tmp_path / "two"
    train_and_validate(one, ema_decay, learning_rate)
    run_script(SCRIPT.with_name("validate_sharded.py"), 2, str(two), str(ema_decay), str(learning_rate))
    lines, expected = (
        [json.loads(line) for line in (folder / "validation.jsonl").read_text().splitlines()] for folder in (two, one)
    )
    assert [line["step"] for line in lines] == steps
    for line, other in zip(lines, expected, strict=True):
        assert line == pytest.approx(other, rel=1e-3)
    for file in ("best/model.pt", *(f"samples/step-{step:08d}.png" for step in steps)):
        tensors, others = (torch.load(folder / file, weights_only=True) for folder in (two, one))
        for name, tensor in tensors.items():
            torch.testing.assert_close(tensor, others[name], atol=2e-3, rtol=1e-2, msg=f"{file} {name}")


def test_one_process_shards_nothing(tmp_path: Path) -> None:
    for sharding in ("none", "fsdp2"):
        train_next_token(tmp_path / sharding, STEPS, sharding)
    check_same(tmp_path / "fsdp2", tmp_path / "none")


def test_a_task_that_cannot_be_sharded_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"loop\.sharding is 'fsdp2', which this training does not support"):
        train(Regression(), config(tmp_path / "run", sharding="fsdp2"))
    assert not (tmp_path / "run").exists()
    with pytest.raises(InputError, match=r"loop\.sharding is 'fsdp': choose none or fsdp2"):
        LoopConfig(sharding="fsdp")
