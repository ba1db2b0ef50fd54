"""Trainings of both kinds on a few captioned images."""

from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import torch
from captioned_shards import COLORS, write_shard
from trainings import Training, make_training

from showo_turbo.data import SourceConfig
from showo_turbo.training import export


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two shards of captioned images, and texts."""
    folder = tmp_path / "data"
    folder.mkdir()
    write_shard(folder / "a.tar", ["red", "green", "blue"])
    write_shard(folder / "b.tar", ["grey", "red", "green"])
    texts = pyarrow.table({"text": [f"a {color} car" for color in COLORS]})
    pyarrow.parquet.write_table(texts, folder / "texts.parquet")
    return folder


@pytest.fixture(params=["finetune", "distill"])
def training(request: pytest.FixtureRequest, tmp_path: Path, random_checkpoint: Path, data: Path) -> Training:
    """A training of four steps, which writes a checkpoint after each."""
    captions = SourceConfig("webdataset", str(data / "*.tar"))
    texts = SourceConfig("parquet", str(data / "texts.parquet"))
    return make_training(request.param, tmp_path / "run", random_checkpoint, captions, texts)


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Export weights without a sample sheet and curves, which take longer than all steps."""
    monkeypatch.setattr(export, "write_sample_sheet", lambda *given: None)
    monkeypatch.setattr(export, "plot_curve", lambda *given: None)


WEIGHTS: dict[str, dict[str, torch.Tensor]] = {}


@pytest.fixture
def whole(training: Training, tmp_path: Path) -> dict[str, torch.Tensor]:
    """The weights of the training without a fault; it runs once for all tests."""
    if training.command not in WEIGHTS:
        faultless = training.into(tmp_path / "whole")
        faultless.run()
        WEIGHTS[training.command] = faultless.weights()
    return WEIGHTS[training.command]
