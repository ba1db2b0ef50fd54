"""Measure how long a training waits for a checkpoint, and how long its write takes in the background.

    python benchmarks/checkpoint_waits.py
    torchrun --standalone --nproc-per-node=2 benchmarks/checkpoint_waits.py [fsdp2]

The model has 100 million parameters, with EMA and AdamW: a checkpoint of 1.6 GB.
"""

import json
import sys
import tempfile
import time
from copy import deepcopy
from pathlib import Path

import torch

from showo_turbo.configuration import BackboneConfig, ShowoConfig
from showo_turbo.models.showo import Showo
from showo_turbo.training.checkpoint_io import CheckpointIO
from showo_turbo.training.processes import broadcast_from_main, make_accelerator
from showo_turbo.training.run_state import RunState
from showo_turbo.training.sharding import shard

BACKBONE = BackboneConfig(
    vocab_size=10_000,
    hidden_size=768,
    intermediate_size=3072,
    num_hidden_layers=12,
    num_attention_heads=12,
    qk_layernorm=True,
)
CHECKPOINTS = 4


def main() -> None:
    """Write some checkpoints of a state; print a line of JSON."""
    accelerator, sharding = make_accelerator(), (sys.argv[1] if len(sys.argv) > 1 else "none")
    model = Showo(ShowoConfig(vocab_size=10_000, llm_vocab_size=9_000, codebook_size=989), BACKBONE)
    average = deepcopy(model)
    if sharding == "fsdp2":
        for module in (model, average):
            shard(module, accelerator.device)
    state = RunState(model, average, [torch.optim.AdamW(model.parameters())], [])
    state.allocate(state.tensors())
    waits, writes = [], []
    with tempfile.TemporaryDirectory() as own:
        checkpoints = CheckpointIO(Path(broadcast_from_main(own)), 5.0)
        for step in range(CHECKPOINTS):
            start = time.perf_counter()
            checkpoints.start(step, state.tensors(), {}, {"step": step, "run": state.values()})
            waits.append(round(time.perf_counter() - start, 2))
            failure = checkpoints.wait()
            assert not failure, failure
            writes.append(round(time.perf_counter() - start, 2))
        accelerator.wait_for_everyone()
        checkpoints.close()
    result = {
        "sharding": sharding,
        "processes": accelerator.num_processes,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "seconds_of_waiting": waits,
        "seconds_to_the_disk": writes,
    }
    accelerator.print(json.dumps(result))


if __name__ == "__main__":
    main()
