"""The nested keys of Show-o's YAML files.

Sizes are compared with the checkpoint's. Keys of training are accepted, so that published files load unchanged, and
have no effect. None stands for a key that is left out.
"""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Wandb:
    """Configure Weights & Biases; used with `tracker=wandb` only."""

    entity: str | None = None
    run_id: str | None = None
    resume: str | None = None


@dataclass(frozen=True)
class Experiment:
    """Name project and run; `output_dir` holds a folder for each run, unless the option of this name is given.

    The other keys are of training.
    """

    project: str = "demo"
    name: str = "show-o"
    output_dir: str = "outputs"
    max_train_examples_t2i: int | None = None
    max_train_examples_mmu: int | None = None
    save_every: int | None = None
    eval_every: int | None = None
    generate_every: int | None = None
    log_every: int | None = None
    log_grad_norm_every: int | None = None
    resume_from_checkpoint: str | None = None


@dataclass(frozen=True)
class VqModel:
    """Name the image tokenizer: a folder or hub name, left out if the checkpoint holds one."""

    type: str = "magvitv2"
    vq_model_name: str | None = None


@dataclass(frozen=True)
class ShowoModel:
    """Name the transformer.

    `pretrained_model_path` is its shipped name, folder or hub name, `llm_model_path` the folder or hub name of text
    tokenizer and Phi config, left out if the checkpoint holds them. The sizes must be the checkpoint's.
    """

    pretrained_model_path: str = "clipart-turbo"
    llm_model_path: str | None = None
    w_clip_vit: bool | None = None
    vocab_size: int | None = None
    llm_vocab_size: int | None = None
    codebook_size: int | None = None
    num_vq_tokens: int | None = None
    num_new_special_tokens: int | None = None
    load_from_showo: bool | None = None


@dataclass(frozen=True)
class Model:
    """Name the models. `clip_model_name` is the folder or hub name of the CLIP vision tower that `w_clip_vit` needs."""

    vq_model: VqModel = field(default_factory=VqModel)
    showo: ShowoModel = field(default_factory=ShowoModel)
    clip_model_name: str | None = None
    gradient_checkpointing: bool | None = None
    enable_xformers_memory_efficient_attention: bool | None = None


@dataclass(frozen=True)
class DatasetParams:
    """Name the data; `resolution` must be the checkpoint's; `validation_prompts_file` is the default of the option.

    The other keys are of training; shards are one path or a list.
    """

    resolution: int | None = None
    validation_prompts_file: str | None = None
    train_t2i_shards_path_or_url: Any = None
    train_mmu_shards_path_or_url: Any = None
    train_lm_shards_path_or_url: Any = None
    add_caption_prompt: bool | None = None
    external_caption_path: str | None = None
    external_journeydb_caption_path: str | None = None
    external_laion12m_caption_path: str | None = None
    external_cc12m_caption_path: str | None = None
    batch_size: int | None = None
    shuffle_buffer_size: int | None = None
    num_workers: int | None = None
    pin_memory: bool | None = None
    persistent_workers: bool | None = None


@dataclass(frozen=True)
class Preprocessing:
    """Configure preprocessing: `max_seq_length` is the longest prompt in tokens; longer ones are cut."""

    max_seq_length: int | None = None
    resolution: int | None = None
    center_crop: bool | None = None
    random_flip: bool | None = None


@dataclass(frozen=True)
class Dataset:
    """Configure data; most keys are of training."""

    gen_type: str | None = None
    und_type: str | None = None
    combined_loader_mode: str | None = None
    add_system_prompt: bool | None = None
    params: DatasetParams = field(default_factory=DatasetParams)
    preprocessing: Preprocessing = field(default_factory=Preprocessing)


@dataclass(frozen=True)
class Training:
    """Configure sampling where no option of the same name is given; the other keys are of training."""

    batch_size: int | None = None
    guidance_scale: float | None = None
    generation_timesteps: int | None = None
    generation_temperature: float | None = None
    mask_schedule: str | None = None
    noise_type: str | None = None
    gradient_accumulation_steps: int | None = None
    cond_dropout_prob: float | None = None
    batch_size_t2i: int | None = None
    batch_size_lm: int | None = None
    batch_size_mmu: int | None = None
    mixed_precision: str | None = None
    enable_tf32: bool | None = None
    seed: int | None = None
    max_train_steps: int | None = None
    overfit_one_batch: bool | None = None
    min_masking_rate: float | None = None
    label_smoothing: float | None = None
    max_grad_norm: float | None = None
    t2i_coeff: float | None = None
    lm_coeff: float | None = None
    mmu_coeff: float | None = None


@dataclass(frozen=True)
class OptimizerParams:
    """Hold the settings of the optimizer, which are of training."""

    learning_rate: float | None = None
    scale_lr: bool | None = None
    beta1: float | None = None
    beta2: float | None = None
    weight_decay: float | None = None
    epsilon: float | None = None


@dataclass(frozen=True)
class Optimizer:
    """Name the optimizer, which is of training."""

    name: str | None = None
    params: OptimizerParams = field(default_factory=OptimizerParams)


@dataclass(frozen=True)
class LrSchedulerParams:
    """Hold the settings of the learning rate's schedule, which are of training."""

    learning_rate: float | None = None
    warmup_steps: int | None = None


@dataclass(frozen=True)
class LrScheduler:
    """Name the learning rate's schedule, which is of training."""

    scheduler: str | None = None
    params: LrSchedulerParams = field(default_factory=LrSchedulerParams)


@dataclass(frozen=True)
class SigmoidParams:
    """Hold the shape of the sigmoid schedule, which is fixed."""

    start: float = -3
    end: float = 3
    tau: float = 1.0


@dataclass(frozen=True)
class MaskSchedule:
    """Name the mask schedule, with its parameters."""

    schedule: str | None = None
    params: SigmoidParams = field(default_factory=SigmoidParams)
