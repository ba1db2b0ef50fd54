"""Configuration of the training loop."""

from dataclasses import dataclass

from showo_turbo.errors import InputError
from showo_turbo.validation import check_fraction, check_integer, check_number, check_seed

CHANGEABLE_ON_RESUME = (
    "output",
    "steps",
    "max_skipped",
    "log_steps",
    "validation_steps",
    "patience",
    "checkpoint_minutes",
    "tracker",
    "mixed_precision",
    "threads",
    "timeout_minutes",
    "sharding",
    "compile",
)
"""Fields of a LoopConfig that a resumed run may change; the precision that a run has is in its manifest by itself."""

PRECISIONS = ("no", "bf16")
"""Values of `mixed_precision`."""

_MAX_STEPS = 10**9
_MAX_THREADS = 1024
"""Number of CPU threads beyond which OpenMP may end the process."""
_MAX_TIMEOUT_MINUTES = 10_000  # a week


@dataclass(frozen=True)
class LoopConfig:
    """Configure the training loop.

    Attributes:
        output: folder of the run: `checkpoints/`, `log.jsonl`, `skipped.jsonl` and the task's export.
        steps: total number of optimizer steps.
        seed: of weights and data.
        warmup_steps: steps over which the learning rate rises linearly.
        decay_share: fraction of the steps, at the end, over which the learning rate falls linearly to zero; 0 keeps it
            constant.
        ema_decay: decay of the EMA of the weights, which is exported; 0 exports the weights themselves.
        clip_norm: maximum gradient norm.
        gradient_accumulation_steps: batches per step.
        max_skipped: number of skipped steps in a row that ends the training.
        log_steps: steps between two lines of the log; before the first one, steps 1, 2, 4, 8, ... have a line, and so
            has the last step.
        validation_steps: steps between two validations on held-out samples; the first one is before step 1, and there
            is one after the last step. The model with the lowest loss is exported to `best/`. 0 does not validate.
        patience: number of validations in a row without a lower loss that ends the training; 0 runs all steps.
        checkpoint_minutes: minutes between two checkpoints.
        tracker: "tensorboard", "wandb", "trackio" or another tracker of accelerate; none if left out.
        mixed_precision: "bf16" computes losses in bfloat16 where that is exact enough, with float32 weights; "no" does
            not; as configured for accelerate if left out.
        threads: number of CPU threads; torch's default if left out.
        timeout_minutes: time that a process waits for another one, which may write a checkpoint or generate
            trajectories, before the training ends with an error.
        sharding: "fsdp2" shards weights, gradients, moments and EMA over the processes, which takes less memory; "none"
            has all of them in each process. A resumed run may change it. It needs the optimizer "adamw".
        compile: compile the layers of the transformer with `torch.compile`; needs a C++ compiler on a CPU. A resumed
            run may change it.
    """

    output: str = "runs/unnamed"
    steps: int = 1000
    seed: int = 0
    warmup_steps: int = 100
    decay_share: float = 0.4
    ema_decay: float = 0.999
    clip_norm: float = 1.0
    gradient_accumulation_steps: int = 1
    max_skipped: int = 20
    log_steps: int = 50
    validation_steps: int = 0
    patience: int = 0
    checkpoint_minutes: float = 3.0
    tracker: str | None = None
    mixed_precision: str | None = None
    threads: int | None = None
    timeout_minutes: float = 30.0
    sharding: str = "none"
    compile: bool = False

    def __post_init__(self) -> None:
        for name in ("steps", "gradient_accumulation_steps", "max_skipped", "log_steps"):
            check_integer(f"loop.{name}", getattr(self, name), 1, _MAX_STEPS)
        if self.mixed_precision not in (None, *PRECISIONS):
            raise InputError(f"loop.mixed_precision is {self.mixed_precision!r}: choose {' or '.join(PRECISIONS)}")
        if self.threads is not None:
            check_integer("loop.threads", self.threads, 1, _MAX_THREADS)
        check_seed("loop.seed", self.seed)
        for name in ("warmup_steps", "validation_steps", "patience"):
            check_integer(f"loop.{name}", getattr(self, name), 0, _MAX_STEPS)
        if self.patience and not self.validation_steps:
            raise InputError(f"loop.patience is {self.patience}, but nothing is validated: set loop.validation_steps")
        check_number("loop.checkpoint_minutes", self.checkpoint_minutes, 0, _MAX_STEPS)
        if not 0 < self.timeout_minutes <= _MAX_TIMEOUT_MINUTES:
            raise InputError(
                f"loop.timeout_minutes is {self.timeout_minutes}: choose more than 0 and at most {_MAX_TIMEOUT_MINUTES}"
            )
        if self.sharding not in ("none", "fsdp2"):
            raise InputError(f"loop.sharding is {self.sharding!r}: choose none or fsdp2")
        for name in ("decay_share", "ema_decay"):
            check_fraction(f"loop.{name}", getattr(self, name))
        if not self.clip_norm > 0:
            raise InputError(f"loop.clip_norm is {self.clip_norm}: choose more than 0; .inf disables clipping")

    def is_logged(self, step: int) -> bool:
        """Return whether the log has a line at a step, counted from 1, that is not the last one."""
        return step % self.log_steps == 0 or (step < self.log_steps and step.bit_count() == 1)
