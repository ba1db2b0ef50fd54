"""Trainings by DeepSpeed have the losses and weights of one process, and resume with and without it."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
import torch
import yaml
from test_loop import Regression, config
from test_sharding import STEPS, check_same, losses
from train_sharded import train_next_token

from showo_turbo import ShowoPipeline
from showo_turbo.errors import InputError
from showo_turbo.training import before_training, processes
from showo_turbo.training.before_training import check_environment, check_optimizer
from showo_turbo.training.loop import train
from showo_turbo.training.loop_config import LoopConfig

FOLDER = Path(__file__).parent
CONFIGS = FOLDER.parents[1] / "configs" / "accelerate"
TORCHRUN = ("-m", "torch.distributed.run", "--standalone")

needs_deepspeed = pytest.mark.skipif(find_spec("deepspeed") is None, reason="deepspeed is not installed")


def run(arguments: tuple[str, ...], **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
        "DS_ACCELERATOR": "cpu",
        **variables,
    }
    return subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, timeout=900)


def launch(output: Path, steps: int, stage: int, processes: int, *more: str, offload: str = "none") -> None:
    """Train to a step with a ZeRO stage; without DeepSpeed if it is 0."""
    variables = {
        "ACCELERATE_USE_DEEPSPEED": "true" if stage else "false",
        "ACCELERATE_DEEPSPEED_ZERO_STAGE": str(stage),
        "ACCELERATE_DEEPSPEED_ZERO3_INIT": "false",
        "ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE": offload,
    }
    script = (str(FOLDER / "train_sharded.py"), str(output), str(steps), "none", *more)
    done = run((*TORCHRUN, f"--nproc_per_node={processes}", *script), **variables)
    assert done.returncode == (1 if "killed" in more else 0), done.stderr[-3000:]


def model(output: Path) -> dict[str, torch.Tensor]:
    return torch.load(output / "model.pt", weights_only=True)


@pytest.mark.slow
@needs_deepspeed
@pytest.mark.parametrize(("stage", "offload"), [(2, "none"), (2, "cpu"), (3, "none"), (3, "cpu")])
def test_a_killed_run_resumes_to_the_same_weights_which_are_those_of_one_process(
    tmp_path: Path, stage: int, offload: str
) -> None:
    train_next_token(tmp_path / "whole", STEPS)
    launch(tmp_path / "run", STEPS, stage, 2, offload=offload)
    check_same(tmp_path / "run", tmp_path / "whole")
    launch(tmp_path / "killed", STEPS, stage, 2, "killed", offload=offload)
    assert len(losses(tmp_path / "killed")) == 3
    launch(tmp_path / "killed", STEPS, stage, 2, offload=offload)
    assert losses(tmp_path / "killed") == losses(tmp_path / "run")
    assert all(tensor.equal(model(tmp_path / "run")[name]) for name, tensor in model(tmp_path / "killed").items())


@pytest.mark.slow
@needs_deepspeed
def test_a_run_is_resumed_with_other_stages_other_numbers_of_processes_and_without_deepspeed(tmp_path: Path) -> None:
    train_next_token(tmp_path / "whole", STEPS)
    for steps, stage, processes_, offload in (
        (1, 3, 2, "none"),
        (2, 2, 1, "cpu"),
        (3, 0, 2, "none"),
        (4, 2, 2, "none"),
        (5, 3, 1, "cpu"),
        (6, 0, 1, "none"),
    ):
        launch(tmp_path / "run", steps, stage, processes_, offload=offload)
    check_same(tmp_path / "run", tmp_path / "whole")


@pytest.mark.slow
@needs_deepspeed
@pytest.mark.parametrize("stage", [2, 3])
def test_a_nan_in_one_process_skips_the_step_in_all(tmp_path: Path, stage: int) -> None:
    launch(tmp_path / "whole", STEPS, 0, 2, "nan")
    launch(tmp_path / "run", STEPS, stage, 2, "nan")
    assert (tmp_path / "run" / "skipped.jsonl").read_text() == (tmp_path / "whole" / "skipped.jsonl").read_text()
    assert len(losses(tmp_path / "run")) == STEPS - 1
    for name, tensor in model(tmp_path / "run").items():
        torch.testing.assert_close(tensor, model(tmp_path / "whole")[name], atol=2e-4, rtol=1e-3, msg=name)


@pytest.mark.slow
@needs_deepspeed
@pytest.mark.parametrize("settings", [[], ["lora.rank=2", "loop.ema_decay=0.0"], ["gradient_checkpointing=true"]])
@pytest.mark.parametrize("stage", [2, 3])
def test_the_command_by_accelerate_writes_a_model_that_draws(
    tmp_path: Path, random_checkpoint: Path, stage: int, settings: list[str]
) -> None:
    texts = pyarrow.table({"text": [f"a {color} car" for color in ("red", "green", "blue")]})
    pyarrow.parquet.write_table(texts, tmp_path / "texts.parquet")
    values = {
        "model": str(random_checkpoint),
        "output": str(tmp_path / "run"),
        "texts": [{"kind": "parquet", "path": str(tmp_path / "texts.parquet")}],
        "texts_batch_size": 2,
        "loop": {"steps": 2, "warmup_steps": 1, "log_steps": 1, "timeout_minutes": 10.0},
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(values))
    launcher = ("-m", "accelerate.commands.launch", "--config_file", str(CONFIGS / f"deepspeed_zero{stage}.yaml"))
    options = ("--num_processes=2", "--main_process_port=0", str(FOLDER / "deepspeed_on_cpu.py"))
    done = run((*launcher, *options, "finetune", f"config={tmp_path / 'run.yaml'}", *settings))
    assert done.returncode == 0, done.stderr[-3000:]
    assert len((tmp_path / "run" / "log.jsonl").read_text().splitlines()) == 2
    pipe = ShowoPipeline.from_pretrained(tmp_path / "run" / "model")
    assert len(pipe.text_to_image("a red car", num_inference_steps=2).codes) == 1


def use_deepspeed(monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
    """Pretend that accelerate has a config file for DeepSpeed."""
    plugin = {"zero_stage": 2, "offload_optimizer_device": "none", "offload_param_device": "none"} | options
    state = SimpleNamespace(deepspeed_plugin=SimpleNamespace(**plugin))
    for module in (before_training, processes):
        accelerator = SimpleNamespace(state=state, mixed_precision="no")
        monkeypatch.setattr(module, "make_accelerator", lambda accelerator=accelerator, **given: accelerator)
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    monkeypatch.setitem(sys.modules, "deepspeed", SimpleNamespace())


@pytest.mark.parametrize(
    ("options", "loop", "message"),
    [
        ({"zero_stage": 1}, {}, r"accelerate's zero_stage is 1, .*: choose 2 or 3"),
        ({"offload_optimizer_device": "nvme"}, {}, r"offload_optimizer_device is 'nvme', .*: choose none or cpu"),
        ({"zero_stage": 3, "offload_param_device": "cpu"}, {}, r"offload_param_device is 'cpu', .*: choose none"),
        ({}, {"sharding": "fsdp2"}, r"loop.sharding is 'fsdp2', .* ZeRO-2 does not support: choose none"),
        ({}, {"compile": True}, r"loop.compile is True, .*: choose false"),
        ({"zero_stage": 3}, {"validation_steps": 5}, r"loop.validation_steps is 5, .* ZeRO-3 does not .*: choose 0"),
    ],
)
def test_what_deepspeed_does_not_support_is_refused(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], loop: dict[str, Any], message: str
) -> None:
    use_deepspeed(monkeypatch, **options)
    with pytest.raises(InputError, match=message):
        check_environment(LoopConfig(**loop))


def test_other_optimizers_and_trainings_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use_deepspeed(monkeypatch)
    check_environment(LoopConfig(validation_steps=5))
    check_optimizer("adamw")
    for name in ("muon", "adamw8bit"):
        with pytest.raises(InputError, match=rf"optimizer\.name is '{name}', .*: choose adamw"):
            check_optimizer(name)
    with pytest.raises(InputError, match="this training does not support DeepSpeed"):
        train(Regression(), config(tmp_path / "run"))
    assert not (tmp_path / "run").exists()
