"""The benchmark of approximations compares variants with the exact one; here with few prompts and variants."""

import json
import runpy
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "approximations.py"


def test_variants_are_compared_with_the_exact_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = runpy.run_path(str(SCRIPT), run_name="approximations")
    variants = script["VARIANTS"]
    for name in variants.keys() - {"exact, float32", "bfloat16 weights", "early exit .1"}:
        del variants[name]
    script["main"]("tiny-turbo", 6, 1, rounds=1, batch=2, top_k=1, temperature=0.0, steps=4, output=tmp_path / "f.json")
    found = json.loads((tmp_path / "f.json").read_text())
    exact, half, early = found["outcomes"]
    assert (exact["same_codes"], exact["times_faster"], exact["steps"]) == (1, 1, 4)
    assert half["weights_mib"] == exact["weights_mib"] / 2
    assert early["steps"] < 4
    assert all(one["interval"][0] <= one["score"] <= one["interval"][1] for one in found["outcomes"])
    assert "times faster" in capsys.readouterr().out
