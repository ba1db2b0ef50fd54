"""The memory benchmark writes checkpoints that load and run; here with a small transformer."""

import runpy
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "full_size_memory.py"


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["pytorch_model.bin.index.json", "adapter"])
def test_a_checkpoint_is_built_loaded_and_run(tmp_path: Path, layout: str) -> None:
    script = runpy.run_path(str(SCRIPT), run_name="full_size_memory")
    script["PHI_1_5"].update(hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2)
    folder = script["build"](tmp_path / "model", layout, "float16")
    found = script["measure"](folder, layout, "float16", "bfloat16", [256])
    assert found.weights > 0
    assert found.loading_peak > 0
    assert [run.resolution for run in found.runs] == [256]
    assert script["as_table"]([found]).row_count == 1
