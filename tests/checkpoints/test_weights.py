"""Weights: every layout loads the same, only tensors are read, and weights that do not fit are named."""

import hashlib
import json
import os
import pickle
import resource
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from showo_turbo.checkpoints import weight_files
from showo_turbo.checkpoints.weight_files import describe, stream
from showo_turbo.checkpoints.weights import Weights, find_weights, fit_weights, open_weights
from showo_turbo.errors import InputError
from showo_turbo.files import sha256_of_files


class Malicious:
    """Create a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    return nn.Linear(3, 2).state_dict()


def write(file: Path, state: dict[str, torch.Tensor]) -> Path:
    (torch.save if file.suffix == ".bin" else save_file)(state, file)
    return file


def write_shards(folder: Path, suffix: str, state: dict[str, torch.Tensor]) -> None:
    """Write one shard per tensor, and their index."""
    name = {"bin": "pytorch_model", "safetensors": "model"}[suffix]
    files = {key: f"{name}-{number:05}-of-{len(state):05}.{suffix}" for number, key in enumerate(state, start=1)}
    for key, file in files.items():
        write(folder / file, {key: state[key]})
    (folder / f"{name}.{suffix}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": files}))


def read(weights: Weights) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in weights.stream()}


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    assert all(found[name].equal(expected[name]) and found[name].dtype == expected[name].dtype for name in expected)


def in_folder(folder: Path, state: dict[str, torch.Tensor]) -> Weights:
    write(folder / "model.safetensors", state)
    return open_weights(folder)


@pytest.mark.parametrize("bytes_per_map", [1, 2**27])
def test_all_formats_load_the_same(
    tmp_path: Path, state: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch, bytes_per_map: int
) -> None:
    monkeypatch.setattr(weight_files, "_BYTES_PER_MAP", bytes_per_map)
    state = state | {"half": torch.ones(2, 2).half()}
    save_file(state, tmp_path / "a.safetensors")
    torch.save(state, tmp_path / "b.bin")
    torch.save(state, tmp_path / "c.bin", _use_new_zipfile_serialization=False)
    for name in ("a.safetensors", "b.bin", "c.bin"):
        assert_same(dict(stream(tmp_path / name)), state)
        described = describe(tmp_path / name)
        assert {key: (value.shape, value.dtype, value.device.type) for key, value in described.items()} == {
            key: (value.shape, value.dtype, "meta") for key, value in state.items()
        }


@pytest.mark.parametrize("suffix", ["bin", "safetensors"])
def test_shards_load_the_same(tmp_path: Path, state: dict[str, torch.Tensor], suffix: str) -> None:
    write_shards(tmp_path, suffix, state)
    weights = open_weights(tmp_path)
    assert_same(read(weights), state)
    assert weights.layout.keys() == state.keys()
    assert [file.suffix for file in find_weights(tmp_path)] == [".json", f".{suffix}", f".{suffix}"]


@pytest.mark.parametrize("damage", ["missing", "empty", "incomplete"])
def test_an_invalid_shard_is_named(tmp_path: Path, state: dict[str, torch.Tensor], damage: str) -> None:
    write_shards(tmp_path, "safetensors", state)
    shard = tmp_path / "model-00002-of-00002.safetensors"
    if damage == "missing":
        shard.unlink()
        message = (
            r"model\.safetensors\.index\.json' names 2 files, of which model-00002-of-00002\.safetensors is missing"
        )
    elif damage == "empty":
        shard.write_bytes(b"")
        message = r"model-00002-of-00002\.safetensors' is truncated or damaged"
    else:
        write(shard, {"other": torch.ones(1)})
        message = r"model-00002-of-00002\.safetensors' lacks bias, which model\.safetensors\.index\.json says"
    with pytest.raises(InputError, match=message):
        open_weights(tmp_path)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ({"weight_map": {"weight": "../model.safetensors"}}, "must lie beside their index"),
        ({"weight_map": {"weight": 3}}, "has no weight_map"),
        ({}, "has no weight_map"),
    ],
)
def test_an_invalid_index_is_named(tmp_path: Path, index: dict, message: str) -> None:
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match=rf"pytorch_model\.bin\.index\.json' .*{message}"):
        open_weights(tmp_path)


@pytest.mark.parametrize("wrapper", ["module.", "_orig_mod.", "module._orig_mod."])
def test_a_wrapper_prefix_of_all_names_is_removed(tmp_path: Path, state: dict[str, torch.Tensor], wrapper: str) -> None:
    assert_same(read(in_folder(tmp_path, {wrapper + name: tensor for name, tensor in state.items()})), state)


def test_a_wrapper_prefix_of_some_names_is_kept(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    named = {"module.weight": state["weight"], "bias": state["bias"]}
    assert open_weights(write(tmp_path / "model.safetensors", named).parent).layout.keys() == named.keys()


def test_safetensors_are_preferred(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    with pytest.raises(InputError, match=r"holds no weights: expected one of model\.safetensors.*index\.json"):
        find_weights(tmp_path)
    torch.save(state, tmp_path / "pytorch_model.bin")
    assert find_weights(tmp_path)[0].name == "pytorch_model.bin"
    save_file(state, tmp_path / "model.safetensors")
    assert find_weights(tmp_path)[0].name == "model.safetensors"


def test_the_hash_of_files_is_that_of_their_concatenation(tmp_path: Path) -> None:
    for name, content in {"a": b"one", "b": b"two", "both": b"onetwo"}.items():
        (tmp_path / name).write_bytes(content)
    assert sha256_of_files(tmp_path / "a") == hashlib.sha256(b"one").hexdigest()
    assert sha256_of_files(tmp_path / "a", tmp_path / "b") == sha256_of_files(tmp_path / "both")


@pytest.mark.parametrize("archive", [True, False])
def test_code_in_a_bin_file_is_refused_and_does_not_run(tmp_path: Path, archive: bool) -> None:
    file, trace = tmp_path / "pytorch_model.bin", tmp_path / "trace"
    if archive:
        torch.save({"weight": Malicious(trace)}, file)
    else:
        file.write_bytes(pickle.dumps({"weight": Malicious(trace)}))
    with pytest.raises(InputError, match=r"pytorch_model\.bin' was refused: it holds more than tensors"):
        describe(file)
    assert not trace.exists()


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("fraction", [0.0, 0.5, 0.98])
def test_a_truncated_file_is_refused(tmp_path: Path, name: str, fraction: float) -> None:
    file, state = tmp_path / name, {"weight": torch.zeros(2000)}
    if file.suffix == ".bin":
        torch.save(state, file)
    else:
        save_file(state, file)
    content = file.read_bytes()
    file.write_bytes(content[: int(fraction * len(content))])
    with pytest.raises(InputError, match="is truncated"):
        describe(file)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_noise_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"not weights at all " * 20)
    with pytest.raises(InputError, match=r"damaged|refused"):
        describe(tmp_path / name)


def test_a_nested_file_is_refused(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    torch.save({"state_dict": state}, tmp_path / "pytorch_model.bin")
    with pytest.raises(InputError, match="not a flat table of tensors"):
        describe(tmp_path / "pytorch_model.bin")


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_weights_take_the_modules_precision(tmp_path: Path, state: dict[str, torch.Tensor], name: str) -> None:
    with torch.device("meta"):
        module = nn.Linear(3, 2).to(torch.bfloat16)
    write(tmp_path / name, {key: value.half() for key, value in state.items()})
    fit_weights(module, open_weights(tmp_path))
    assert module.weight.dtype == torch.bfloat16
    assert module.weight.equal(state["weight"].half().bfloat16())


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_loaded_module_does_not_depend_on_its_file(tmp_path: Path, name: str) -> None:
    module, state = nn.Linear(300, 200), nn.Linear(300, 200).state_dict()
    file = write(tmp_path / name, state)
    fit_weights(module, open_weights(tmp_path))
    file.write_bytes(bytes(file.stat().st_size))
    assert_same(module.state_dict(), state)


def test_weights_that_do_not_fit_are_named(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    with pytest.raises(InputError, match=r"model\.safetensors' does not fit.*missing: bias; unexpected: extra"):
        fit_weights(nn.Linear(3, 2), in_folder(tmp_path, {"weight": state["weight"], "extra": state["bias"]}))
    with pytest.raises(InputError, match=r"weight is \(2, 3\) where the config says \(5, 3\)"):
        fit_weights(nn.Linear(3, 5), in_folder(tmp_path, state))


def test_long_lists_of_names_are_shortened(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    module = nn.Sequential(*(nn.Linear(1, 1) for _ in range(5)))
    with pytest.raises(InputError, match=r"missing: 0\.bias, 0\.weight, 1\.bias and 7 more; unexpected: bias, weight$"):
        fit_weights(module, in_folder(tmp_path, state))


def rewrite(file: Path, compression: int = zipfile.ZIP_STORED, only: str = "") -> None:
    """Write a `.bin` file again; entries whose name ends with `only` are compressed."""
    with zipfile.ZipFile(file) as archive:
        entries = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content, compression if name.endswith(only) else zipfile.ZIP_STORED)


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
@pytest.mark.parametrize("only", ["", "data/1", "data.pkl"])
def test_a_compressed_bin_file_is_refused(tmp_path: Path, compression: int, only: str) -> None:
    file = write(tmp_path / "pytorch_model.bin", {"weight": torch.ones(50, 50), "bias": torch.zeros(100)})
    rewrite(file, compression, only)
    with pytest.raises(InputError, match=r"has compressed or encrypted entries.*write it again with torch\.save"):
        open_weights(tmp_path)


def test_a_bin_file_that_was_packed_again_without_compression_loads(
    tmp_path: Path, state: dict[str, torch.Tensor]
) -> None:
    rewrite(write(tmp_path / "pytorch_model.bin", state))
    assert_same(read(open_weights(tmp_path)), state)


def test_a_bin_file_without_checksums_loads(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        write(tmp_path / "pytorch_model.bin", state)
    finally:
        torch.serialization.set_crc32_options(True)
    assert_same(read(open_weights(tmp_path)), state)


@pytest.mark.parametrize("name", ["data.pkl", "data/0", "data/1"])
@pytest.mark.parametrize("position", [0.0, 0.5, 0.999])
def test_a_flipped_bit_of_a_bin_file_is_told(tmp_path: Path, name: str, position: float) -> None:
    file = write(tmp_path / "pytorch_model.bin", {"weight": torch.ones(50, 50), "bias": torch.zeros(100)})
    with zipfile.ZipFile(file) as archive:
        (entry,) = [entry for entry in archive.infolist() if entry.filename.endswith(name)]
        content = archive.read(entry)
    damaged = bytearray(file.read_bytes())
    damaged[damaged.index(content) + int(position * len(content))] ^= 4
    file.write_bytes(damaged)
    with pytest.raises(InputError, match=r"pytorch_model\.bin' is damaged \(Bad CRC-32 for file .*fetch it again"):
        read(open_weights(tmp_path))


def test_a_full_disk_raises_oserror(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, before[1]))
    try:
        with pytest.raises(OSError, match=r"model\.safetensors' cannot be written"):
            weight_files.write(tmp_path / "model.safetensors", {"a": torch.zeros(2**20)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("names", [{str(number): 0 for number in range(300_000)}, "x" * 5_000_000])
def test_a_file_in_the_former_format_with_too_many_names_is_refused(tmp_path: Path, names: object) -> None:
    file = tmp_path / "model.bin"
    torch.save(names, file, _use_new_zipfile_serialization=False)
    with pytest.raises(InputError, match="holds too much: expected at most 20,000 tensors"):
        describe(file)


def test_a_file_in_the_former_format_is_read(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    file = tmp_path / "model.bin"
    torch.save(state, file, _use_new_zipfile_serialization=False)
    assert_same(dict(stream(file)), state)
