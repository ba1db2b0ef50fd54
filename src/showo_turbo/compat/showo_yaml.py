"""The nested keys of Show-o's YAML files.

Sizes a file states are compared with the checkpoint's; what belongs to training is known, so that published files load
as they are, and ignored. None means that a file leaves a key out.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Wandb:
    """Where a tracked run goes; used with `tracker=wandb` only."""

    entity: str | None = None
    run_id: str | None = None
    resume: str | None = None


@dataclass(frozen=True)
class Experiment:
    """Name of the work; `output_dir` holds a folder for each run unless the option of that name says otherwise."""

    project: str = "demo"
    name: str = "show-o"
    output_dir: str = "outputs"


@dataclass(frozen=True)
class VqModel:
    """The image tokenizer: `vq_model_name` is its folder or hub name, left out where the checkpoint holds one."""

    type: str = "magvitv2"
    vq_model_name: str | None = None


@dataclass(frozen=True)
class ShowoModel:
    """The transformer.

    `pretrained_model_path` is its shipped name, folder or hub name, `llm_model_path` the folder or hub name of text
    tokenizer and Phi config, left out where the checkpoint holds them. The sizes must be the checkpoint's.
    """

    pretrained_model_path: str = "tiny-turbo"
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
    """All models. `clip_model_name` is the folder or hub name of the CLIP tower that `w_clip_vit` needs."""

    vq_model: VqModel = field(default_factory=VqModel)
    showo: ShowoModel = field(default_factory=ShowoModel)
    clip_model_name: str | None = None
    gradient_checkpointing: bool | None = None


@dataclass(frozen=True)
class DatasetParams:
    """`resolution` must be the checkpoint's; `validation_prompts_file` is drawn unless an option says what else."""

    resolution: int | None = None
    validation_prompts_file: str | None = None
    batch_size: int | None = None
    shuffle_buffer_size: int | None = None
    num_workers: int | None = None
    pin_memory: bool | None = None
    persistent_workers: bool | None = None


@dataclass(frozen=True)
class Preprocessing:
    """`max_seq_length` is the longest prompt in tokens; longer ones lose their end."""

    max_seq_length: int | None = None
    resolution: int | None = None
    center_crop: bool | None = None
    random_flip: bool | None = None


@dataclass(frozen=True)
class Dataset:
    """Data; mostly of training."""

    gen_type: str | None = None
    und_type: str | None = None
    params: DatasetParams = field(default_factory=DatasetParams)
    preprocessing: Preprocessing = field(default_factory=Preprocessing)


@dataclass(frozen=True)
class Training:
    """Sampling settings that the options of the same names win over, and settings of training."""

    batch_size: int | None = None
    guidance_scale: float | None = None
    generation_timesteps: int | None = None
    generation_temperature: float | None = None
    mask_schedule: str | None = None
    noise_type: str | None = None
    gradient_accumulation_steps: int | None = None
    cond_dropout_prob: float | None = None


@dataclass(frozen=True)
class SigmoidParams:
    """Shape of the sigmoid schedule; fixed."""

    start: float = -3
    end: float = 3
    tau: float = 1.0


@dataclass(frozen=True)
class MaskSchedule:
    """The schedule in its long form."""

    schedule: str | None = None
    params: SigmoidParams = field(default_factory=SigmoidParams)
