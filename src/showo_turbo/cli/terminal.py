"""Terminal output while the model works: progress, streamed answers, statistics, and silence of the libraries below."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import TextIOWrapper
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress
    from torch import Tensor

    from showo_turbo.outputs import TextOutput
    from showo_turbo.processing.prompts import PromptBuilder


@dataclass
class Verbosity:
    """Hold how much is printed on standard error.

    Attributes:
        quiet: errors only: no progress, warnings or notes.
        verbose: messages of the libraries below too, and the traceback of an error.
    """

    quiet: bool = False
    verbose: bool = False


verbosity = Verbosity()
"""Set by the options of `showo-turbo`."""

SECONDS_BETWEEN_LINES = 10
"""Time between lines of progress without a terminal."""


def accept_any_text(*streams: TextIO) -> None:
    """Make streams print what their encoding lacks as escapes, and names of files that are not UTF-8 as they are."""
    for stream in streams:
        if isinstance(stream, TextIOWrapper):
            is_utf_8 = stream.encoding.lower().replace("-", "") == "utf8"
            stream.reconfigure(errors="surrogateescape" if is_utf_8 else "backslashreplace")


def silence_standard_output() -> None:
    """Discard what is printed from now on: the reader of a pipe has closed it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def print_result(text: object) -> None:
    """Print a line on standard output at once; if its reader has closed it, the command goes on silently."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        silence_standard_output()


def progress_bar() -> "Progress":
    """Return a progress bar on standard error that is removed when done, and is disabled without a terminal."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    is_terminal = console.is_terminal and not verbosity.quiet
    return Progress(console=console, transient=True, disable=not is_terminal, redirect_stdout=sys.stdout.isatty())


@contextmanager
def loading(model: str) -> Iterator[None]:
    """Show a spinner on standard error while a model is loaded; nothing without a terminal."""
    if verbosity.quiet or not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(f"loading {model}"):
        yield


def warn(message: str) -> None:
    """Print a warning as one line on standard error."""
    if not verbosity.quiet:
        print(f"warning: {message}", file=sys.stderr, flush=True)


def note(message: str) -> None:
    """Print a note as one line on standard error."""
    if not verbosity.quiet:
        print(f"note: {message}", file=sys.stderr, flush=True)


class StepProgress:
    """Advance a progress bar after every step of one call of the pipeline after another (`callback_on_step_end`).

    Without a terminal, a line replaces the bar, every `SECONDS_BETWEEN_LINES`.
    """

    def __init__(self, progress: "Progress", description: str, calls: int = 1) -> None:
        """Add a bar for a number of calls to a running progress display."""
        self.progress = progress
        self.task = progress.add_task(description, total=calls)
        self.description, self.calls = description, calls
        self.finished = 0
        self.last_line = time.monotonic()

    def __call__(self, pipe: object, step: int, timestep: int, callback_kwargs: dict[str, Any]) -> None:
        """Advance by one step of a call that has `timestep` steps left."""
        completed = self.finished + (step + 1) / (step + 1 + timestep)
        self.progress.update(self.task, completed=completed)
        is_printed = self.progress.disable and not verbosity.quiet
        if is_printed and time.monotonic() - self.last_line > SECONDS_BETWEEN_LINES:
            self.last_line = time.monotonic()
            print(f"{self.description}: {completed / self.calls:.0%}", file=sys.stderr, flush=True)
        self.finished += timestep == 0


class TextPrinter:
    """Print an answer while it is decoded (a streamer)."""

    def __init__(self, prompts: "PromptBuilder", file: TextIO | None = None) -> None:
        """Print to `file`, by default standard output."""
        self.prompts = prompts
        self.file = file or sys.stdout
        self.ids: list[int] = []
        self.printed = ""
        self.started = False

    def put(self, value: "Tensor") -> None:
        """Print the text that new ids add, those of the prompt aside; an incomplete UTF-8 character is held back."""
        if not self.started:
            self.started = True
            return
        self.ids += value.tolist()
        text = self._text()
        if self.prompts.cleans_up_spaces:  # the spacing of the last word may change
            text = text[: max(text.rfind(" "), len(self.printed))]
        if not text.endswith("\N{REPLACEMENT CHARACTER}"):
            self._print(text)

    def end(self) -> None:
        """Print the text that was held back, and a line end; nothing if a call failed before the answer."""
        if not self.started:
            return
        self._print(self._text())
        self.file.write("\n")
        self.file.flush()

    def _text(self) -> str:
        return self.prompts.decode(self.ids).lstrip()

    def _print(self, text: str) -> None:
        self.file.write(text[len(self.printed) :])
        self.file.flush()
        self.printed = text


def stats_line(answer: "TextOutput", max_new_tokens: int) -> str:
    """Return tokens, forward passes and their ratio for one answer; its end of text counts as a token."""
    tokens = min(len(answer.token_ids[0]) + 1, max_new_tokens)
    return f"{tokens} tokens in {answer.forward_passes} passes: {tokens / answer.forward_passes:.2f} tokens per pass"


def quiet_transformers() -> None:
    """Silence transformers' warnings, without importing it: it reads its level from the environment when imported."""
    if verbosity.verbose:
        return
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"
    if "transformers" in sys.modules:
        from transformers.utils.logging import set_verbosity_error

        set_verbosity_error()
