"""Speed of half precision on the CPU: one layer of the published size, weights stored in three precisions.

    python benchmarks/half_precision.py [--length POSITIONS ...] [--rounds COUNT]

Times one layer (2,048 wide, 50 million weights) on random activations: stored in float32, stored in half precision with
float32 arithmetic (as `showo_turbo.backends.linear` computes on the CPU), and half precision throughout for comparison
(on CPUs without half-precision arithmetic it takes minutes). Variants alternate; the best of all rounds is reported.
"""

import copy
import time
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from transformers import PhiConfig
from transformers.models.phi.modeling_phi import PhiModel

from showo_turbo.backends.linear import upcast

VARIANTS = {
    "float32": (torch.float32, torch.float32),
    "bfloat16, float32 arithmetic": (torch.bfloat16, torch.float32),
    "float16, float32 arithmetic": (torch.float16, torch.float32),
    "bfloat16 throughout": (torch.bfloat16, torch.bfloat16),
    "float16 throughout": (torch.float16, torch.float16),
}
"""Dtypes of weights and of activations, by name."""


def build_layer() -> PhiModel:
    """Build a transformer of one layer with random weights."""
    sizes = {"hidden_size": 2048, "intermediate_size": 8192, "num_attention_heads": 32, "num_hidden_layers": 1}
    model = PhiModel(PhiConfig(**sizes, qk_layernorm=True, vocab_size=8)).eval()
    upcast(model)
    return model


@torch.no_grad()
def seconds(model: nn.Module, activations: Tensor) -> float:
    """Return the wall time of a forward pass."""
    start = time.perf_counter()
    model(inputs_embeds=activations, use_cache=False)
    return time.perf_counter() - start


def measure(length: int, rounds: int) -> dict[str, float]:
    """Return the shortest time of every variant, in seconds."""
    layer, activations = build_layer(), torch.randn(1, length, 2048)
    models = {stored: copy.deepcopy(layer).to(stored) for stored, _ in VARIANTS.values()}
    times: dict[str, list[float]] = {name: [] for name in VARIANTS}
    for _ in range(rounds):
        for name, (stored, arithmetic) in VARIANTS.items():
            times[name].append(seconds(models[stored], activations.to(arithmetic)))
    return {name: min(taken) for name, taken in times.items()}


def main(
    length: Annotated[list[int], typer.Option(help="Positions in a pass.")] = [1, 16, 258, 1026],  # noqa: B006
    rounds: Annotated[int, typer.Option(help="Forward passes of every variant.")] = 5,
) -> None:
    """Time one layer in every precision."""
    table = Table(title="Milliseconds (times float32)", caption=f"threads: {torch.get_num_threads()}")
    table.add_column("one layer")
    columns = {positions: measure(positions, rounds) for positions in length}
    for positions in columns:
        table.add_column(f"{positions} positions", justify="right")
    for name in VARIANTS:
        taken = [(times[name], times[name] / times["float32"]) for times in columns.values()]
        table.add_row(name, *(f"{1000 * best:.1f} ({ratio:.2f})" for best, ratio in taken))
    Console(width=120).print(table)


if __name__ == "__main__":
    typer.run(main)
