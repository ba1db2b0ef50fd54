"""Write checkpoints in the background, while the training takes its next steps."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from torch import Tensor


class BackgroundWriter:
    """Run one call at a time in a thread."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "checkpoints")
        self._running: Future[object] | None = None

    def start(self, function: Callable[..., object], *arguments: Any) -> None:
        """Start a call, after the one before has ended.

        Raises:
            Exception: of the call before.
        """
        self.wait()
        self._running = self._thread.submit(function, *arguments)

    def wait(self) -> None:
        """Wait for the call that was started last.

        Raises:
            Exception: of that call, once.
        """
        running, self._running = self._running, None
        if running is not None:
            running.result()


def copy_to_cpu(state: Any) -> Any:
    """Return a state whose tensors are copies on the CPU, so that later steps do not change it."""
    if isinstance(state, Tensor):
        return state.detach().to("cpu", copy=True)
    if isinstance(state, dict):
        return {key: copy_to_cpu(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(copy_to_cpu(value) for value in state)
    return state
