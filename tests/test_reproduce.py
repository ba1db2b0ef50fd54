"""`make reproduce` with its own configurations, in a few steps each."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from showo_turbo import ShowoPipeline

ROOT = Path(__file__).parent.parent
VENV = Path(sys.executable).parent.parent
SMALL = {"steps": 2, "warmup_steps": 1, "batch_size": 4, "count": 8, "dialogues": 8, "prompts": 8, "batches": 1}
"""Upper limits of the settings that determine the run time."""


def shortened(settings: object, name: str = "") -> object:
    """Return the settings with the upper limits of `SMALL`."""
    if isinstance(settings, list):
        return [shortened(one) for one in settings]
    if isinstance(settings, dict):
        return {key: shortened(value, key) for key, value in settings.items()}
    return min(settings, SMALL[name]) if name in SMALL else settings


@pytest.mark.slow
def test_all_commands_of_the_reproduction_run_once(tmp_path: Path) -> None:
    for config in (ROOT / "configs" / "tiny").glob("*.yaml"):
        short = tmp_path / config.relative_to(ROOT)
        short.parent.mkdir(parents=True, exist_ok=True)
        short.write_text(yaml.safe_dump(shortened(yaml.safe_load(config.read_text()))))
    (tmp_path / "training").symlink_to(ROOT / "training")
    (tmp_path / "prompts.jsonl").write_text(
        (ROOT / "src/showo_turbo/scenes/shapes/benchmark.jsonl").read_text().split("\n")[0]
    )
    compare = "--prompts-file prompts.jsonl --images-per-prompt 1 --scenes 1 --steps 2"
    command = ["make", "-f", str(ROOT / "Makefile"), "-o", f"{VENV}/.installed-dev", "reproduce", f"VENV={VENV}"]
    command += ["POOL=count=600", f"COMPARE={compare}"]

    first, second = (
        subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False) for _ in range(2)
    )

    assert first.returncode == 0, first.stderr
    assert "Turbo*" in first.stdout
    assert ShowoPipeline.from_pretrained(tmp_path / "runs/tiny-turbo/shipped").text_to_image("a red circle").images
    assert second.returncode == 0, second.stderr
    assert second.stdout.splitlines()[-5:] == first.stdout.splitlines()[-5:]
