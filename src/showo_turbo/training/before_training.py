"""Checks and settings before a training: machine, output folder, threads."""

import os
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch

from showo_turbo.errors import InputError
from showo_turbo.extras import require_module
from showo_turbo.training.loop_config import CHANGEABLE_ON_RESUME, PRECISIONS, LoopConfig
from showo_turbo.training.processes import make_accelerator, uses_deepspeed, zero_stage
from showo_turbo.training.restarts import use_own_store
from showo_turbo.training.run_manifest import check_or_write_manifest
from showo_turbo.training.state import newest_step


def check_environment(config: LoopConfig) -> None:
    """Check that this machine can run the configured loop, before any work.

    Raises:
        InputError: if accelerate, DeepSpeed or the tracker is needed and not installed, there are more processes than
            devices for them, accelerate's mixed precision is neither "no" nor "bf16", or DeepSpeed does not support
            the configuration.
    """
    require_module("accelerate", "training")
    if uses_deepspeed():
        require_module("deepspeed", "accelerate's config file for DeepSpeed", "deepspeed")
    from accelerate.tracking import get_available_trackers
    from accelerate.utils import InitProcessGroupKwargs, parse_flag_from_env

    trackers = [tracker.value for tracker in get_available_trackers()]
    if config.tracker is not None and config.tracker not in trackers:
        raise InputError(
            f"loop.tracker is {config.tracker!r}, and installed here: {', '.join(trackers) or 'none'}; "
            "choose one of these, or leave it out"
        )
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    devices = torch.accelerator.device_count() if torch.accelerator.is_available() else 0
    if 0 < devices < processes and not parse_flag_from_env("ACCELERATE_USE_CPU"):
        raise InputError(
            f"{processes} processes were started for {devices} device(s): start one for each, or set "
            "ACCELERATE_USE_CPU=true to run on the CPU"
        )
    use_own_store()
    connection = InitProcessGroupKwargs(timeout=timedelta(minutes=config.timeout_minutes))
    if uses_deepspeed() and devices == 0:
        connection.backend = "gloo"  # accelerate connects no processes for DeepSpeed on a CPU otherwise
    try:
        accelerator = make_accelerator(kwargs_handlers=[connection], mixed_precision=config.mixed_precision)
    except ValueError as error:  # the state of accelerate is that of the process
        if config.mixed_precision is None or "mixed_precision" not in str(error):
            raise
        raise InputError(
            f"loop.mixed_precision is {config.mixed_precision!r}, but this process computes in "
            f"{make_accelerator().mixed_precision!r} already: choose one for all stages"
        ) from error
    precision = accelerator.mixed_precision  # the processes are connected now
    if precision not in PRECISIONS:
        raise InputError(f"accelerate's mixed precision is {precision!r}: choose 'bf16' or 'no'")
    if uses_deepspeed():
        _check_deepspeed(config)


def check_optimizer(name: str) -> None:
    """Check the name of the optimizer of a training by DeepSpeed.

    Raises:
        InputError: if accelerate has a config file for DeepSpeed, and the name is not "adamw".
    """
    if uses_deepspeed() and name != "adamw":
        raise InputError(
            f"optimizer.name is {name!r}, which a training by DeepSpeed does not support: choose adamw, or start it "
            "without DeepSpeed"
        )


def check_or_write_run_manifest(
    config: LoopConfig, settings: dict[str, Any], content: str, data: dict[str, Any] | None = None
) -> None:
    """Check that the output folder holds no run of other settings; write the manifest of a new run.

    Args:
        config: the loop, whose own settings are part of the manifest.
        settings: everything else that determines the weights, as JSON values.
        content: name of what is trained, for the error message.
        data: digests of the data by name; a change is logged as a warning.

    Raises:
        InputError: if the folder holds a run of other settings.
    """
    output = Path(config.output)
    loop = {name: value for name, value in asdict(config).items() if name not in CHANGEABLE_ON_RESUME}
    settings = settings | {"loop": loop, "mixed_precision": make_accelerator().mixed_precision}
    started = newest_step(output / "checkpoints") is not None
    check_or_write_manifest(output / "run.json", settings, content, started, data)


def set_num_threads(config: LoopConfig) -> None:
    """Set torch's number of CPU threads, if it is configured."""
    if config.threads is not None:
        torch.set_num_threads(config.threads)


def _check_deepspeed(config: LoopConfig) -> None:
    stage, plugin = zero_stage(), make_accelerator().state.deepspeed_plugin
    for name, value, choices in (
        ("accelerate's zero_stage", stage, (2, 3)),
        ("accelerate's offload_optimizer_device", plugin.offload_optimizer_device or "none", ("none", "cpu")),
        ("accelerate's offload_param_device", plugin.offload_param_device or "none", ("none",)),
        ("loop.sharding", config.sharding, ("none",)),
        ("loop.compile", config.compile, (False,)),
        ("loop.validation_steps", config.validation_steps if stage == 3 else 0, (0,)),
    ):
        if value not in choices:
            raise InputError(
                f"{name} is {value!r}, which a training by DeepSpeed's ZeRO-{stage} does not support: choose "
                f"{' or '.join(str(choice).lower() for choice in choices)}, or start it without DeepSpeed"
            )
