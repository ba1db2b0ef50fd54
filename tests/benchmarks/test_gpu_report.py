"""The report on a GPU runs on a small model on the CPU; no time is checked."""

import json
from pathlib import Path

import pytest

import gpu_report


@pytest.mark.slow
def test_every_row(tmp_path: Path) -> None:
    file = tmp_path / "gpu.json"
    gpu_report.main(device="cpu", dtype="bfloat16", budget=0.0, small=True, output=file)
    rows = {row["name"]: row for row in json.loads(file.read_text())["rows"]}
    assert rows["a pass of one image"]["aim"] == gpu_report.AIMS["a pass of one image"]
    assert rows["pixels of float16 within a level"]["value"] > 99
    assert len(rows) == 3 + 2 + 2 * 4 + 1
