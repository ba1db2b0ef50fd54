"""Warnings of a command that draws, and its progress without a terminal."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from showo_turbo.cli import terminal
from showo_turbo.cli.main import app


def draw(folder: Path, *options: str) -> str:
    done = CliRunner().invoke(
        app,
        ["generate", "a star", "--model", "tiny-turbo", "--steps", "1", "--seed", "0"]
        + ["-o", str(folder / "out.png"), *options],
    )
    assert done.exit_code == 0, done.stderr
    return done.stderr


@pytest.mark.parametrize(("options", "size"), [(["--width", "96"], "96 x 64"), (["--height", "128"], "64 x 128")])
def test_images_above_the_trained_size_are_warned_of(tmp_path: Path, options: list[str], size: str) -> None:
    warning = f"warning: {size} pixels is above the 64 x 64 that the model is trained on"
    assert [line.startswith(warning) for line in draw(tmp_path, *options).splitlines()] == [True]


@pytest.mark.parametrize("options", [[], ["--width", "64", "--height", "64"]])
def test_images_of_the_trained_size_are_drawn_without_a_word(tmp_path: Path, options: list[str]) -> None:
    assert draw(tmp_path, *options) == ""


def test_progress_is_printed_without_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "SECONDS_BETWEEN_LINES", 0)
    lines = draw(tmp_path, "--steps", "4").splitlines()
    assert lines == ["drawing: 25%", "drawing: 50%", "drawing: 75%", "drawing: 100%"]
