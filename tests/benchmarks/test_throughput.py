"""The throughput benchmark compares equal results, and counts how full passes are; here few requests."""

import json
import runpy
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "throughput.py"


def test_figures_of_a_few_requests(random_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = runpy.run_path(str(SCRIPT), run_name="throughput")
    limits = {"requests": 4, "rounds": 1, "concurrency": [1, 3], "load": [2.0], "output": tmp_path / "found.json"}
    script["main"](str(random_checkpoint), prefix_cache_size=1, **limits)
    found = json.loads((tmp_path / "found.json").read_text())
    closed, arrivals = found[:6], found[6:]
    assert [(one["kind"], one["concurrency"]) for one in closed[::2]] == [("images", 1), ("answers", 1), ("mixed", 1)]
    assert all(one["same"] == 4 and one["ratio"] > 0 for one in closed)
    assert closed[1]["rows_per_pass"] > closed[0]["rows_per_pass"]
    assert [one["kind"] for one in arrivals] == ["images", "answers", "mixed"]
    assert all(0 < one["occupied"] <= 1 for one in arrivals)
    assert "requests_per_second" in capsys.readouterr().out
