"""The options of the two commands: Show-o's, and a few of our own."""

from dataclasses import dataclass, field
from pathlib import Path

from showo_turbo.compat.output_folder import new_folder
from showo_turbo.compat.showo_yaml import Dataset, Experiment, MaskSchedule, Model, SigmoidParams, Training, Wandb
from showo_turbo.errors import InputError
from showo_turbo.validation import check_seed

SEPARATOR = " *** "
"""Stands between several questions, prompts or directions in one option."""

MODES = ("t2i", "inpainting", "extrapolation")
DIRECTIONS = ("left", "right", "up", "down")
TRACKERS = ("wandb",)


@dataclass(frozen=True)
class CommonOptions:
    """What both commands take.

    Attributes:
        wandb, experiment, model, dataset, training: the sections of Show-o's YAML files.
        output_dir: folder for what comes out; a new one in `experiment.output_dir` if left out.
        overwrite: whether files that exist there may be replaced.
        tracker: "wandb" also sends images and texts there; nothing is tracked if left out.
        device: where to compute; the graphics processor if there is one, if left out.
        dtype: precision of the transformer: float32, bfloat16 or float16.
        seed: of all random numbers; if left out, one is drawn for images, and answers take 0.

    Raises:
        InputError: when a value is none of those that are known.
    """

    wandb: Wandb = field(default_factory=Wandb)
    experiment: Experiment = field(default_factory=Experiment)
    model: Model = field(default_factory=Model)
    dataset: Dataset = field(default_factory=Dataset)
    training: Training = field(default_factory=Training)
    output_dir: str | None = None
    overwrite: bool = False
    tracker: str | None = None
    device: str | None = None
    dtype: str = "float32"
    seed: int | None = None

    def __post_init__(self) -> None:
        if self.seed is not None:
            check_seed("seed", self.seed)
        if self.tracker is not None:
            _choose("tracker", self.tracker, TRACKERS)
        _choose("model.vq_model.type", self.model.vq_model.type, ("magvitv2",))

    def output_folder(self, task: str) -> Path:
        """Where files of a task go."""
        return Path(self.output_dir) if self.output_dir else new_folder(Path(self.experiment.output_dir), task)


@dataclass(frozen=True)
class TextToImageOptions(CommonOptions):
    """What `inference_t2i.py` takes.

    Attributes:
        mode: "t2i", "inpainting" or "extrapolation".
        prompt: what to draw; several for t2i, or one for each direction of extrapolation, are separated by " *** ".
        validation_prompts_file: for t2i, in place of `prompt`: a text file with a prompt on each line.
        batch_size: prompts drawn at once in t2i, images of the prompt in the other modes.
        guidance_scale: w in (1 + w) * conditional - w * unconditional; the checkpoint's recommendation if left out.
        generation_timesteps: steps; the checkpoint's recommendation if left out.
        top_k: draw among the k most probable codes only; null draws among all.
        mask_schedule: the schedule, with its parameters.
        image_path: the image to change.
        inpainting_mask_path: white where it is to be drawn anew.
        extra_direction: left, right, up or down; several are separated by " *** ".
        offset: how many codes fewer than half an image each extrapolation keeps of it.

    Raises:
        InputError: when a mode lacks an option or a value is none of those that are known.
    """

    mode: str = "t2i"
    prompt: str | None = None
    validation_prompts_file: str | None = None
    batch_size: int | None = None
    guidance_scale: float | None = None
    generation_timesteps: int | None = None
    top_k: int | str | None = "recommended"
    mask_schedule: MaskSchedule = field(default_factory=MaskSchedule)
    image_path: str | None = None
    inpainting_mask_path: str | None = None
    extra_direction: str | None = None
    offset: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        _choose("mode", self.mode, MODES)
        if isinstance(self.top_k, str) and self.top_k != "recommended":
            raise InputError(f"top_k is {self.top_k!r}: choose a whole number, null to draw among all, or leave it out")
        if self.training.noise_type is not None:
            _choose("training.noise_type", self.training.noise_type, ("mask",))
        if self.mask_schedule.params != SigmoidParams():
            raise InputError("mask_schedule.params cannot be changed: leave them at start -3, end 3, tau 1, or out")
        needed = {"t2i": (), "inpainting": ("image_path", "inpainting_mask_path"), "extrapolation": ("image_path",)}
        for name in (*needed[self.mode], *(("prompt",) if self.mode != "t2i" else ())):
            if getattr(self, name) is None:
                raise InputError(f"mode {self.mode!r} needs {name}: add {name}=...")
        if self.mode == "extrapolation" and not split(self.extra_direction):
            raise InputError("mode 'extrapolation' needs extra_direction: left, right, up or down")
        for direction in split(self.extra_direction):
            _choose("extra_direction", direction, DIRECTIONS)
        if self.images_at_once < 1:
            raise InputError(f"batch_size is {self.images_at_once}: choose 1 or more")

    @property
    def images_at_once(self) -> int:
        """The batch size that counts."""
        return next(size for size in (self.batch_size, self.training.batch_size, 1) if size is not None)

    @property
    def sampling(self) -> dict[str, object]:
        """What `ShowoPipeline` takes, for the options that are given."""
        training = self.training
        given = {
            "num_inference_steps": _first(self.generation_timesteps, training.generation_timesteps),
            "guidance_scale": _first(self.guidance_scale, training.guidance_scale),
            "temperature": training.generation_temperature,
            "schedule": _first(self.mask_schedule.schedule, training.mask_schedule),
        }
        return {name: value for name, value in given.items() if value is not None} | {"top_k": self.top_k}


@dataclass(frozen=True)
class UnderstandingOptions(CommonOptions):
    """What `inference_mmu.py` takes.

    Attributes:
        mmu_image_root: folder of images.
        question: asked about each of them; several are separated by " *** ".
        max_new_tokens: longest answer.
        decoding: "jacobi" or "autoregressive": the same answers.
        block_length: guesses per pass of Jacobi decoding.

    Raises:
        InputError: when there is no folder or no question.
    """

    mmu_image_root: str | None = None
    question: str | None = None
    max_new_tokens: int = 100
    decoding: str = "jacobi"
    block_length: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mmu_image_root is None:
            raise InputError("mmu_image_root is missing: name a folder of images, mmu_image_root=FOLDER")
        if not split(self.question):
            raise InputError(f"question is missing: add question='...', several separated by {SEPARATOR!r}")


def split(text: str | None) -> list[str]:
    """The parts of an option that may hold several."""
    return [part.strip() for part in (text or "").split(SEPARATOR) if part.strip()]


def _choose(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise InputError(f"{name} is {value!r}: choose {' or '.join(known)}")


def _first(option: object, section: object) -> object:
    return section if option is None else option
