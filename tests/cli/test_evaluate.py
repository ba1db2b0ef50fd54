"""`showo-turbo evaluate` on the shipped model, with a few prompts and images."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from showo_turbo.scenes.benchmark import benchmark_prompts

SHOWO_TURBO = str(Path(sys.executable).parent / "showo-turbo")


def evaluate(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([SHOWO_TURBO, "evaluate", "--model", "tiny-turbo", *options], capture_output=True, text=True)


@pytest.fixture
def prompts_file(tmp_path: Path) -> Path:
    file = tmp_path / "prompts.jsonl"
    file.write_text("".join(prompt.to_json() + "\n" for prompt in benchmark_prompts()[::60]))
    return file


def test_scores_are_printed_and_written_with_all_settings(prompts_file: Path, tmp_path: Path) -> None:
    file = tmp_path / "scores.json"
    done = evaluate(
        *("--prompts-file", str(prompts_file), "--steps", "4", "--guidance-scale", "1.5", "--images-per-prompt", "2"),
        *("--scenes", "3", "-o", str(file)),
    )
    assert done.returncode == 0, done.stderr
    assert "overall" in done.stdout
    assert "facts true" in done.stdout

    written = json.loads(file.read_text())
    assert written["stamp"]["sampling"]["num_inference_steps"] == 4
    assert written["stamp"]["sampling"]["guidance_scale"] == 1.5
    assert written["stamp"]["prompts"] == len(prompts_file.read_text().splitlines())
    assert len(written["stamp"]["weights_sha256"]["transformer"]) == 64
    for score in (
        written["text_to_image"]["scores"]["overall"],
        written["understanding"]["scores"]["questions"],
        written["reconstruction"]["reconstructions"],
    ):
        low, high = score["interval"]
        assert 0 <= low <= score["value"] <= high <= 1
    assert written["reconstruction"]["renders"]["value"] == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--task", "sing"], "task is 'sing'"),
        (["--steps", "65"], "num_inference_steps is 65"),
        (["--scenes", "0"], "scenes is 0"),
        (["--seed", "-1"], "seed is -1"),
        (["--prompts-file", "missing.jsonl"], "missing.jsonl"),
    ],
)
def test_bad_input_is_one_line_and_status_2(options: list[str], words: str) -> None:
    done = evaluate(*options)
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.strip().splitlines()
    assert words in line
