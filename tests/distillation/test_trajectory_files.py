"""Trajectories read from files equal the written ones."""

from pathlib import Path

import torch

from showo_turbo.distillation import trajectory_files
from showo_turbo.distillation.image_trajectories import ImageTrajectories
from showo_turbo.distillation.soft_labels import SoftLabels
from showo_turbo.distillation.text_trajectories import JacobiTrajectory


def test_image_trajectories(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    labels = {end: SoftLabels.from_logits(torch.randn(3, 4, 9, generator=generator), 5) for end in (2, 4)}
    codes = torch.randint(0, 9, (3, 4), generator=generator)
    written = ImageTrajectories([[1], [2, 3, 4], [5, 6]], codes, codes % 4, labels)
    trajectory_files.write_images(tmp_path / "image.safetensors", written)
    read = trajectory_files.read_images(tmp_path / "image.safetensors")
    assert read.prompts == written.prompts
    assert read.codes.equal(written.codes)
    assert read.unmask_steps.equal(written.unmask_steps)
    assert list(read.labels) == [2, 4]
    for end in (2, 4):
        assert read.labels[end].codes.equal(labels[end].codes)
        torch.testing.assert_close(read.labels[end].probabilities, labels[end].probabilities, atol=1e-3, rtol=0)
    assert [path.name for path in tmp_path.iterdir()] == ["image.safetensors"]


def test_text_trajectories(tmp_path: Path) -> None:
    written = [
        JacobiTrajectory((1, 2, 3), torch.tensor([[4, 5], [6, 7], [8, 9]])),
        JacobiTrajectory((1,), torch.tensor([[4, 5]])),
    ]
    trajectory_files.write_texts(tmp_path / "text.safetensors", written)
    read = trajectory_files.read_texts(tmp_path / "text.safetensors")
    for actual, expected in zip(read, written, strict=True):
        assert actual.prompt == expected.prompt
        assert actual.iterates.equal(expected.iterates)


def test_concat_is_the_inverse_of_select() -> None:
    codes = torch.arange(12).view(4, 3)
    labels = {3: SoftLabels(codes[..., None], torch.ones(4, 3, 1))}
    whole = ImageTrajectories([[row] for row in range(4)], codes, codes % 3, labels)
    again = ImageTrajectories.concat([whole.select([0]), whole.select([1, 2, 3])])
    assert again.prompts == whole.prompts
    assert again.codes.equal(whole.codes)
    assert again.labels[3].codes.equal(labels[3].codes)
