"""Small trainings of both kinds, `finetune` and `distill`, in this process or in several launched ones."""

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file

from showo_turbo.data import SourceConfig
from showo_turbo.distillation.config import DistillationConfig, Stage
from showo_turbo.distillation.consistency_task import ConsistencyTask
from showo_turbo.distillation.loss_terms import ImageTerm, LanguageTerm, TextTerm
from showo_turbo.distillation.stages import distill
from showo_turbo.finetuning.finetune import finetune
from showo_turbo.finetuning.finetuning_config import FinetuningConfig
from showo_turbo.training.loop import LoopConfig
from showo_turbo.training.optimizers import OptimizerConfig
from showo_turbo.training.supervised_task import SupervisedTask

SCRIPT = Path(__file__).with_name("faulty_training.py")
LOOP = LoopConfig(
    steps=4, warmup_steps=1, log_steps=1, threads=1, checkpoint_minutes=0.0, decay_share=0.0, timeout_minutes=5.0
)


@dataclass(frozen=True)
class Training:
    """Hold a training: its command, its configuration and the class of its task."""

    command: str
    config: FinetuningConfig | DistillationConfig
    task: type[SupervisedTask] | type[ConsistencyTask]

    @property
    def folder(self) -> Path:
        """Folder with checkpoints and log."""
        return Path(self.config.output) / ("stage" if self.command == "distill" else "")

    def into(self, output: Path, **loop: Any) -> "Training":
        """Return a copy with another output and other settings of the loop."""
        config: Any = replace(self.config, output=str(output))
        if isinstance(config, DistillationConfig):
            stage = config.stages[0]
            return replace(self, config=replace(config, stages=[replace(stage, loop=replace(stage.loop, **loop))]))
        return replace(self, config=replace(config, loop=replace(config.loop, **loop)))

    def with_workers(self, count: int) -> "Training":
        """Return a copy that reads samples in worker processes."""
        return replace(self, config=replace(self.config, num_workers=count))

    def run(self) -> None:
        """Train in this process."""
        finetune(self.config) if isinstance(self.config, FinetuningConfig) else distill(self.config)

    def weights(self) -> dict[str, torch.Tensor]:
        """Return the exported weights."""
        return load_file(self.folder / "model" / "model.safetensors")

    def arguments(self, fault: str, rank: int = 0) -> list[str]:
        """Return the arguments of a script that runs the command with a fault in one process."""
        path = Path(self.config.output).with_suffix(".yaml")
        path.write_text(OmegaConf.to_yaml(OmegaConf.structured(self.config)))
        return [str(SCRIPT), fault, str(rank), self.command, f"config={path}"]

    def launch(self, fault: str, rank: int, restarts: int = 0) -> subprocess.CompletedProcess[str]:
        """Run two processes by torchrun, with a fault in one of them."""
        launcher = [
            *("-m", "torch.distributed.run", "--nproc_per_node=2", f"--max-restarts={restarts}"),
            *("--rdzv-backend=c10d", f"--rdzv-endpoint=127.0.0.1:{free_port()}", "--monitor-interval=0.1"),
        ]
        return run_script([*launcher, *self.arguments(fault, rank)])


def start_processes(training: Training, fault: str, rank: int) -> list[subprocess.Popen[str]]:
    """Start two processes without a launcher, with a fault in one of them."""
    connection = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2"}
    return [
        subprocess.Popen(
            [sys.executable, *training.arguments(fault, rank)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(**connection, RANK=str(one), LOCAL_RANK=str(one), LOCAL_WORLD_SIZE="2"),
        )
        for one in range(2)
    ]


def free_port() -> int:
    """Return a port that no process listens to."""
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return opened.getsockname()[1]


def run_script(arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run Python on the CPU; return its exit status and output."""
    return subprocess.run(
        [sys.executable, *arguments], env=environment(), capture_output=True, text=True, timeout=400, check=False
    )


def environment(**more: str) -> dict[str, str]:
    """Return the environment of a process that trains on one thread of the CPU."""
    return {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", **more}


def make_training(
    command: str, output: Path, model: Path, captions: SourceConfig, texts: SourceConfig, **settings: Any
) -> Training:
    """Make a training of a model on captioned images and texts."""
    sources = {"captions": [captions], "texts": [texts], "num_workers": 0, **settings}
    if command == "finetune":
        sizes = {"captions_batch_size": 2, "texts_batch_size": 2, "optimizer": OptimizerConfig(lr=1e-3)}
        return Training(
            command, FinetuningConfig(str(model), str(output), loop=LOOP, **sizes, **sources), SupervisedTask
        )
    stage = Stage(
        "stage",
        str(model),
        loop=LOOP,
        optimizer=OptimizerConfig(lr=1e-3),
        image=ImageTerm(batch_size=2, num_inference_steps=2),
        text=TextTerm(weight=0.0),
        language=LanguageTerm(batch_size=2, max_length=20),
    )
    return Training(command, DistillationConfig(str(output), [stage], **sources), ConsistencyTask)


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    """Return whether weights are equal bit by bit."""
    return one.keys() == other.keys() and all(one[name].equal(other[name]) for name in one)
