"""The curve of a training: JSON lines on the disk, a picture of them, and a tracker if one is asked for."""

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor

from showo_turbo.files import append_json_line


class TrainingLog:
    """Means of the losses since the last line, with the wall time of all sessions."""

    def __init__(self, path: Path, accelerator: Accelerator, seconds: float) -> None:
        """Go on with the file `path` after so many seconds of earlier sessions."""
        self.path, self.accelerator = path, accelerator
        self.sums: dict[str, Tensor | float] = {}
        self.counts: Counter[str] = Counter()
        self.steps = self.samples = 0
        self.start = time.monotonic() - seconds
        self.last = time.monotonic()

    @property
    def seconds(self) -> float:
        """Wall time of all sessions."""
        return time.monotonic() - self.start

    def add(self, values: dict[str, Tensor | float], samples: int) -> None:
        """Take the losses of one step, from so many samples; a step need not have all of them."""
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + (value.detach() if isinstance(value, Tensor) else value)
            self.counts[name] += 1
        self.steps += 1
        self.samples += samples

    def write(self, step: int) -> dict[str, float]:
        """Write the means, of all processes, as the line of a step."""
        own = {name: (float(total), self.counts[name]) for name, total in self.sums.items()}
        gathered, seconds = gather_object([(own, self.samples)]), time.monotonic() - self.last
        means = _means([sums for sums, _ in gathered])
        rate = sum(samples for _, samples in gathered) / seconds
        if self.accelerator.is_main_process:
            times = {"seconds": round(self.seconds, 1), "samples_per_second": round(rate, 1)}
            append_json_line(self.path, {"step": step, **times, **means})
        self.accelerator.log(means, step=step)
        self.sums, self.counts, self.steps, self.samples, self.last = {}, Counter(), 0, 0, time.monotonic()
        return means


def _means(processes: Sequence[dict[str, tuple[float, int]]]) -> dict[str, float]:
    """Means by name, of sums and counts that each process has of its own."""
    names = dict.fromkeys(name for sums in processes for name in sums)
    totals = {name: [sums[name] for sums in processes if name in sums] for name in names}
    return {
        name: round(sum(total for total, _ in own) / sum(count for _, count in own), 4) for name, own in totals.items()
    }
