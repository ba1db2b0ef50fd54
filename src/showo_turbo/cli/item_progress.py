"""Progress of long runs over items: a bar with rate and time left, or lines where there is no terminal."""

import sys
import time
from typing import TYPE_CHECKING

from showo_turbo.cli.terminal import SECONDS_BETWEEN_LINES, verbosity

if TYPE_CHECKING:
    from rich.progress import Progress


class ItemProgress:
    """Show the number of finished items, items per second and the time left (`generate`'s `on_item`)."""

    def __init__(self, progress: "Progress", description: str, unit: str, per_item: int = 1) -> None:
        """Add a bar to a running progress display.

        Args:
            progress: the display.
            description: in front of the bar.
            unit: what an item yields, such as "images".
            per_item: number of these per item.
        """
        self.progress, self.description, self.unit, self.per_item = progress, description, unit, per_item
        self.task = progress.add_task(description, total=None)
        self.start = self.last_line = time.monotonic()
        self.first: int | None = None

    def __call__(self, done: int, total: int) -> None:
        """Show that `done` of `total` items are finished, those of earlier runs among them."""
        self.first = done - 1 if self.first is None else self.first
        now = time.monotonic()
        rate = (done - self.first) / max(now - self.start, 1e-9)
        text = f"{self.description} {done}/{total}, {rate * self.per_item:.2f} {self.unit}/s"
        self.progress.update(self.task, completed=done, total=total, description=text)
        if self.progress.disable and not verbosity.quiet and now - self.last_line > SECONDS_BETWEEN_LINES:
            self.last_line = now
            left = time.strftime("%H:%M:%S", time.gmtime((total - done) / rate))
            print(f"{text}, {left} left", file=sys.stderr, flush=True)
