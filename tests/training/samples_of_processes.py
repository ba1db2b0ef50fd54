"""Train to a step and write the samples that this process has read, a line per batch. See test_processes.py.

samples_of_processes.py OUTPUT STEPS [WORKERS]
"""

import sys
from pathlib import Path

import torch
from accelerate import PartialState
from torch import nn
from torch.optim import Optimizer

from showo_turbo.data.loader import SampleLoader
from showo_turbo.data.samples import TextSample
from showo_turbo.data.stream import MixedStream, WeightedSource
from showo_turbo.files import append_json_line
from showo_turbo.training.loop import LoopConfig, train
from showo_turbo.training.task import StepLosses, Task


class Numbers:
    """Give samples with their numbers as texts."""

    def __len__(self) -> int:
        return 1000

    def __getitem__(self, index: int) -> TextSample:
        return TextSample(str(index), str(index))


class Reading(Task[nn.Linear, list[int]]):
    """Fit the numbers of a stream."""

    def __init__(self, log: Path, stride: int, workers: int) -> None:
        torch.manual_seed(0)
        self.model, self.log = nn.Linear(1, 1), log
        stream = MixedStream([WeightedSource("numbers", Numbers())], seed=3)
        self.loader = SampleLoader(stream, 2, workers, stride)

    def optimizers(self) -> list[Optimizer]:
        return [torch.optim.AdamW(self.model.parameters())]

    def batch(self, number: int) -> list[int]:
        samples = [int(sample.text) for sample in self.loader.batch(number)]
        append_json_line(self.log, {"step": number, "samples": samples})
        return samples

    def losses(self, ema_model: nn.Module, batch: list[int]) -> StepLosses:
        loss = self.model(torch.tensor(batch)[:, None] / 1000).square().mean()
        return StepLosses(loss, {}, len(batch))

    def export(self, model: nn.Module, folder: Path) -> None:
        torch.save(model.state_dict(), folder / "model.pt")


def train_on_numbers(output: Path, steps: int, process: int = 0, processes: int = 1, workers: int = 0) -> None:
    """Train to a step in a folder, as one of some processes."""
    output.mkdir(parents=True, exist_ok=True)
    config = LoopConfig(str(output), steps=steps, decay_share=0.0, gradient_accumulation_steps=2, log_steps=1)
    train(Reading(output / f"samples-{process}.jsonl", processes, workers), config)


if __name__ == "__main__":
    state = PartialState(cpu=True)
    output, steps, *workers = sys.argv[1:]
    train_on_numbers(Path(output), int(steps), state.process_index, state.num_processes, *map(int, workers))
    state.destroy_process_group()
