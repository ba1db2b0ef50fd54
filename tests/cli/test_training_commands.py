"""`showo-turbo pretrain` and `distill` from the command line."""

import json
import subprocess
import sys
from pathlib import Path

from hold_lock import another_writer

SHOWO_TURBO = str(Path(sys.executable).parent / "showo-turbo")
SMALL = (
    *("batch_size=1", "model.base_channels=32", "model.encoder_channel_multipliers=[1,1]"),
    *("model.decoder_channel_multipliers=[1,1]", "loop.log_steps=1", "loop.checkpoint_minutes=0", "loop.threads=1"),
)


def pretrain(output: Path, *settings: str) -> subprocess.CompletedProcess[str]:
    command = [SHOWO_TURBO, "pretrain", "image-tokenizer", *SMALL, f"loop.output={output}", *settings]
    return subprocess.run(command, capture_output=True, text=True)


def test_one_training_at_a_time_writes_a_folder(tmp_path: Path) -> None:
    """A second one with another seed is refused before there is a checkpoint, and does not touch the manifest."""
    assert pretrain(tmp_path, "loop.steps=1").returncode == 0
    for file in (tmp_path / "checkpoints").iterdir():
        file.unlink()
    with another_writer(tmp_path):
        result = pretrain(tmp_path, "loop.steps=1", "loop.seed=5")
    assert result.returncode == 2
    assert result.stderr.startswith(f"error: '{tmp_path}' is being written by process ")
    assert result.stderr.count("\n") == 1
    assert json.loads((tmp_path / "run.json").read_text())["loop"]["seed"] == 0
