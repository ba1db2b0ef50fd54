"""Train a small transformer on some processes: train_sharded.py OUTPUT STEPS SHARDING [compile] [killed] [nan]

A step reads four batches, whatever the number of processes. `killed` and `nan` are faults in the process that reads
batch 13, which is of the fourth step.
"""

import os
import signal
import sys
from pathlib import Path

import torch
from torch import nn
from torch.optim import Optimizer

from showo_turbo.configuration import BackboneConfig, ShowoConfig
from showo_turbo.models.showo import Showo
from showo_turbo.training.loop import LoopConfig, train
from showo_turbo.training.processes import process_state, uses_deepspeed
from showo_turbo.training.task import StepLosses, Task

BACKBONE = BackboneConfig(
    vocab_size=60, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, qk_layernorm=True
)
BATCHES = 4
FAULTY_BATCH = 13


class NextToken(Task[Showo, torch.Tensor]):
    """Predict tokens of random texts."""

    can_be_sharded = True

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.model = Showo(ShowoConfig(vocab_size=60, llm_vocab_size=41, codebook_size=8), BACKBONE).train()

    def optimizers(self) -> list[Optimizer]:
        # Some gradients are zero but for rounding, which a small eps would make a step of.
        return [torch.optim.AdamW(self.model.parameters(), lr=1e-2, eps=1e-4)]

    def batch(self, number: int) -> torch.Tensor:
        if number == FAULTY_BATCH and "killed" in sys.argv:
            os.kill(os.getpid(), signal.SIGKILL)
        self.number = number
        return torch.randint(0, 40, (2, 12), generator=torch.Generator().manual_seed(number % 5))

    def losses(self, ema_model: nn.Module, batch: torch.Tensor) -> StepLosses:
        logits = self.model.logits(self.model(batch)[:, :-1])
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
        factor = torch.nan if self.number == FAULTY_BATCH and "nan" in sys.argv else 1.0
        return StepLosses(loss * factor, {}, len(batch))

    def export(self, model: nn.Module, folder: Path) -> None:
        torch.save(model.state_dict(), folder / "model.pt")


def train_next_token(
    output: Path, steps: int, sharding: str = "none", processes: int = 1, compile: bool = False
) -> None:
    """Train to a step, as one of some processes."""
    config = LoopConfig(
        str(output),
        steps=steps,
        warmup_steps=0,
        decay_share=0.0,
        ema_decay=0.5,
        gradient_accumulation_steps=BATCHES // processes,
        log_steps=1,
        threads=1,
        checkpoint_minutes=0.0,
        sharding=sharding,
        compile=compile,
    )
    train(NextToken(), config)


if __name__ == "__main__":
    if uses_deepspeed():
        from deepspeed_on_cpu import compile_nothing

        compile_nothing()
    processes = int(os.environ["WORLD_SIZE"])
    train_next_token(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], processes, "compile" in sys.argv[4:])
    process_state().destroy_process_group()
