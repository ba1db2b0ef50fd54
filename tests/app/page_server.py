"""A server of the page, as users start it, and the browser of the tests."""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

CHROMIUM = shutil.which("chromium")


class PageServer:
    """Run a command that serves the page; it can be stopped and started again on the same port."""

    def __init__(self, folder: Path, *command: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.folder, self.command, self.url = folder, command, f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "showo_turbo", *self.command, "--device", "cpu", "--port", str(self.port)]
        with (self.folder / "log").open("a") as log:
            self.process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment, cwd=self.folder
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert self.url in line, (self.folder / "log").read_text()

    def stop(self) -> None:
        self.process.kill()
        with self.process:
            self.process.wait(30)
