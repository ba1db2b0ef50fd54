"""The page *Fine-tune on your own pictures* in short: pictures, LoRA, a kill, a merge, drawing, a distillation."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "tutorials" / "finetune.md"
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


def yaml_of_page(title: str) -> str:
    """Return a titled YAML file of the page."""
    return PAGE.read_text().partition(f'```yaml title="{title}"\n')[2].partition("```")[0]


def command(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "showo_turbo", *arguments],
        cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def kill_after(folder: Path, log: Path, step: int, *arguments: str) -> None:
    """Start a training and kill it when its log has a step."""
    with subprocess.Popen(
        [sys.executable, "-m", "showo_turbo", *arguments], cwd=folder, env=ENVIRONMENT, stderr=subprocess.DEVNULL
    ) as process:
        while not log.exists() or f'"step": {step},' not in log.read_text():
            assert process.poll() is None
            time.sleep(0.05)
        process.kill()
    assert process.returncode == -signal.SIGKILL


@pytest.mark.slow
def test_the_walk_of_the_page(tmp_path: Path) -> None:
    subprocess.run([sys.executable, ROOT / "examples" / "make_houses.py", "houses"], cwd=tmp_path, check=True)
    captions = [json.loads(line) for line in (tmp_path / "houses" / "captions.jsonl").read_text().splitlines()]
    assert len(captions) == 50
    assert all((tmp_path / "houses" / line["image"]).is_file() for line in captions)
    pool = ["image_tokenizer=tiny", "count=100", "output=scenes.safetensors"]
    command(tmp_path, "pretrain", "scene-pool", *pool)
    for name in ("houses.yaml", "houses_turbo.yaml"):
        (tmp_path / name).write_text(yaml_of_page(name))

    few = ["loop.steps=40", "loop.log_steps=10", "loop.checkpoint_minutes=0.01", "captions_batch_size=8"]
    log = tmp_path / "runs" / "houses" / "log.jsonl"
    kill_after(tmp_path, log, 20, "finetune", "config=houses.yaml", *few)
    assert "model: runs/houses/model" in command(tmp_path, "finetune", "config=houses.yaml", *few)
    losses = [json.loads(line)["captions"] for line in log.read_text().splitlines()]
    assert losses[-1] < 0.8 * losses[0]

    command(tmp_path, "convert", "runs/houses/adapter", "merged")
    drawn = []
    for name, model in (("adapter", ["--adapter", "runs/houses/adapter"]), ("merged", ["--model", "merged"])):
        command(tmp_path, "generate", "a green house on the left", *model, "-o", f"{name}.png", "--seed", "0")
        drawn.append((tmp_path / f"{name}.png").read_bytes())
    assert drawn[0] == drawn[1]

    stage = "stages=[{name: two, loop: {steps: 4, warmup_steps: 1}, image: {batch_size: 4, num_inference_steps: 8}, "
    stage += "text: {weight: 0}, language: {weight: 0}, sampling: {num_inference_steps: 2}}]"
    assert "student: runs/houses-turbo/two/model" in command(tmp_path, "distill", "config=houses_turbo.yaml", stage)
    command(tmp_path, "generate", "a green house on the left", "--model", "runs/houses-turbo/two/model", "--seed", "0")
