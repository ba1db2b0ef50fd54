"""What a person at the terminal sees while the model works."""

import sys
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress
    from torch import Tensor

    from showo_turbo.outputs import TextOutput
    from showo_turbo.processing.prompts import PromptBuilder


def progress_bar() -> "Progress":
    """A progress bar on standard error that goes away when done, and is not there without a terminal."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    return Progress(console=console, transient=True, disable=not console.is_terminal)


class StepProgress:
    """A `callback_on_step_end` that moves a bar, for one call after another."""

    def __init__(self, progress: "Progress", description: str, calls: int = 1) -> None:
        """Add a bar for so many calls of the pipeline to a running progress display."""
        self.progress = progress
        self.task = progress.add_task(description, total=calls)
        self.finished = 0

    def __call__(self, pipe: object, step: int, timestep: int, callback_kwargs: dict[str, Any]) -> None:
        """Move on by one step of the call, of which `timestep` are still to come."""
        self.progress.update(self.task, completed=self.finished + (step + 1) / (step + 1 + timestep))
        self.finished += timestep == 0


class TextPrinter:
    """A streamer that prints an answer while it forms."""

    def __init__(self, prompts: "PromptBuilder", file: TextIO | None = None) -> None:
        """Print to `file`, standard output by default."""
        self.prompts = prompts
        self.file = file or sys.stdout
        self.ids: list[int] = []
        self.printed = ""

    def put(self, value: "Tensor") -> None:
        """Print what new ids add; the half of a character waits for its other half."""
        self.ids += value.tolist()
        text = self._text()
        if not text.endswith("\N{REPLACEMENT CHARACTER}"):
            self._print(text)

    def end(self) -> None:
        """Print what waited, and a line end."""
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
    """Tokens, passes and their ratio for one answer; its end of text counts as a token."""
    tokens = min(len(answer.token_ids[0]) + 1, max_new_tokens)
    return f"{tokens} tokens in {answer.forward_passes} passes: {tokens / answer.forward_passes:.2f} tokens per pass"
