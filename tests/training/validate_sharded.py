"""Train and validate a small transformer on some processes: validate_sharded.py OUTPUT EMA_DECAY LEARNING_RATE

A step reads two batches, whatever the number of processes; three batches are held out. Training ends after the first
validation without a lower loss.
"""

import sys
from pathlib import Path

import torch
from accelerate import PartialState
from train_sharded import BACKBONE

from showo_turbo.configuration import ShowoConfig
from showo_turbo.models.omni_attention import causal_mask
from showo_turbo.models.showo import Showo
from showo_turbo.training.loop import LoopConfig, train
from showo_turbo.training.optimizers import OptimizerConfig
from showo_turbo.training.supervised_batches import SupervisedBatch
from showo_turbo.training.supervised_task import NamedBatch, SupervisedTask, Term
from showo_turbo.vocabulary import Vocabulary

HELD_OUT = 3


def batch(number: int) -> NamedBatch:
    """Return random texts, whose next tokens are the labels."""
    ids = torch.randint(0, 40, (2, 12), generator=torch.Generator().manual_seed(number % 4))
    labels = torch.cat([ids[:, 1:], torch.full((2, 1), -100)], 1)
    return NamedBatch(SupervisedBatch(ids, causal_mask(12), torch.arange(12)[None], labels), [str(number)] * 2)


def train_and_validate(output: Path, ema_decay: float, learning_rate: float, processes: int = 1) -> None:
    """Train for six steps, as one of some processes."""
    torch.manual_seed(0)
    model = Showo(ShowoConfig(vocab_size=60, llm_vocab_size=41, codebook_size=8), BACKBONE).train()
    task = SupervisedTask(
        model,
        Vocabulary(llm_vocab_size=41, codebook_size=8, end_of_text_id=40),
        {"texts": Term(1.0, batch, held_out=lambda number: batch(number + 2), num_held_out=HELD_OUT)},
        OptimizerConfig(lr=learning_rate),
        lambda model, folder: torch.save(model.state_dict(), folder / "model.pt"),
        draw_samples,
    )
    config = LoopConfig(
        str(output),
        steps=6,
        warmup_steps=0,
        decay_share=0.0,
        ema_decay=ema_decay,
        gradient_accumulation_steps=2 // processes,
        log_steps=1,
        validation_steps=2,
        patience=1,
        threads=1,
        sharding="fsdp2",
    )
    train(task, config)


def draw_samples(model: Showo, file: Path) -> None:
    """Write what the model predicts in this process alone."""
    file.parent.mkdir(exist_ok=True)
    with torch.no_grad():
        torch.save({"logits": model.logits(model(torch.arange(12)[None]))}, file)


if __name__ == "__main__":
    state = PartialState(cpu=True)
    train_and_validate(Path(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]), state.num_processes)
    state.destroy_process_group()
