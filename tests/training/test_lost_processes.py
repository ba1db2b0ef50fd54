"""A process that is killed, or that does not answer, ends the training of the others with one line."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("lose_a_process.py")


def free_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return opened.getsockname()[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("SIGKILL", "error: process 0 of 2 lost the connection to another one: find out which one ended or hangs"),
        ("SIGSTOP", "error: process 0 of 2 had no answer from another one in loop.timeout_minutes: find out"),
    ],
)
def test_the_other_process_ends_with_one_line(tmp_path: Path, name: str, message: str) -> None:
    port = str(free_port())
    processes = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), str(tmp_path), name],
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ
            | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "RANK": str(rank), "LOCAL_RANK": str(rank)}
            | {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"},
        )
        for rank in range(2)
    ]
    try:
        _, errors = processes[0].communicate(timeout=300)
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    lines = [line for line in errors.splitlines() if line and "it/s" not in line and "s/it" not in line]
    assert [line.startswith(message) for line in lines] == [True], errors
    assert processes[0].returncode == 2
