"""Trajectories read from files equal the written ones."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from showo_turbo.distillation import trajectory_files
from showo_turbo.distillation.image_trajectories import ImageTrajectories
from showo_turbo.distillation.soft_labels import SoftLabels
from showo_turbo.distillation.text_trajectories import JacobiTrajectory
from showo_turbo.errors import InputError


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


@pytest.mark.parametrize("how", ["first value", "last value", "truncated", "header", "empty"])
def test_damaged_files_are_refused(tmp_path: Path, how: str) -> None:
    path = tmp_path / "text-00000.safetensors"
    trajectory_files.write_texts(path, [JacobiTrajectory((1, 2, 3), torch.tensor([[4, 5], [6, 7]]))])
    content = bytearray(path.read_bytes())
    match how:
        case "first value":
            content[8 + int.from_bytes(content[:8], "little")] ^= 1
        case "last value":
            content[-1] ^= 1
        case "truncated":
            del content[-4:]
        case "header":
            content[9] ^= 1
        case "empty":
            content.clear()
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"trajectories '.*text-00000.safetensors' are damaged \(.*remove the file"):
        trajectory_files.read_texts(path)


def test_files_without_a_checksum_are_read(tmp_path: Path) -> None:
    """Earlier versions wrote none."""
    path = tmp_path / "text-00000.safetensors"
    trajectory_files.write_texts(path, [JacobiTrajectory((1, 2), torch.tensor([[4, 5]]))])
    save_file(load_file(path), path)
    assert trajectory_files.read_texts(path)[0].prompt == (1, 2)
