"""The log of a training run: mean losses as JSON lines, in a tracker if one is configured, and a progress bar."""

import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from tqdm import tqdm

from showo_turbo.files import append_json_line
from showo_turbo.training.processes import gather_from_all

if TYPE_CHECKING:
    from accelerate import Accelerator


class ProgressBar(tqdm):
    """Show progress as tqdm does; where nothing can be written, as on a full disk, nothing is shown."""

    def display(self, msg: str | None = None, pos: int | None = None) -> bool:
        """Write the bar."""
        with suppress(OSError):
            return bool(super().display(msg, pos))
        return False

    def close(self) -> None:
        """End the bar."""
        with suppress(OSError):
            super().close()


class TrainingLog:
    """Accumulate the losses of steps and write their means over all processes, with the wall time of all sessions."""

    def __init__(self, path: Path, accelerator: "Accelerator", seconds: float = 0.0) -> None:
        """Append to the log at `path`, after `seconds` of earlier sessions."""
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
        """Add the losses of one step over this number of samples; a step may lack some of the losses."""
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + (value.detach() if isinstance(value, Tensor) else value)
            self.counts[name] += 1
        self.steps += 1
        self.samples += samples

    def state_dict(self) -> dict[str, Any]:
        """Return the sums of this process since the last line, and the seconds since then, as JSON values."""
        return {
            "sums": {name: float(total) for name, total in self.sums.items()},
            "counts": dict(self.counts),
            "steps": self.steps,
            "samples": self.samples,
            "seconds": time.monotonic() - self.last,
        }

    def resume(self, seconds: float, states: list[dict[str, Any]]) -> None:
        """Resume after `seconds` of earlier sessions; the next line covers the steps since the last one.

        Args:
            seconds: wall time of earlier sessions.
            states: results of `state_dict` of all processes, whose number may differ from the current one.
        """
        self.start -= seconds
        device, now = self.accelerator.device, time.monotonic()
        self.steps = max((state["steps"] for state in states), default=0)  # the same in all processes
        for state in states[self.accelerator.process_index :: self.accelerator.num_processes]:
            for name, total in state["sums"].items():
                self.sums[name] = self.sums.get(name, 0.0) + torch.tensor(total, device=device)
            self.counts.update(state["counts"])
            self.samples += state["samples"]
            self.last = min(self.last, now - state["seconds"])

    def write(self, step: int) -> dict[str, float]:
        """Write the means over all processes since the last line, as the line of a step, and return them."""
        own = {name: (float(total), self.counts[name]) for name, total in self.sums.items()}
        gathered, seconds = gather_from_all((own, self.samples)), time.monotonic() - self.last
        means = {}
        for name in dict.fromkeys(name for sums, _ in gathered for name in sums):
            totals, counts = zip(*[sums[name] for sums, _ in gathered if name in sums], strict=True)
            means[name] = round(sum(totals) / sum(counts), 4)
        rate = sum(samples for _, samples in gathered) / seconds
        if self.accelerator.is_main_process:
            times = {"seconds": round(self.seconds, 1), "samples_per_second": round(rate, 1)}
            append_json_line(self.path, {"step": step, **times, **means})
        self.accelerator.log(means, step=step)
        self.sums, self.counts, self.steps, self.samples, self.last = {}, Counter(), 0, 0, time.monotonic()
        return means
