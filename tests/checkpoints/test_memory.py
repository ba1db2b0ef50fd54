"""Loading holds the module and one tensor of the file in memory, for every layout; measured by the kernel."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from showo_turbo.checkpoints import weight_files
from showo_turbo.checkpoints.weights import fit_weights, open_weights

LAYERS, SIDE = 24, 1024
TENSOR_BYTES = 4 * SIDE**2

pytestmark = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="no peak memory from the kernel")


def resident_bytes(key: str) -> int:
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key)]
    return 1024 * int(line.split()[1])


def write(folder: Path, layout: str) -> None:
    state = {f"{number}.weight": torch.full((SIDE, SIDE), float(number)) for number in range(LAYERS)}
    if layout.endswith(".bin"):
        torch.save(state, folder / layout)
    elif layout.endswith(".safetensors"):
        save_file(state, folder / layout)
    else:
        files = {name: f"model-{name}.safetensors" for name in state}
        for name, file in files.items():
            save_file({name: state[name]}, folder / file)
        (folder / layout).write_text(json.dumps({"weight_map": files}))


@pytest.mark.parametrize("layout", ["pytorch_model.bin", "model.safetensors", "model.safetensors.index.json"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_loading_holds_one_tensor_more_than_the_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str, dtype: torch.dtype
) -> None:
    monkeypatch.setattr(weight_files, "_BYTES_PER_MAP", TENSOR_BYTES)
    write(tmp_path, layout)
    with torch.device("meta"):
        module = nn.Sequential(*(nn.Linear(SIDE, SIDE, bias=False) for _ in range(LAYERS))).to(dtype)
    Path("/proc/self/clear_refs").write_text("5")
    before = resident_bytes("VmRSS:")
    fit_weights(module, open_weights(tmp_path))
    added = resident_bytes("VmHWM:") - before
    size = sum(weight.nbytes for weight in module.parameters())
    assert [int(layer.weight[0, 0]) for layer in module] == list(range(LAYERS))
    assert added < size + LAYERS * TENSOR_BYTES / 4  # the kernel maps some of the file ahead, more when it is busy
