"""The memory benchmark writes, loads and runs checkpoints; here with a small transformer."""

from pathlib import Path

import pytest

import full_size_memory
from full_size import SMALL_PHI


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["pytorch_model.bin.index.json", "adapter"])
def test_a_checkpoint_is_built_loaded_and_run(tmp_path: Path, layout: str) -> None:
    folder = full_size_memory.build(tmp_path / "model", layout, "float16", SMALL_PHI)
    found = full_size_memory.measure(folder, layout, "float16", "bfloat16", [256])
    assert found.weights > 0
    assert found.loading_peak > 0
    assert [run.resolution for run in found.runs] == [256]
    assert full_size_memory.as_table([found]).row_count == 1
