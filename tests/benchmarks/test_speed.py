"""The speed benchmark runs on a small model, with equal results on both sides; no time is checked."""

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import speed
from comparisons import understanding
from full_size import random_pipeline, set_resolution

app = typer.Typer()
app.command()(speed.main)


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, arguments)
    return result.exit_code, result.output + repr(result.exception)


def test_every_task(tmp_path: Path) -> None:
    """All comparisons, with and without guidance, with operations, memory peaks, forward passes and a plot."""
    report, plot = tmp_path / "speed.json", tmp_path / "speed.png"
    options = ["--small", "--resolution", "64", "--repeats", "1", "--threads", "1", "--max-new-tokens", "20"]
    options += ["--steps", "2", "--guidance-scale", "0", "--guidance-scale", "2", "--images", "2"]
    options += ["--requests", "1", "--requests", "3"]
    code, printed = run(*options, "--output", str(report), "--plot", str(plot))
    assert code == 0, printed
    found = json.loads(report.read_text())
    assert found["machine"]["threads"] == found["settings"]["threads"] == 1
    assert [one["other"] for one in found["comparisons"]] == [
        *["published loop"] * 2,
        "plain layers",
        "published Jacobi",
        *["transformers' generate"] * 2,
    ]
    for one in found["comparisons"]:
        assert one["ratio"] == one["ratios"][0] > 0
        assert one["roofline"] > 0
        assert min(one["peak"], one["other_peak"]) > 0
        assert one["tflop"] < one["other_tflop"] or one["other"] == "transformers' generate"
    assert found["weights_gib"] > 0
    jacobi = found["comparisons"][3]
    assert 0 < jacobi["passes"] < jacobi["other_passes"]
    assert [0 <= one["share"] < 1 for one in found["overheads"]] == [True] * 4
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_a_different_answer_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A baseline that gives other ids fails the comparison."""
    pipe = random_pipeline(small=True)
    set_resolution(pipe, 64)
    monkeypatch.setattr("comparisons.published_jacobi", lambda *_: ([1, 2, 3], 1))
    with pytest.raises(RuntimeError, match="published Jacobi"):
        understanding(pipe, 4, 1.0, 1, 0)


def test_invalid_options_are_refused() -> None:
    """Errors come before any model is built."""
    for option, value in (("--what", "speed"), ("--resolution", "100")):
        code, printed = run("--small", option, value)
        assert code == 2
        assert value in printed
