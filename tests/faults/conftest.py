"""Trainings of both kinds on a few captioned images."""

import io
import tarfile
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import torch
from PIL import Image
from trainings import Training, make_training

from showo_turbo.data import SourceConfig
from showo_turbo.training import export

COLORS = {"red": (220, 30, 30), "green": (30, 160, 60), "blue": (40, 90, 240), "grey": (90, 90, 90)}


def write_shard(path: Path, colors: list[str]) -> None:
    """Write a tar file of captioned images."""
    with tarfile.open(path, "w") as tar:
        for color in colors:
            image = io.BytesIO()
            Image.new("RGB", (40, 40), COLORS[color]).save(image, "PNG")
            for ending, content in (("png", image.getvalue()), ("txt", f"a {color} car".encode())):
                member = tarfile.TarInfo(f"{color}.{ending}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))


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
