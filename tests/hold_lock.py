"""Hold the lock of a folder or of a file in a process of its own: hold_lock.py lock_folder|lock_file PATH"""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from showo_turbo import locks


@contextmanager
def another_writer(path: Path, kind: str = "lock_folder") -> Iterator[subprocess.Popen]:
    """Start a process that holds the lock in the block."""
    with subprocess.Popen([sys.executable, __file__, kind, str(path)], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"locked\n"
            yield process
        finally:
            process.kill()


if __name__ == "__main__":
    with getattr(locks, sys.argv[1])(Path(sys.argv[2])):
        print("locked", flush=True)
        time.sleep(600)
