"""Signals that stop a training: it finishes its step, writes a checkpoint and stops."""

import shlex
import signal
import sys
import threading
import time
from pathlib import Path
from types import FrameType, TracebackType

STOP_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Signals of Ctrl-C, of `kill` and schedulers, and of a closed terminal; Windows lacks the last one."""

_SECONDS_OF_ONE_REQUEST = 2.0
"""Launchers forward signals that their processes have received already; only a later signal is a second request."""


class TrainingStopped(KeyboardInterrupt):
    """Report that a training was stopped by a signal; its message says at which step, and how to resume.

    Attributes:
        signal: number of the signal.
    """

    def __init__(self, message: str, signal: int) -> None:
        super().__init__(message)
        self.signal = signal


class SignalWatch:
    """Record the first signal in a block instead of ending the process; a later second one interrupts at once.

    Attributes:
        received: the first signal, or None.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._at = 0.0
        self._handlers: dict[signal.Signals, object] = {}

    def __enter__(self) -> "SignalWatch":
        if threading.current_thread() is threading.main_thread():  # Python handles signals there only
            self._handlers = {one: signal.signal(one, self._note) for one in STOP_SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for one, handler in self._handlers.items():
            signal.signal(one, handler)  # type: ignore[arg-type]

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received is None:
            self.received, self._at = signal.Signals(number), time.monotonic()
        elif time.monotonic() - self._at > _SECONDS_OF_ONE_REQUEST:
            raise KeyboardInterrupt


def command_line() -> str:
    """Return the command of this process, quoted for a shell: an installed one, `python -m PACKAGE` or a script."""
    program = Path(sys.argv[0])
    if program.name == "__main__.py":
        command = ["python", "-m", program.parent.name]
    else:
        command = ["python", sys.argv[0]] if program.suffix == ".py" else [program.name]
    return shlex.join([*command, *sys.argv[1:]])
