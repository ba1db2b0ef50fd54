"""A distillation whose student or teacher is sharded over two processes has the losses and weights of one process."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from test_stages import TERMS, distillation, sources, stage, weights

from showo_turbo.data import SourceConfig
from showo_turbo.distillation import stages
from showo_turbo.distillation.config import DistillationConfig
from showo_turbo.distillation.loss_terms import DistributionMatching, OnPolicy
from showo_turbo.distillation.objectives import SampledIterate, text_consistency
from showo_turbo.distillation.stages import check_distillation
from showo_turbo.distillation.text_trajectories import JacobiTrajectory
from showo_turbo.errors import InputError
from showo_turbo.models.showo import Showo
from showo_turbo.training.optimizers import OptimizerConfig
from showo_turbo.vocabulary import Vocabulary

__all__ = ["sources"]  # a fixture

DEEPSPEED_SCRIPT = Path(__file__).parents[1] / "training" / "deepspeed_on_cpu.py"
needs_deepspeed = pytest.mark.skipif(find_spec("deepspeed") is None, reason="deepspeed is not installed")

Sources = dict[str, list[SourceConfig]]


def run(config: DistillationConfig, processes: int, zero_stage: int = 0) -> None:
    path = Path(config.output).with_suffix(".yaml")
    path.write_text(OmegaConf.to_yaml(OmegaConf.structured(config)))
    torchrun = ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    launcher = [*([] if processes == 1 else [*torchrun, "-m"]), "showo_turbo"]
    variables = {"ACCELERATE_USE_CPU": "true"}
    if zero_stage:
        launcher = [*torchrun, str(DEEPSPEED_SCRIPT)]
        variables = {
            "ACCELERATE_USE_DEEPSPEED": "true",
            "ACCELERATE_DEEPSPEED_ZERO_STAGE": str(zero_stage),
            "ACCELERATE_DEEPSPEED_ZERO3_INIT": "false",
            "DS_ACCELERATOR": "cpu",
        }
    command = [sys.executable, "-m", *launcher, "distill", f"config={path}"]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", **variables}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-3000:]


def losses(config: DistillationConfig, *names: str) -> list[list[float]]:
    log = Path(config.output) / "one" / "log.jsonl"
    return [[line[name] for name in names] for line in map(json.loads, log.read_text().splitlines())]


def configure(
    output: Path, teacher: Path, sources: Sources, steps: int, loop: dict[str, Any], **terms: Any
) -> DistillationConfig:
    one = stage("one", str(teacher), **terms)
    one = replace(one, loop=replace(one.loop, steps=steps, decay_share=0.0, **loop))
    return distillation(str(output), [one], **sources)


def check_same(one: DistillationConfig, other: DistillationConfig, *names: str) -> None:
    for line, expected in zip(losses(one, *names), losses(other, *names), strict=True):
        assert line == pytest.approx(expected, abs=2e-3)
    tensors, expected_tensors = (weights(Path(config.output) / "one" / "model") for config in (one, other))
    for name, tensor in tensors.items():
        torch.testing.assert_close(tensor.float(), expected_tensors[name].float(), atol=4e-3, rtol=1e-2, msg=name)


@pytest.mark.slow
@pytest.mark.parametrize(("sharding", "shard_teacher"), [("fsdp2", False), ("fsdp2", True), ("none", True)])
def test_all_terms_have_the_losses_of_one_process(
    tmp_path: Path, random_checkpoint: Path, sources: Sources, sharding: str, shard_teacher: bool
) -> None:
    whole = configure(tmp_path / "whole", random_checkpoint, sources, 3, {"gradient_accumulation_steps": 2})
    loop, terms = {"sharding": sharding}, {"shard_teacher": shard_teacher}
    sharded = configure(tmp_path / "sharded", random_checkpoint, sources, 3, loop, **terms)
    run(whole, 1)
    run(sharded, 2)
    check_same(sharded, whole, "loss", "image", "text", "autoregressive", "language")


@pytest.mark.slow
def test_a_sharded_student_generates_rollouts_and_resumes(
    tmp_path: Path, random_checkpoint: Path, sources: Sources
) -> None:
    image = replace(TERMS["image"], on_policy=OnPolicy(prompts=4, batches=3, share=0.5))
    terms: dict[str, Any] = {"image": image, "text": replace(TERMS["text"], weight=0.0)}
    whole = configure(tmp_path / "whole", random_checkpoint, sources, 5, {}, **terms)
    run(whole, 2)
    for steps in (2, 5):
        terms["shard_teacher"] = steps == 5
        sharded = configure(tmp_path / "sharded", random_checkpoint, sources, steps, {"sharding": "fsdp2"}, **terms)
        run(sharded, 2)
    check_same(sharded, whole, "loss", "image", "language")


@pytest.mark.slow
@needs_deepspeed
def test_deepspeed_has_the_losses_of_one_process(tmp_path: Path, random_checkpoint: Path, sources: Sources) -> None:
    whole = configure(tmp_path / "whole", random_checkpoint, sources, 2, {"gradient_accumulation_steps": 2})
    sharded = configure(tmp_path / "sharded", random_checkpoint, sources, 2, {})
    run(whole, 1)
    run(sharded, 2, zero_stage=3)
    check_same(sharded, whole, "loss", "image", "text", "autoregressive", "language")


@pytest.mark.slow
@needs_deepspeed
@pytest.mark.parametrize("zero_stage", [2, 3])
def test_a_student_trained_by_deepspeed_generates_rollouts(
    tmp_path: Path, random_checkpoint: Path, sources: Sources, zero_stage: int
) -> None:
    image = replace(TERMS["image"], on_policy=OnPolicy(prompts=4, batches=2, share=0.5))
    terms = {"image": image, "text": replace(TERMS["text"], weight=0.0)}
    whole = configure(tmp_path / "whole", random_checkpoint, sources, 3, {}, **terms)
    sharded = configure(tmp_path / "sharded", random_checkpoint, sources, 3, {}, **terms)
    run(whole, 2)
    run(sharded, 2, zero_stage=zero_stage)
    check_same(sharded, whole, "loss", "image", "language")


@pytest.mark.parametrize("change", [{"average_target": True}, {"optimizer": OptimizerConfig("muon")}])
def test_what_cannot_be_sharded_is_refused(
    tmp_path: Path, random_checkpoint: Path, sources: Sources, change: dict[str, Any]
) -> None:
    config = configure(tmp_path, random_checkpoint, sources, 1, {"sharding": "fsdp2"}, **change)
    with pytest.raises(InputError, match=r"stage 'one': loop.sharding is 'fsdp2', which needs the optimizer adamw and"):
        check_distillation(config)


@pytest.mark.parametrize("blocks", ["none", "settled", "some"])
def test_equal_passes_do_not_depend_on_the_blocks(
    make_random_model: Callable[[int], Showo], random_vocabulary: Vocabulary, blocks: str
) -> None:
    """Two with the student, and a gradient of every layer."""
    iterates = torch.tensor([[1, 2, 3, 4], [5, 6, 3, 4], [5, 6, 7, 8]])
    samples = {
        "none": [],
        "settled": [SampledIterate(JacobiTrajectory((9,), iterates[-1:]), 0, 0)],
        "some": [SampledIterate(JacobiTrajectory((9,), iterates), 0, 1)],
    }
    random_model, passes = make_random_model(0).train(), 0

    def count(*ignored: Any) -> None:
        nonlocal passes
        passes += 1

    hook = random_model.showo.model.layers[0].register_forward_hook(count)
    terms = text_consistency(random_model, random_model, samples[blocks], random_vocabulary, equal_passes=True)
    hook.remove()
    assert passes == 2
    assert all(term.isfinite() for term in terms)
    gradients = torch.autograd.grad(sum(terms), [*random_model.showo.parameters()])
    assert any(gradient.any() for gradient in gradients) == (blocks != "none")


def test_what_deepspeed_does_not_support_is_refused(
    tmp_path: Path, random_checkpoint: Path, sources: Sources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages, "check_environment", lambda loop: None)
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    check_distillation(configure(tmp_path, random_checkpoint, sources, 1, {}))
    with pytest.raises(InputError, match=r"stage 'one': average_target is true, which a training by DeepSpeed"):
        check_distillation(configure(tmp_path, random_checkpoint, sources, 1, {}, average_target=True))
    matching = replace(TERMS["image"], distribution_matching=DistributionMatching(1.0))
    with pytest.raises(InputError, match=r"image.distribution_matching has a weight, which a training by DeepSpeed"):
        check_distillation(configure(tmp_path, random_checkpoint, sources, 1, {}, image=matching))
    with pytest.raises(InputError, match=r"optimizer.name is 'muon', which a training by DeepSpeed does not support"):
        check_distillation(configure(tmp_path, random_checkpoint, sources, 1, {}, optimizer=OptimizerConfig("muon")))
