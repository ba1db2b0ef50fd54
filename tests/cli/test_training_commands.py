"""`showo-turbo pretrain` and `distill` from the command line."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hold_lock import another_writer
from safetensors.torch import load_file

from showo_turbo.training.state import read_values

SHOWO_TURBO = str(Path(sys.executable).parent / "showo-turbo")
SMALL = (
    *("batch_size=1", "model.base_channels=32", "model.encoder_channel_multipliers=[1,1]"),
    *("model.decoder_channel_multipliers=[1,1]", "loop.log_steps=1", "loop.checkpoint_minutes=0", "loop.threads=1"),
)


def command(output: Path, *settings: str) -> list[str]:
    return [SHOWO_TURBO, "pretrain", "image-tokenizer", *SMALL, f"loop.output={output}", *settings]


def pretrain(output: Path, *settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(output, *settings), capture_output=True, text=True)


@pytest.mark.parametrize(("options", "bars"), [((), 1), (("--quiet",), 0)])
def test_a_quiet_training_shows_no_progress_bar(
    tmp_path: Path, options: tuple[str, ...], bars: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TQDM_DISABLE", raising=False)  # set by a command with --quiet in this process
    program, *arguments = command(tmp_path, "loop.steps=1")
    done = subprocess.run([program, *options, *arguments], capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("0/1 [")) == (0, bars)


def test_one_training_at_a_time_writes_a_folder(tmp_path: Path) -> None:
    """A second one with another seed is refused before there is a checkpoint, and does not touch the manifest."""
    assert pretrain(tmp_path, "loop.steps=1").returncode == 0
    for checkpoint in (tmp_path / "checkpoints").iterdir():
        shutil.rmtree(checkpoint)
    with another_writer(tmp_path):
        result = pretrain(tmp_path, "loop.steps=1", "loop.seed=5")
    assert result.returncode == 2
    assert result.stderr.startswith(f"error: '{tmp_path}' is being written by process ")
    assert result.stderr.count("\n") == 1
    assert json.loads((tmp_path / "run.json").read_text())["loop"]["seed"] == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_a_training_with_a_checkpoint(tmp_path: Path, number: signal.Signals) -> None:
    settings = ("loop.steps=60", "loop.checkpoint_minutes=9")
    log = tmp_path / "run" / "log.jsonl"
    with subprocess.Popen(command(tmp_path / "run", *settings), stderr=subprocess.PIPE, text=True) as process:
        while not log.exists() or len(log.read_text().splitlines()) < 3:
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(number)
        assert process.stderr is not None
        said = process.stderr.read().splitlines()[-1]
    assert process.returncode == 128 + number
    (checkpoint,) = (tmp_path / "run" / "checkpoints").iterdir()
    step = read_values(checkpoint)["step"]
    assert said.startswith(f"stopped by {number.name} at step {step} of 60; step {step} is saved in ")
    assert "to resume, run it again: showo-turbo pretrain image-tokenizer batch_size=1 " in said


@pytest.mark.slow
def test_a_training_that_is_stopped_resumes_to_the_same_weights(tmp_path: Path) -> None:
    log = tmp_path / "run" / "log.jsonl"
    with subprocess.Popen(command(tmp_path / "run", "loop.steps=60", "loop.checkpoint_minutes=9")) as process:
        while not log.exists() or len(log.read_text().splitlines()) < 3:
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
    assert process.returncode == 128 + signal.SIGTERM
    for output in ("run", "whole"):
        assert pretrain(tmp_path / output, "loop.steps=60", "loop.checkpoint_minutes=9").returncode == 0
    weights = [load_file(tmp_path / output / "model.safetensors") for output in ("run", "whole")]
    assert all(weights[0][name].equal(weights[1][name]) for name in weights[0])
