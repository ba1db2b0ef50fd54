"""Terminal output while the model works: progress, streamed answers, statistics, and silence of the libraries below."""

import sys
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress
    from torch import Tensor

    from showo_turbo.outputs import TextOutput
    from showo_turbo.processing.prompts import PromptBuilder


def progress_bar() -> "Progress":
    """Return a progress bar on standard error that is removed when done, and is disabled without a terminal."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    return Progress(console=console, transient=True, disable=not console.is_terminal)


class StepProgress:
    """Advance a progress bar after every step of one call of the pipeline after another (`callback_on_step_end`)."""

    def __init__(self, progress: "Progress", description: str, calls: int = 1) -> None:
        """Add a bar for a number of calls to a running progress display."""
        self.progress = progress
        self.task = progress.add_task(description, total=calls)
        self.finished = 0

    def __call__(self, pipe: object, step: int, timestep: int, callback_kwargs: dict[str, Any]) -> None:
        """Advance by one step of a call that has `timestep` steps left."""
        self.progress.update(self.task, completed=self.finished + (step + 1) / (step + 1 + timestep))
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
    """Silence transformers' warnings."""
    from transformers.utils.logging import set_verbosity_error

    set_verbosity_error()
