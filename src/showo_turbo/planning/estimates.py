"""The ways to spread a training over GPUs: memory, largest batch, samples per second and hours.

Assumptions, beside those of `work` and `step_memory`:
- A pass takes its operations at a fraction of the GPU's peak, or the time to start the kernels of its layers, whichever
  is longer: small batches are bound by the latter.
- Communication is hidden behind computation, and samples are read in time.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from showo_turbo.configuration import BackboneConfig
from showo_turbo.distillation.config import Stage
from showo_turbo.distillation.segments import segment_ends
from showo_turbo.finetuning.finetuning_config import FinetuningConfig
from showo_turbo.planning.step_memory import (
    Activations,
    Held,
    count_parameters,
    count_trained,
    measure_activations,
    peak_bytes,
)
from showo_turbo.planning.work import ImageSizes, Pass, finetuning_passes, stage_passes, teacher_passes
from showo_turbo.training.adapters import LoraConfig
from showo_turbo.training.optimizers import OptimizerConfig

GIB = 2**30
IMAGE_TOKENIZER_BYTES = 0.36 * GIB
SECONDS_PER_LAYER = 8e-4
"""Time to start the kernels of a layer, without a compiler or CUDA graphs."""

_USABLE = 0.92
"""Fraction of a GPU's memory that is left by CUDA, fragmentation and the kernels' work space."""

_MOMENTS = {"adamw": 8, "adamw8bit": 2, "muon": 4}
BATCHES = (1, 2, 4, 8, 16, 32, 64)


@dataclass(frozen=True)
class Hardware:
    """Hold number and size of the GPUs, and their speed.

    Attributes:
        gpus: number of them.
        gib: memory of each.
        tflops: peak of matrix products in bfloat16 of each, in TFLOP/s.
        utilisation: fraction of the peak that large batches reach.
    """

    gpus: int
    gib: float
    tflops: float
    utilisation: float


@dataclass(frozen=True)
class Way:
    """Hold one way to run a training.

    Attributes:
        sharding: "ddp" or "fsdp2".
        checkpointing: gradient checkpointing.
    """

    sharding: str
    checkpointing: bool


WAYS = [Way(sharding, checkpointing) for sharding in ("ddp", "fsdp2") for checkpointing in (False, True)]


@dataclass(frozen=True)
class Row:
    """Hold the result for a way: bytes as configured, the largest batch that fits, its speed and time."""

    way: Way
    bytes: float
    batch: int | None
    samples_per_second: float
    hours: float


def held_bytes(
    config: BackboneConfig,
    sharding: str,
    gpus: int,
    optimizer: OptimizerConfig,
    lora: LoraConfig,
    ema: bool,
    teacher_bytes: float,
) -> Held:
    """Return what a process holds besides activations.

    Args:
        config: sizes of the model.
        sharding: see `Way`; one GPU shards nothing.
        gpus: processes that share what is sharded.
        optimizer: its moments are float32, or bytes.
        lora: adapters in place of all weights.
        ema: whether there is an EMA of the weights.
        teacher_bytes: weights of the teacher in a process; 0 if there is none.
    """
    trained = count_trained(config, lora)
    weights = count_parameters(config) + (trained if lora.rank else 0)
    parts = gpus if sharding == "fsdp2" else 1
    gathered = 0.0
    if sharding == "fsdp2" and gpus > 1:  # the layers that are computed and fetched next, and embeddings and head
        ends = count_parameters(config, 0)
        gathered = 4.0 * (2 * (count_parameters(config, 1) - ends) + ends)
    ema_bytes = 4 * weights if ema else 0
    moments = _MOMENTS[optimizer.name] * trained / parts
    buckets = 4.0 * trained if sharding == "ddp" and gpus > 1 else 0.0
    always = (4 * weights + ema_bytes) / parts + moments + gathered
    return Held(
        always=always + teacher_bytes + (IMAGE_TOKENIZER_BYTES if config.hidden_size > 1024 else 0.0),
        gradients=4.0 * trained / parts + buckets,
        update=4.0 * trained / parts if optimizer.name == "adamw" else 0.0,
    )


def seconds_of(
    passes: Iterable[Pass], config: BackboneConfig, hardware: Hardware, checkpointing: bool = False
) -> float:
    """Return the time of passes on one GPU, with their backward passes."""
    total = 0.0
    for one in passes:
        work, starts = (3 + checkpointing, 2 + checkpointing) if one.trained else (1, 1)
        computing = work * one.flops(config) / (hardware.tflops * 1e12 * hardware.utilisation)
        total += max(computing, starts * one.count * config.num_hidden_layers * SECONDS_PER_LAYER)
    return total


def store_bytes(stage: Stage, sizes: ImageSizes) -> float:
    """Return the bytes of a stored rollout: codes, steps, and the soft labels of every segment end."""
    ends = len(segment_ends(stage.image.num_inference_steps, stage.image.segments))
    labels = sizes.codes * (stage.image.label_size or sizes.codebook) * 6
    return sizes.codes * 8 + ends * labels


@dataclass(frozen=True)
class Planner:
    """Plan the stages of a distillation, or a fine-tuning, for a model on some GPUs."""

    config: BackboneConfig
    sizes: ImageSizes
    hardware: Hardware

    def stage_rows(self, stage: Stage, teacher_bytes: float) -> Iterator[Row]:
        """Yield a row for each way to run a stage.

        Args:
            stage: the stage.
            teacher_bytes: weights of the teacher.
        """
        teacher_bytes /= self.hardware.gpus if stage.shard_teacher else 1

        def batch_seconds(batch: int, checkpointing: bool) -> float:
            passes = stage_passes(stage, self.sizes, batch)
            training = seconds_of(passes, self.config, self.hardware, checkpointing)
            if stage.trajectories.count:
                return training
            counts = (batch * stage.image.batch_size, batch * stage.text.batch_size)
            return training + seconds_of(teacher_passes(stage, self.sizes, *counts), self.config, self.hardware)

        once = 0.0
        if stage.trajectories.count:
            files = stage.trajectories
            chunk = teacher_passes(stage, self.sizes, files.batch_size, files.batch_size)
            once = seconds_of(chunk, self.config, self.hardware) * files.count / files.batch_size / self.hardware.gpus
        passes = list(stage_passes(stage, self.sizes, 1))
        yield from self._rows(stage, passes, stage.samples_per_batch, teacher_bytes, batch_seconds, once)

    def finetuning_rows(self, config: FinetuningConfig) -> Iterator[Row]:
        """Yield a row for each way to run a fine-tuning."""

        def batch_seconds(batch: int, checkpointing: bool) -> float:
            return seconds_of(finetuning_passes(config, self.sizes, batch), self.config, self.hardware, checkpointing)

        passes = list(finetuning_passes(config, self.sizes, 1))
        samples = sum(getattr(config, f"{kind}_batch_size") for kind in config.kinds)
        yield from self._rows(config, passes, samples, 0.0, batch_seconds, 0.0)

    def _rows(
        self,
        config: Stage | FinetuningConfig,
        passes: list[Pass],
        samples: int,
        teacher_bytes: float,
        batch_seconds: Callable[[int, bool], float],
        once: float,
    ) -> Iterator[Row]:
        hardware, loop = self.hardware, config.loop
        trained = [one for one in passes if one.trained]
        measured = [measure_activations(self.config, one, bfloat16=True, lora=config.lora) for one in trained]
        for way in WAYS:
            if way.sharding != "ddp" and hardware.gpus == 1:
                continue
            frozen = teacher_bytes
            if way.sharding != "ddp" and isinstance(config, Stage) and config.image.on_policy.prompts:
                frozen += 4.0 * count_parameters(self.config)  # the whole student, which draws on-policy rollouts
            ema = bool(loop.ema_decay)
            if isinstance(config, Stage) and config.image.distribution_matching.weight:  # the score and its gradients
                score = 8.0 + _MOMENTS[config.optimizer.name] + (4.0 if ema else 0.0)
                frozen += score * count_parameters(self.config)
            held = held_bytes(self.config, way.sharding, hardware.gpus, config.optimizer, config.lora, ema, frozen)
            peaks = {
                batch: peak_bytes(
                    held,
                    [_scaled(one, batch) for one in measured],
                    self.config.num_hidden_layers,
                    way.checkpointing,
                )
                for batch in BATCHES
            }
            fitting = [batch for batch, peak in peaks.items() if peak <= _USABLE * hardware.gib * GIB]
            batch = max(fitting, default=None)
            seconds = batch_seconds(batch or 1, way.checkpointing)
            rate = (batch or 1) * samples * hardware.gpus / seconds
            batches = loop.steps * loop.gradient_accumulation_steps
            yield Row(way, peaks[1], batch, rate, (batches * batch_seconds(1, way.checkpointing) + once) / 3600)


def _scaled(one: Activations, batch: int) -> Activations:
    """Return the activations of a larger batch: stored tensors grow with it, copies of weights do not."""
    return replace(one, ends=batch * one.ends, layer=batch * one.layer, layer_input=batch * one.layer_input)
