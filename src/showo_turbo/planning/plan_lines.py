"""The lines that `showo-turbo plan` prints."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from showo_turbo.config_reader import read_config
from showo_turbo.configuration import BackboneConfig, ShowoConfig
from showo_turbo.distillation.config import DistillationConfig
from showo_turbo.errors import InputError
from showo_turbo.files import read_text
from showo_turbo.finetuning.finetuning_config import FinetuningConfig
from showo_turbo.planning.estimates import BATCHES, GIB, SECONDS_PER_LAYER, Hardware, Planner, Row, store_bytes
from showo_turbo.planning.step_memory import count_parameters, count_trained
from showo_turbo.planning.work import PASSES_PER_BLOCK, ImageSizes

_PIXELS_PER_CODE = 16
_NAMES = {"ddp": "DDP", "fsdp2": "FSDP2"}


def plan_lines(file: Path, resolution: int, hardware: Hardware) -> Iterator[str]:
    """Yield the lines of a plan for a model of the published size.

    Args:
        file: YAML config of `distill` or `finetune`.
        resolution: side of the images in pixels.
        hardware: the GPUs.

    Raises:
        InputError: if the file is no such config, or images have no whole number of codes.
    """
    if resolution % _PIXELS_PER_CODE:
        raise InputError(f"--resolution is {resolution}: choose a multiple of {_PIXELS_PER_CODE}")
    published = ShowoConfig()
    backbone = BackboneConfig(vocab_size=published.vocab_size, qk_layernorm=True)
    sizes = ImageSizes((resolution // _PIXELS_PER_CODE) ** 2, published.codebook_size, published.vocab_size)
    planner = Planner(backbone, sizes, hardware)
    parameters = count_parameters(backbone)
    yield (
        f"{file}: {parameters / 1e9:.2f} B parameters, images of {sizes.codes:,} codes, "
        f"{hardware.gpus} GPU(s) of {hardware.gib:g} GiB"
    )
    if _is_distillation(file):
        distillation = read_config(DistillationConfig, [f"config={file}"])
        teacher_bytes = parameters * (4.0 if distillation.dtype == "float32" else 2.0)
        for stage in distillation.stages:
            yield f"stage {stage.name}: {stage.loop.steps:,} steps of {stage.samples_per_batch} samples per GPU"
            yield from _table(planner.stage_rows(stage, teacher_bytes))
            count, stored = stage.trajectories.count, store_bytes(stage, sizes)
            one = f"  a stored rollout takes {stored / 2**20:,.2f} MiB"
            labels = "" if stage.image.label_size else " (image.label_size: 16 stores less)"
            yield f"{one}, all of them {count * stored / GIB:,.1f} GiB{labels}" if count else f"{one}{labels}"
    else:
        config = read_config(FinetuningConfig, [f"config={file}"])
        trained = f", {count_trained(backbone, config.lora) / 1e6:.1f} M trained (LoRA)" if config.lora.rank else ""
        yield f"{config.loop.steps:,} steps{trained}"
        yield from _table(planner.finetuning_rows(config))
    yield (
        f"assumed: {hardware.utilisation:.0%} of {hardware.tflops:g} TFLOP/s, at least {SECONDS_PER_LAYER * 1e3:g} ms "
        f"a layer, {PASSES_PER_BLOCK} passes per block of a teacher's answer, communication takes no time; "
        f"x {BATCHES[-1]} is the largest batch that is tried"
    )


def _is_distillation(file: Path) -> bool:
    """Return whether a YAML config has stages.

    Raises:
        InputError: if it is not YAML.
    """
    try:
        values: Any = yaml.safe_load(read_text(file))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InputError(f"--recipe is {str(file)!r}, which cannot be read: choose a YAML config") from error
    return isinstance(values, dict) and "stages" in values


def _table(rows: Iterator[Row]) -> Iterator[str]:
    yield f"  {'':42}{'GiB as configured':>18}{'largest batch':>15}{'samples/s':>11}{'hours as configured':>21}"
    for row in rows:
        way = _NAMES[row.way.sharding] + (", gradient checkpointing" if row.way.checkpointing else "")
        largest = "does not fit" if row.batch is None else f"x {row.batch}"
        speed = "" if row.batch is None else f"{row.samples_per_second:,.1f}"
        hours = f"{row.hours:,.1f}" if row.hours >= 1 else f"{row.hours:.2g}"
        yield f"  {way:42}{row.bytes / GIB:>18.1f}{largest:>15}{speed:>11}{hours:>21}"
