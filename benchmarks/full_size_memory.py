"""Memory of a full-size model with random weights.

    python benchmarks/full_size_memory.py [--layout NAME ...] [--stored DTYPE] [--dtype DTYPE] [--resolution SIDE ...]

Writes a checkpoint of the published sizes (1.45 billion parameters and the image tokenizer) with random values in one
layout after another into a temporary folder, loads it in a new process, and runs one step of text to image, the image
tokenizer's decoder and one Jacobi block. Linux only: peaks are the kernel's count of resident memory, memory-mapped
files included.

One block of random values is repeated in all weights; the head's bias prefers one id, so that a Jacobi block settles in
two forward passes.
"""

import json
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, TypeVar

import torch
import typer
from rich.console import Console
from rich.table import Table
from safetensors.torch import save_file
from torch import Tensor

from full_size import PHI_1_5, set_resolution, weight_bytes, write_language_model
from measuring import GIB, measure_call, resident_memory
from showo_turbo.checkpoints.names import INDEX_SUFFIX
from showo_turbo.checkpoints.published_layout import published_config
from showo_turbo.configuration import ShowoConfig, load_phi_config
from showo_turbo.device import DTYPES
from showo_turbo.files import write_json
from showo_turbo.models.magvit_v2 import MagvitV2
from showo_turbo.models.magvit_v2_config import MagvitV2Config
from showo_turbo.models.showo import Showo
from showo_turbo.pipelines.pipeline import ShowoPipeline

ADAPTER = "adapter"
LAYOUTS = (
    "pytorch_model.bin",
    "pytorch_model.safetensors",
    "model.safetensors",
    "pytorch_model.bin.index.json",
    "model.safetensors.index.json",
    ADAPTER,
)
SHARD_BYTES = 2**30
LORA_RANK = 64
RANDOM_BLOCK = 2**24

Result = TypeVar("Result")


@dataclass(frozen=True)
class ResolutionCost:
    """Hold the cost of inference at one resolution: peaks of the whole process in GiB, and seconds."""

    resolution: int
    step_peak: float
    step_seconds: float
    decoder_peak: float
    decoder_seconds: float
    block_peak: float
    block_seconds: float


@dataclass(frozen=True)
class CheckpointCost:
    """Hold the cost of loading and running one checkpoint.

    Attributes:
        layout: of the files.
        stored, dtype: precision of the files, and of the loaded transformer.
        weights: GiB of the loaded weights.
        loading_peak: peak memory that loading added, in GiB.
        loading_seconds: right after the files were written.
        runs: costs per resolution.
    """

    layout: str
    stored: str
    dtype: str
    weights: float
    loading_peak: float
    loading_seconds: float
    runs: tuple[ResolutionCost, ...]


def build(folder: Path, layout: str, stored: str, phi: dict = PHI_1_5) -> Path:
    """Write a checkpoint of the published sizes and return the folder to load."""
    write_language_model(folder / "phi", phi)
    config = ShowoConfig(num_vq_tokens=256)
    write_json(folder / "config.json", published_config(config, "phi"))
    with torch.device("meta"):
        model = Showo(config, load_phi_config(folder / "phi", config.vocab_size))
    state = random_state(model.state_dict(), DTYPES[stored])
    state["showo.lm_head.bias"][0] = 100.0
    write_weights(folder, LAYOUTS[2] if layout == ADAPTER else layout, state)
    (folder / "magvitv2").mkdir()
    write_json(folder / "magvitv2" / "config.json", {"_class_name": "MAGVITv2"})
    torch.save(MagvitV2(MagvitV2Config()).state_dict(), folder / "magvitv2" / "pytorch_model.bin")
    return write_adapter(folder, state) if layout == ADAPTER else folder


def random_state(layout: dict[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """Return tensors with the names and shapes of `layout`, on the CPU."""
    block = (0.02 * torch.randn(RANDOM_BLOCK, generator=torch.Generator().manual_seed(0))).to(dtype)
    return {name: fill(tensor.shape, block) for name, tensor in layout.items()}


def fill(shape: torch.Size, block: Tensor) -> Tensor:
    """Return a tensor that repeats a block."""
    tensor = torch.empty(shape, dtype=block.dtype)
    for part in tensor.view(-1).split(len(block)):
        part.copy_(block[: len(part)])
    return tensor


def write_weights(folder: Path, layout: str, state: dict[str, Tensor]) -> None:
    """Write one file, or shards and their index."""
    name = layout.removesuffix(INDEX_SUFFIX)
    if name == layout:
        return write_file(folder / name, state)
    groups = list(shards(state))
    files = [Path(name).stem + f"-{n:05}-of-{len(groups):05}" + Path(name).suffix for n in range(1, len(groups) + 1)]
    for file, group in zip(files, groups, strict=True):
        write_file(folder / file, group)
    holders = {tensor: file for file, group in zip(files, groups, strict=True) for tensor in group}
    return write_json(folder / layout, {"metadata": {}, "weight_map": holders})


def write_file(file: Path, state: dict[str, Tensor]) -> None:
    """Write a `.bin` or `.safetensors` file."""
    if file.suffix == ".bin":
        torch.save(state, file)
    else:
        save_file(state, file, metadata={"format": "pt"})


def shards(state: dict[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """Split tensors into groups of about `SHARD_BYTES`."""
    group: dict[str, Tensor] = {}
    for name, tensor in state.items():
        group[name] = tensor
        if sum(one.nbytes for one in group.values()) >= SHARD_BYTES:
            yield group
            group = {}
    if group:
        yield group


def write_adapter(base: Path, state: dict[str, Tensor]) -> Path:
    """Write a LoRA adapter of every matrix in the layers into a subfolder of its base, and return that."""
    folder = base / "adapter"
    folder.mkdir()
    factors = {}
    for name, tensor in state.items():
        if ".layers." in name and tensor.ndim == 2:
            module = f"base_model.model.{name.removesuffix('.weight')}"
            factors[f"{module}.lora_A.weight"] = torch.randn(LORA_RANK, tensor.shape[1])
            factors[f"{module}.lora_B.weight"] = torch.randn(tensor.shape[0], LORA_RANK)
    save_file(factors, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": LORA_RANK, "lora_alpha": LORA_RANK, "base_model_name_or_path": ".."}
    write_json(folder / "adapter_config.json", config)
    return folder


def measure(folder: Path, layout: str, stored: str, dtype: str, resolutions: list[int]) -> CheckpointCost:
    """Load a checkpoint and run inference."""
    before = resident_memory()
    pipe, peak, seconds = measure_call(ShowoPipeline.from_pretrained, folder, device="cpu", dtype=dtype)
    weights = weight_bytes(pipe) / GIB
    runs = tuple(run_at(pipe, resolution) for resolution in resolutions)
    return CheckpointCost(layout, stored, dtype, weights, peak - before, seconds, runs)


def run_at(pipe: ShowoPipeline, resolution: int) -> ResolutionCost:
    """Run one step, decode one image and run one Jacobi block of 16 ids."""
    set_resolution(pipe, resolution)
    drawn, *step = measure_call(pipe.text_to_image, "a red car", 1, 0.0, top_k=None, seed=0, output_type="latent")
    _, *decoder = measure_call(pipe.decode_codes, drawn.codes)
    answer = {"codes": drawn.codes, "prompt": "What is this?", "max_new_tokens": 16, "block_length": 16, "seed": 0}
    _, *block = measure_call(pipe.image_to_text, **answer)
    return ResolutionCost(resolution, *step, *decoder, *block)


def in_new_process(function: Callable[..., Result], *arguments: object) -> Result:
    """Run a function in a new process, in which nothing has been allocated."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def as_table(measurements: list[CheckpointCost]) -> Table:
    """Return a table with one row per checkpoint."""
    table = Table(title="GiB of resident memory")
    sides = [run.resolution for run in measurements[0].runs] if measurements else []
    runs = [f"{what} at {side}" for side in sides for what in ("step", "decoder", "block")]
    for column in ("layout", "stored", "loaded as", "weights", "peak of loading", "x weights", "seconds", *runs):
        table.add_column(column)
    for one in measurements:
        loading = (f"{one.weights:.2f}", f"{one.loading_peak:.2f}", f"{one.loading_peak / one.weights:.2f}")
        peaks = (f"{peak:.2f}" for run in one.runs for peak in (run.step_peak, run.decoder_peak, run.block_peak))
        table.add_row(one.layout, one.stored, one.dtype, *loading, f"{one.loading_seconds:.0f}", *peaks)
    return table


def main(
    layout: Annotated[list[str], typer.Option(help=f"Any of {', '.join(LAYOUTS)}.")] = list(LAYOUTS),  # noqa: B006
    stored: Annotated[str, typer.Option(help=f"Precision of the files: {', '.join(DTYPES)}.")] = "float32",
    dtype: Annotated[str, typer.Option(help="Precision of the loaded transformer.")] = "float32",
    resolution: Annotated[list[int], typer.Option(help="Run at these; 0 for none.")] = [256, 512],  # noqa: B006
    output: Annotated[Path | None, typer.Option(help="A JSON file, written after every layout.")] = None,
) -> None:
    """Measure the memory that loading and running a full-size model take."""
    measurements: list[CheckpointCost] = []
    for name in layout:
        with tempfile.TemporaryDirectory() as temporary:
            folder = in_new_process(build, Path(temporary) / "model", name, stored)
            sides = [side for side in resolution if side]
            measurements.append(in_new_process(measure, folder, name, stored, dtype, sides))
        if output is not None:
            output.write_text(json.dumps([asdict(one) for one in measurements], indent=2) + "\n")
    Console(width=200).print(as_table(measurements))


if __name__ == "__main__":
    typer.run(main)
