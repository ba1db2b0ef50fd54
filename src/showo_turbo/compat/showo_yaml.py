"""The nested keys of Show-o's YAML files.

Sizes are compared with the checkpoint's. Keys of training are accepted, so that published files load unchanged, and
have no effect. None stands for a key that is left out.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Wandb:
    """Configure Weights & Biases; used with `tracker=wandb` only."""

    entity: str | None = None
    run_id: str | None = None
    resume: str | None = None


@dataclass(frozen=True)
class Experiment:
    """Name project and run; `output_dir` holds a folder for each run, unless the option of this name is given."""

    project: str = "demo"
    name: str = "show-o"
    output_dir: str = "outputs"


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
    """Name the models. `clip_model_name` is the folder or hub name of the CLIP vision tower that `w_clip_vit` needs."""

    vq_model: VqModel = field(default_factory=VqModel)
    showo: ShowoModel = field(default_factory=ShowoModel)
    clip_model_name: str | None = None
    gradient_checkpointing: bool | None = None


@dataclass(frozen=True)
class DatasetParams:
    """Name the data; `resolution` must be the checkpoint's; `validation_prompts_file` is the default of the option."""

    resolution: int | None = None
    validation_prompts_file: str | None = None
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
