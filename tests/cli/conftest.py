"""Run the command line as a user starts it, in this process."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from showo_turbo.cli.main import run


@dataclass(frozen=True)
class Result:
    """Hold the exit status, standard output and standard error of a command."""

    status: int
    out: str
    err: str


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """`cli("ask", "image.png", "What?")` runs the entry point of the console script."""

    def call(*arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["showo-turbo", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            run()
        captured = capsys.readouterr()
        return Result(stopped.value.code or 0, captured.out, captured.err)

    return call
