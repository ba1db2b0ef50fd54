"""lm-eval and lmms-eval print the table of a summary."""

import json
from importlib.util import find_spec
from pathlib import Path

import pytest

from showo_turbo.evaluation.summary import summarize

pytestmark = pytest.mark.skipif(find_spec("lm_eval") is None, reason="make test-plugins has lm-eval")


@pytest.mark.parametrize("package", ["lm_eval", "lmms_eval"])
def test_the_table_of_a_summary(tmp_path: Path, run_framework, package: str) -> None:
    stamp = {"model": "tiny-turbo", "items": 9, "showo_turbo": "0.1.0"}
    score = {"value": 83.25, "interval": [80.0, 86.0]}
    for name in ("pope", "mme"):
        (tmp_path / name).mkdir()
        content = {"benchmark": name, "stamp": stamp, "scores": {"accuracy": score, "f1": score | {"interval": None}}}
        (tmp_path / name / "scores.json").write_text(json.dumps(content))
    (tmp_path / "summary.json").write_text(json.dumps(summarize([tmp_path / "pope", tmp_path / "mme"])))
    code = f"import json; from {package}.utils import make_table; print(make_table(json.load(open('summary.json'))))"
    rows = [
        [cell.strip() for cell in line.split("|")] for line in run_framework("-c", code).splitlines() if "|" in line
    ]
    cells = [row for row in rows if "accuracy" in row]
    assert len(cells) == 2
    assert all("83.25" in row and "1.5306" in row for row in cells)
    assert sum("N/A" in row for row in rows if "f1" in row) == 2
