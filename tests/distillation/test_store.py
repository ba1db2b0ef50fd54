"""Trajectories come back from files as they went in."""

from pathlib import Path

import torch

from showo_turbo.distillation import trajectory_files as store
from showo_turbo.distillation.image_trajectories import ImageTrajectories
from showo_turbo.distillation.soft_labels import SoftLabels
from showo_turbo.distillation.text_trajectories import JacobiTrajectory


def test_roll_outs(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    labels = {end: SoftLabels.of(torch.randn(3, 4, 9, generator=generator), 5) for end in (2, 4)}
    codes = torch.randint(0, 9, (3, 4), generator=generator)
    made = ImageTrajectories([[1], [2, 3, 4], [5, 6]], codes, codes % 4, labels)
    store.write_images(tmp_path / "image.safetensors", made)
    read = store.read_images(tmp_path / "image.safetensors")
    assert read.prompts == made.prompts
    assert read.codes.equal(made.codes)
    assert read.decided.equal(made.decided)
    assert list(read.labels) == [2, 4]
    for end in (2, 4):
        assert read.labels[end].codes.equal(labels[end].codes)
        torch.testing.assert_close(read.labels[end].probabilities, labels[end].probabilities, atol=1e-3, rtol=0)
    assert [path.name for path in tmp_path.iterdir()] == ["image.safetensors"]


def test_answers(tmp_path: Path) -> None:
    made = [
        JacobiTrajectory((1, 2, 3), torch.tensor([[4, 5], [6, 7], [8, 9]])),
        JacobiTrajectory((1,), torch.tensor([[4, 5]])),
    ]
    store.write_texts(tmp_path / "text.safetensors", made)
    read = store.read_texts(tmp_path / "text.safetensors")
    for got, want in zip(read, made, strict=True):
        assert got.prompt == want.prompt
        assert got.iterates.equal(want.iterates)


def test_rows_and_joining_are_inverse() -> None:
    codes = torch.arange(12).view(4, 3)
    labels = {3: SoftLabels(codes[..., None], torch.ones(4, 3, 1))}
    whole = ImageTrajectories([[row] for row in range(4)], codes, codes % 3, labels)
    again = ImageTrajectories.joined([whole.rows([0]), whole.rows([1, 2, 3])])
    assert again.prompts == whole.prompts
    assert again.codes.equal(whole.codes)
    assert again.labels[3].codes.equal(labels[3].codes)
