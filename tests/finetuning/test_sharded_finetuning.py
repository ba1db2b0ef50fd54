"""A fine-tuning whose model is sharded over two processes validates as one that is not."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image
from test_finetune import LOOP, config, sources, weights

from showo_turbo.finetuning.finetuning_config import FinetuningConfig, ValidationConfig
from showo_turbo.pipelines.pipeline import ShowoPipeline
from showo_turbo.training.adapters import LoraConfig
from showo_turbo.training.optimizers import OptimizerConfig

__all__ = ["config", "sources"]  # fixtures


def run(given: FinetuningConfig, output: Path, processes: int, **loop: Any) -> list[dict[str, float]]:
    """Run a fine-tuning with half of the batches of a step in each of two processes; return its validations."""
    changes = {"gradient_accumulation_steps": 2 // processes, "sharding": "fsdp2", **loop}
    given = replace(given, output=str(output), loop=replace(given.loop, **changes))
    path = output.with_suffix(".yaml")
    path.write_text(OmegaConf.to_yaml(OmegaConf.structured(given)))
    launcher = ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m"]
    command = [sys.executable, "-m", *launcher, "showo_turbo", "finetune", f"config={path}"]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in (output / "validation.jsonl").read_text().splitlines()]


def check_same(one: list[dict[str, float]], other: list[dict[str, float]]) -> None:
    assert [line["step"] for line in one] == [line["step"] for line in other]
    for line, expected in zip(one, other, strict=True):
        assert line == pytest.approx(expected, abs=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize(("rank", "ema_decay"), [(0, 0.0), (4, 0.5)])
def test_validations_have_the_losses_of_one_process(
    config: FinetuningConfig, tmp_path: Path, rank: int, ema_decay: float
) -> None:
    """Three held-out batches of captions are two for one process and one for the other."""
    given = replace(
        config,
        captions_batch_size=1,
        dialogues_batch_size=1,
        texts_batch_size=1,
        loop=replace(LOOP, steps=4, validation_steps=2, ema_decay=ema_decay),
        validation=ValidationConfig(captions=config.captions, dialogues=config.dialogues, texts=config.texts),
        sheet_prompts=["a red car"],
        lora=LoraConfig(rank=rank),
        optimizer=OptimizerConfig(lr=2e-2 if rank else 3e-3),
    )
    whole, sharded = run(given, tmp_path / "whole", 1), run(given, tmp_path / "sharded", 2)
    check_same(sharded, whole)
    assert sharded[-1]["loss"] < sharded[0]["loss"]
    for step in (0, 2, 4):
        with Image.open(tmp_path / "sharded" / "samples" / f"step-{step:08d}.png") as sheet:
            assert sheet.size == (32, 4 * 32)
    tensors, expected = (weights(tmp_path / name / "best" / "model") for name in ("sharded", "whole"))
    for name, tensor in tensors.items():
        torch.testing.assert_close(tensor.float(), expected[name].float(), atol=4e-3, rtol=1e-2, msg=name)
    assert ShowoPipeline.from_pretrained(tmp_path / "sharded" / "best" / "model").text_to_image("a red car", seed=0)
    if rank:
        assert (tmp_path / "sharded" / "best" / "adapter" / "adapter_model.safetensors").exists()
