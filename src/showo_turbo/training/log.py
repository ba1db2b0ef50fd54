"""The curve of a training: JSON lines on the disk, a picture of them, and a tracker if one is asked for."""

import time
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor

from showo_turbo.json_lines import append_line


class TrainingLog:
    """Means of the losses since the last line, with the wall time of all sessions."""

    def __init__(self, path: Path, accelerator: Accelerator, seconds: float) -> None:
        """Go on with the file `path` after so many seconds of earlier sessions."""
        self.path, self.accelerator = path, accelerator
        self.sums: dict[str, Tensor | float] = {}
        self.steps = self.samples = 0
        self.start = time.monotonic() - seconds
        self.last = time.monotonic()

    @property
    def seconds(self) -> float:
        """Wall time of all sessions."""
        return time.monotonic() - self.start

    def add(self, values: dict[str, Tensor | float], samples: int) -> None:
        """Take the losses of one step, from so many samples."""
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + (value.detach() if isinstance(value, Tensor) else value)
        self.steps += 1
        self.samples += samples

    def write(self, step: int) -> dict[str, float]:
        """Write the means, of all processes, as the line of a step."""
        device = self.accelerator.device
        table = torch.tensor([*map(float, self.sums.values()), float(self.samples)], device=device)
        *sums, samples = self.accelerator.reduce(table, "mean").tolist()
        means = {name: round(total / self.steps, 4) for name, total in zip(self.sums, sums, strict=True)}
        rate = samples * self.accelerator.num_processes / (time.monotonic() - self.last)
        if self.accelerator.is_main_process:
            times = {"seconds": round(self.seconds, 1), "samples_per_second": round(rate, 1)}
            append_line(self.path, {"step": step, **times, **means})
        self.accelerator.log(means, step=step)
        self.sums, self.steps, self.samples, self.last = {}, 0, 0, time.monotonic()
        return means
