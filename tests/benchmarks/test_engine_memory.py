"""An engine's memory does not grow with the number of shapes that it has seen. The limits are read once per process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


def grown(requests: int, **environment: str) -> float:
    """Return by how many MiB memory grew between a quarter of the requests and all of them."""
    code = f"import engine_memory; print(*engine_memory.memory_while_serving('tiny-turbo', {requests}, 4))"
    path = os.pathsep.join([str(FOLDER), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": path} | environment,
        capture_output=True,
        text=True,
    )
    first, *_, last = map(float, done.stdout.split())
    return last - first


@pytest.mark.slow
def test_memory_stays_flat_over_10000_requests() -> None:
    assert grown(10_000) < 20


@pytest.mark.slow
def test_memory_stays_flat_over_requests_of_many_shapes() -> None:
    """It grows by some 100 MiB without a limit."""
    assert grown(400) < 40
    assert grown(400, LRU_CACHE_CAPACITY="1024", ONEDNN_PRIMITIVE_CACHE_CAPACITY="1024") > 60


def test_the_caches_of_kernels_are_bounded(random_pipe: object) -> None:
    assert {"LRU_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY"} <= os.environ.keys()
