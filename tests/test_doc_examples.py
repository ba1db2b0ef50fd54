"""Examples of README and docs that draw are right for at least 10 of 12 seeds."""

import sys
from pathlib import Path

import pytest

from showo_turbo import ShowoPipeline

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT / "benchmarks"))
from doc_examples import ENOUGH, EXAMPLES, MODEL, right_seeds  # noqa: E402

FAST = ("three red apples", "inpaint: a dog left of a pizza")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in FAST else pytest.mark.slow) for name in EXAMPLES]
)
def test_examples_are_right(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert right_seeds(ShowoPipeline.from_pretrained(MODEL, device="cpu"), name) >= ENOUGH
