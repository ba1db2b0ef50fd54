"""`showo-turbo average`: the mean of weights of any dtype; a failed run leaves no files."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from showo_turbo.pipelines.pipeline import ShowoPipeline


def changed(source: Path, folder: Path, change: Callable[[torch.Tensor], torch.Tensor]) -> Path:
    shutil.copytree(source, folder)
    weights = {name: change(tensor) for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file(weights, folder / "model.safetensors")
    return folder


def test_the_mean_of_three_models(cli: Callable, here: Path, random_checkpoint: Path) -> None:
    one = changed(random_checkpoint, here / "one", lambda tensor: (tensor + 0.5).half())
    other = changed(random_checkpoint, here / "other", lambda tensor: tensor - 1.25)
    assert cli("average", random_checkpoint, one, other, "-o", "mean").out == "checkpoint: mean\n"
    before, mean = load_file(random_checkpoint / "model.safetensors"), load_file(here / "mean" / "model.safetensors")
    assert before.keys() == mean.keys()
    for name, tensor in before.items():
        assert mean[name].dtype == tensor.dtype
        torch.testing.assert_close(mean[name], tensor - 0.25, atol=1e-3, rtol=0)
    assert (here / "mean" / "generation.json").read_text() == (random_checkpoint / "generation.json").read_text()
    assert len(ShowoPipeline.from_pretrained("mean").text_to_image("a red car", seed=0).images) == 1


def test_shares_are_divided_by_their_sum(cli: Callable, here: Path, random_checkpoint: Path) -> None:
    other = changed(random_checkpoint, here / "other", lambda tensor: tensor + 1)
    assert cli("average", random_checkpoint, other, "--shares", "3,1", "-o", "mean").status == 0
    before, mean = load_file(random_checkpoint / "model.safetensors"), load_file(here / "mean" / "model.safetensors")
    for name, tensor in before.items():
        torch.testing.assert_close(mean[name], tensor + 0.25, atol=1e-5, rtol=0)


def test_the_mean_of_equal_models_is_the_model(cli: Callable, here: Path, random_checkpoint: Path) -> None:
    half = changed(random_checkpoint, here / "half", lambda tensor: tensor.half())
    assert cli("average", half, half, "-o", "mean").status == 0
    before, mean = load_file(half / "model.safetensors"), load_file(here / "mean" / "model.safetensors")
    assert all(mean[name].equal(before[name]) for name in before)


def test_invalid_input_leaves_no_files(cli: Callable, here: Path, random_checkpoint: Path, tiny_folder: Path) -> None:
    for arguments, message in (
        ((random_checkpoint, "-o", "out"), "name two or more"),
        ((random_checkpoint, "tinny", "-o", "out"), "model 'tinny' is unknown"),
        ((random_checkpoint, random_checkpoint, "-o", "gone/out"), "gone' is missing: create it first"),
        ((random_checkpoint, tiny_folder, "-o", "out"), "does not fit"),
        ((random_checkpoint, random_checkpoint, "--shares", "1", "-o", "out"), "for each of the 2 models"),
        ((random_checkpoint, random_checkpoint, "--shares", "1,-1", "-o", "out"), "a number of 0 or more"),
        ((random_checkpoint, random_checkpoint, "--shares", "0,0", "-o", "out"), "a number of 0 or more"),
        ((random_checkpoint, random_checkpoint, "--shares", "1,nan", "-o", "out"), "a number of 0 or more"),
        ((random_checkpoint, random_checkpoint, "--shares", "half,half", "-o", "out"), "a number of 0 or more"),
    ):
        result = cli("average", *arguments)
        assert (result.status, result.out) == (2, "")
        assert message in result.err
    assert not list(here.iterdir())


def test_models_with_and_without_latents_have_no_mean(cli: Callable, here: Path, random_checkpoint: Path) -> None:
    """Their weights have the same shapes, but not the same meaning."""
    shutil.copytree(random_checkpoint, here / "student")
    config = json.loads((here / "student" / "config.json").read_text())
    (here / "student" / "config.json").write_text(json.dumps(config | {"num_latents": 3}))
    result = cli("average", random_checkpoint, "student", "-o", "out")
    assert (result.status, result.out) == (2, "")
    assert "models have 1, 3 latents: choose models with equally many" in result.err
    assert not (here / "out").exists()
