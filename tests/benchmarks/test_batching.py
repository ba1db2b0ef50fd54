"""The batching benchmark runs requests one by one and batched, with equal results; here few requests."""

import json
import runpy
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "batching.py"


def test_one_by_one_and_batched_results_are_equal(
    random_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = runpy.run_path(str(SCRIPT), run_name="batching")
    script["main"](str(random_checkpoint), requests=4, rounds=1, max_sequences=3, output=tmp_path / "found.json")
    found = json.loads((tmp_path / "found.json").read_text())
    assert [one["kind"] for one in found] == ["images", "answers", "half and half"]
    assert all(one["same"] == one["requests"] == 4 and one["ratio"] > 0 for one in found)
    assert "times faster" in capsys.readouterr().out
