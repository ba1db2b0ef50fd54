"""A teacher that is sharded over two processes has the trajectories of a whole one, and half of the weights in each."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("roll_out_sharded.py")


@pytest.mark.slow
@pytest.mark.parametrize(("processes", "dtype"), [(2, "bfloat16"), (2, "float32"), (3, "float32")])
def test_a_sharded_teacher_has_the_trajectories_of_a_whole_one(
    tmp_path: Path, random_checkpoint: Path, processes: int, dtype: str
) -> None:
    launcher = ("-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}")
    arguments = (str(SCRIPT), str(random_checkpoint), str(tmp_path), dtype)
    subprocess.run([sys.executable, *launcher, *arguments], check=True, timeout=900)
    results = [json.loads((tmp_path / f"process-{number}.json").read_text()) for number in range(processes)]
    for result in results:
        assert result["held"] == pytest.approx(result["parameters"] / processes, rel=0.05)
    assert sum(result["held"] for result in results) == results[0]["parameters"]
    for passes in zip(*(result["passes"] for result in results), strict=True):
        assert len(set(passes)) > 1
