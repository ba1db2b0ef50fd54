"""Trajectories read from files equal the written ones."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from showo_turbo.configuration import ShowoConfig
from showo_turbo.distillation import trajectory_files
from showo_turbo.distillation.image_trajectories import ImageTrajectories
from showo_turbo.distillation.soft_labels import SoftLabels
from showo_turbo.distillation.text_trajectories import JacobiTrajectory
from showo_turbo.errors import InputError

CONFIG = ShowoConfig(vocab_size=40, llm_vocab_size=20, codebook_size=9, num_vq_tokens=4)


def test_image_trajectories(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    labels = {end: SoftLabels.from_logits(torch.randn(3, 4, 9, generator=generator), 5) for end in (2, 4)}
    codes = torch.randint(0, 9, (3, 4), generator=generator)
    written = ImageTrajectories([[1], [2, 3, 4], [5, 6]], codes, codes % 4, labels)
    trajectory_files.write_images(tmp_path / "image.safetensors", written)
    read = trajectory_files.read_images(tmp_path / "image.safetensors", CONFIG)
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
    read = trajectory_files.read_texts(tmp_path / "text.safetensors", CONFIG)
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


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("codes", 9),
        ("codes", -1),
        ("prompt_ids", 40),
        ("decided", -2),
        ("label_codes_3", 9),
        ("label_probabilities_3", float("nan")),
        ("label_probabilities_3", float("inf")),
        ("prompt_lengths", 10**6),
        ("prompt_lengths", -1),
    ],
)
def test_numbers_out_of_range_are_told(tmp_path: Path, name: str, value: float) -> None:
    file, codes = tmp_path / "image.safetensors", torch.arange(8).view(2, 4)
    labels = {3: SoftLabels(codes[..., None], torch.ones(2, 4, 1))}
    trajectory_files.write_images(file, ImageTrajectories([[1], [2]], codes, codes % 4, labels))
    tensors = load_file(file)
    tensors[name].view(-1)[0] = value
    save_file(tensors, file)
    with pytest.raises(InputError, match=r"trajectories '.*image\.safetensors' are damaged \(.*delete the file"):
        trajectory_files.read_images(file, CONFIG)


@pytest.mark.parametrize("damage", ["truncated", "other", "outside", "another model"])
def test_damaged_text_trajectories_are_told(tmp_path: Path, damage: str) -> None:
    file, config = tmp_path / "text.safetensors", CONFIG
    trajectory_files.write_texts(file, [JacobiTrajectory((1, 2), torch.tensor([[4, 5], [6, 39]]))])
    if damage == "truncated":
        file.write_bytes(file.read_bytes()[:-3])
    elif damage == "other":
        save_file({"weight": torch.ones(2)}, file)
    elif damage == "outside":
        save_file(load_file(file) | {"iterates": torch.tensor([4, 5, 6, 40])}, file)
    else:
        config = ShowoConfig(vocab_size=30, llm_vocab_size=10, codebook_size=9, num_vq_tokens=4)
    with pytest.raises(InputError, match=r"trajectories '.*text\.safetensors' are damaged"):
        trajectory_files.read_texts(file, config)


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
    with pytest.raises(InputError, match=r"trajectories '.*text-00000.safetensors' are damaged \(.*delete the file"):
        trajectory_files.read_texts(path, CONFIG)


def test_files_without_a_checksum_are_read(tmp_path: Path) -> None:
    """Earlier versions wrote none."""
    path = tmp_path / "text-00000.safetensors"
    trajectory_files.write_texts(path, [JacobiTrajectory((1, 2), torch.tensor([[4, 5]]))])
    save_file(load_file(path), path)
    assert trajectory_files.read_texts(path, CONFIG)[0].prompt == (1, 2)
