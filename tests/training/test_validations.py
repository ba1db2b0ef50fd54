"""Validation: the best model stays, training stops early, and a resumed run validates as an uninterrupted one."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD, Optimizer

from showo_turbo.data.held_out import split_source
from showo_turbo.errors import InputError
from showo_turbo.training.loop import LoopConfig, train
from showo_turbo.training.task import StepLosses, Task


class Drift(Task[nn.Linear, int]):
    """Move one weight by 1 in each step; the loss of step n is the n-th of `held_out`."""

    def __init__(self, *held_out: float) -> None:
        self.model = nn.Linear(1, 1, bias=False)
        nn.init.zeros_(self.model.weight)
        self.held_out = held_out

    def optimizers(self) -> list[Optimizer]:
        return [SGD(self.model.parameters(), lr=1.0)]

    def batch(self, number: int) -> int:
        return number

    def losses(self, ema_model: nn.Linear, batch: int) -> StepLosses:
        loss = -self.model.weight.sum()
        return StepLosses(loss, {}, 1)

    def validate(self, model: nn.Linear) -> dict[str, float]:
        assert not model.training
        assert not torch.is_grad_enabled()
        return {"loss": self.held_out[round(model.weight.item())]} if self.held_out else {}

    def export(self, model: nn.Linear, folder: Path) -> None:
        (folder / "model.txt").write_text(f"{model.weight.item():.0f}")


def config(folder: Path, **changes: Any) -> LoopConfig:
    settings = {"steps": 6, "warmup_steps": 0, "decay_share": 0.0, "ema_decay": 0.0, "checkpoint_minutes": 0.0}
    return LoopConfig(str(folder), **settings | {"validation_steps": 1, "threads": 1} | changes)


def validated(folder: Path) -> list[tuple[int, float]]:
    lines = [json.loads(line) for line in (folder / "validation.jsonl").read_text().splitlines()]
    return [(line["step"], line["loss"]) for line in lines]


def exported(folder: Path) -> str:
    return (folder / "model.txt").read_text()


LOSSES = (5.0, 4.0, 2.0, 3.0, float("nan"), 2.0, 1.0)


def test_the_best_model_stays(tmp_path: Path) -> None:
    train(Drift(*LOSSES[:-1], 2.5), config(tmp_path))
    assert [step for step, _ in validated(tmp_path)] == list(range(7))
    assert (exported(tmp_path / "best"), exported(tmp_path)) == ("2", "6")


def test_the_start_and_the_last_step_are_validated(tmp_path: Path) -> None:
    train(Drift(*LOSSES), config(tmp_path, validation_steps=4))
    assert [step for step, _ in validated(tmp_path)] == [0, 4, 6]


def test_training_ends_after_validations_without_a_lower_loss(tmp_path: Path) -> None:
    train(Drift(*LOSSES), config(tmp_path, patience=3))
    assert exported(tmp_path) == "5"
    assert exported(tmp_path / "best") == "2"
    train(Drift(*LOSSES), config(tmp_path, patience=3))  # it is over: nothing is trained
    assert exported(tmp_path) == "5"
    train(Drift(*LOSSES), config(tmp_path, patience=4))
    assert (exported(tmp_path), exported(tmp_path / "best")) == ("6", "6")


@pytest.mark.parametrize("stopped_at", [1, 3, 4])
def test_a_resumed_run_validates_as_an_uninterrupted_one(tmp_path: Path, stopped_at: int) -> None:
    train(Drift(*LOSSES), config(tmp_path / "whole", patience=3))
    resumed = tmp_path / "resumed"
    train(Drift(*LOSSES), config(resumed, patience=3, steps=stopped_at))
    with (resumed / "validation.jsonl").open("a") as log:  # a killed run validates beyond its checkpoint
        log.write('{"step": 5, "loss": 0.0}\n')
    train(Drift(*LOSSES), config(resumed, patience=3))
    assert repr(validated(resumed)) == repr(validated(tmp_path / "whole"))
    for folder in ("", "best"):
        assert exported(resumed / folder) == exported(tmp_path / "whole" / folder)


def test_a_full_disk_costs_the_best_model_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def export(task: Drift, model: nn.Linear, folder: Path) -> None:
        if folder.name == "best":
            raise OSError("no space left")
        (folder / "model.txt").write_text("done")

    monkeypatch.setattr(Drift, "export", export)
    train(Drift(*LOSSES), config(tmp_path))
    assert exported(tmp_path) == "done"


def test_a_task_without_held_out_samples_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"loop\.validation_steps is 1, but this training has no held-out samples"):
        train(Drift(), config(tmp_path))
    with pytest.raises(InputError, match=r"loop\.patience is 2, but nothing is validated"):
        config(tmp_path, patience=2, validation_steps=0)


@pytest.mark.parametrize(("count", "fraction", "held_out"), [(10, 0.2, 2), (10, 0.01, 1), (3, 0.99, 2)])
def test_a_split_has_every_sample_once(count: int, fraction: float, held_out: int) -> None:
    source: Any = list(range(count))
    parts = split_source(source, fraction, seed=0)
    samples = [[part[index] for index in range(len(part))] for part in parts]
    assert sorted(samples[0] + samples[1]) == source
    assert len(samples[1]) == held_out
    assert [part.indices.tolist() for part in parts] == [
        part.indices.tolist() for part in split_source(source, fraction, seed=0)
    ]


def test_a_source_of_one_sample_is_not_split() -> None:
    source: Any = [0]
    with pytest.raises(InputError, match="it holds 1 samples, none of which can be held out"):
        split_source(source, 0.1, seed=0)
