"""Weight files: only tensors are ever read, and what does not fit is named."""

import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from showo_turbo.checkpoints.weights import find_weights, fit_weights, read_weights
from showo_turbo.errors import InputError


class Malicious:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    return nn.Linear(3, 2).state_dict()


def test_all_formats_hold_the_same(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    save_file(state, tmp_path / "a.safetensors")
    torch.save(state, tmp_path / "b.bin")
    torch.save(state, tmp_path / "c.bin", _use_new_zipfile_serialization=False)
    for name in ("a.safetensors", "b.bin", "c.bin"):
        read = read_weights(tmp_path / name)
        assert read.keys() == state.keys()
        assert all(read[key].equal(state[key]) for key in state)


def test_safetensors_come_first(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    with pytest.raises(InputError, match=r"holds no weights: expected one of model\.safetensors"):
        find_weights(tmp_path)
    torch.save(state, tmp_path / "pytorch_model.bin")
    assert find_weights(tmp_path).name == "pytorch_model.bin"
    save_file(state, tmp_path / "model.safetensors")
    assert find_weights(tmp_path).name == "model.safetensors"


@pytest.mark.parametrize("archive", [True, False])
def test_code_in_a_bin_file_is_refused_and_does_not_run(tmp_path: Path, archive: bool) -> None:
    file, trace = tmp_path / "pytorch_model.bin", tmp_path / "trace"
    if archive:
        torch.save({"weight": Malicious(trace)}, file)
    else:
        file.write_bytes(pickle.dumps({"weight": Malicious(trace)}))
    with pytest.raises(InputError, match=r"pytorch_model\.bin' was refused: it holds more than tensors"):
        read_weights(file)
    assert not trace.exists()


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.98])
def test_a_truncated_file_is_refused(tmp_path: Path, name: str, share: float) -> None:
    file, state = tmp_path / name, {"weight": torch.zeros(2000)}
    if file.suffix == ".bin":
        torch.save(state, file)
    else:
        save_file(state, file)
    whole = file.read_bytes()
    file.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(InputError, match="is truncated"):
        read_weights(file)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_noise_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"not weights at all " * 20)
    with pytest.raises(InputError, match=r"damaged|refused"):
        read_weights(tmp_path / name)


def test_a_nested_file_is_refused(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    torch.save({"state_dict": state}, tmp_path / "pytorch_model.bin")
    with pytest.raises(InputError, match="not a flat table of tensors"):
        read_weights(tmp_path / "pytorch_model.bin")


def test_weights_take_the_modules_precision(state: dict[str, torch.Tensor]) -> None:
    with torch.device("meta"):
        module = nn.Linear(3, 2).to(torch.bfloat16)
    fit_weights(module, {key: value.half() for key, value in state.items()}, Path("file"))
    assert module.weight.dtype == torch.bfloat16
    assert module.weight.equal(state["weight"].half().bfloat16())


def test_what_does_not_fit_is_named(state: dict[str, torch.Tensor]) -> None:
    with pytest.raises(InputError, match=r"'file' does not fit.*missing: bias; unexpected: extra"):
        fit_weights(nn.Linear(3, 2), {"weight": state["weight"], "extra": state["bias"]}, Path("file"))
    with pytest.raises(InputError, match=r"weight is \(2, 3\) where the config says \(5, 3\)"):
        fit_weights(nn.Linear(3, 5), state, Path("file"))


def test_long_lists_of_names_are_cut() -> None:
    module = nn.Sequential(*(nn.Linear(1, 1) for _ in range(5)))
    with pytest.raises(InputError, match=r"missing: 0\.bias, 0\.weight, 1\.bias and 7 more$"):
        fit_weights(module, {}, Path("file"))
