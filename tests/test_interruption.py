"""The command that a stopped training says to run again."""

import sys

import pytest

from showo_turbo.interruption import command_line


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["/env/bin/showo-turbo", "finetune", "config=a b.yaml"], "showo-turbo finetune 'config=a b.yaml'"),
        (["/env/showo_turbo/__main__.py", "distill", "seed=1"], "python -m showo_turbo distill seed=1"),
        (["training/train_showo_turbo.py", "seed=1"], "python training/train_showo_turbo.py seed=1"),
    ],
)
def test_the_command_can_be_run_again(monkeypatch: pytest.MonkeyPatch, arguments: list[str], expected: str) -> None:
    monkeypatch.setattr(sys, "argv", arguments)
    assert command_line() == expected
