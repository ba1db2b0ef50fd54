"""Options of the two commands: Show-o's, those of `generation.options` under their own names, and a few more."""

from dataclasses import Field, dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Any

from showo_turbo.compat.output_folder import new_folder
from showo_turbo.compat.showo_yaml import (
    Dataset,
    Experiment,
    LrScheduler,
    MaskSchedule,
    Model,
    Optimizer,
    SigmoidParams,
    Training,
    Wandb,
)
from showo_turbo.errors import InputError
from showo_turbo.generation.options import (
    DIRECTIONS,
    RECOMMENDED,
    DecodingOptions,
    Options,
    SamplingOptions,
    add_options,
    argument_of,
    check_option,
    options_in,
)
from showo_turbo.validation import check_seed

SEPARATOR = " *** "
"""Separates several questions, prompts or directions in one option."""

MODES = ("t2i", "inpainting", "extrapolation")
TRACKERS = ("wandb",)

SHOW_O_NAMES = {
    "num_inference_steps": ("generation_timesteps", "training.generation_timesteps"),
    "guidance_scale": ("training.guidance_scale",),
    "temperature": ("training.generation_temperature",),
    "schedule": ("mask_schedule.schedule", "training.mask_schedule"),
}
"""Show-o's names of sampling options, in order of preference, after the option's own name. Dots lead into sections."""


def _argument(options: type[Options], declared: Field) -> tuple[Any, Any]:
    """Return type and default of a declared option in a config; OmegaConf does not support literal types."""
    annotation, default = argument_of(options, declared)
    return (Any if default == RECOMMENDED else annotation), default


@dataclass(frozen=True)
class CommonOptions:
    """Hold the options of both commands.

    Attributes:
        wandb, experiment, model, dataset, training, optimizer, lr_scheduler: the sections of Show-o's YAML files.
        output_dir: folder for the results; a new one in `experiment.output_dir` if left out.
        overwrite: replace files that exist there.
        tracker: "wandb" also sends images and texts there; nothing is tracked if left out.
        device: device to compute on; the GPU if there is one, else the CPU, if left out.
        dtype: dtype of the transformer's weights: float32, bfloat16 or float16.
        seed: seed of all random numbers; if left out, a random one for images, and 0 for answers.

    Raises:
        InputError: if a value is unknown.
    """

    wandb: Wandb = field(default_factory=Wandb)
    experiment: Experiment = field(default_factory=Experiment)
    model: Model = field(default_factory=Model)
    dataset: Dataset = field(default_factory=Dataset)
    training: Training = field(default_factory=Training)
    optimizer: Optimizer = field(default_factory=Optimizer)
    lr_scheduler: LrScheduler = field(default_factory=LrScheduler)
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
            _check_choice("tracker", self.tracker, TRACKERS)
        _check_choice("model.vq_model.type", self.model.vq_model.type, ("magvitv2",))

    def output_folder(self, task: str) -> Path:
        """Return the folder for the results of a task."""
        return Path(self.output_dir) if self.output_dir else new_folder(Path(self.experiment.output_dir), task)


@dataclass(frozen=True)
@add_options(SamplingOptions, _argument)
class TextToImageOptions(CommonOptions):
    """Hold the options of `inference_t2i.py`.

    Attributes:
        mode: "t2i", "inpainting" or "extrapolation".
        prompt: text of the image; several for t2i, or one for each direction of extrapolation, separated by " *** ".
        validation_prompts_file: for t2i, in place of `prompt`: a text file with a prompt on each line.
        batch_size: prompts per batch in t2i, images of the prompt in the other modes.
        generation_timesteps: the same as num_inference_steps.
        mask_schedule: the schedule, with its parameters; the same as schedule.
        image_path: the image to edit.
        inpainting_mask_path: an image that is white where to redraw.
        extra_direction: left, right, up or down; several separated by " *** ".
        offset: codes that are added beyond half an image in each direction.

    Sampling options that are left out take the checkpoint's recommendation; top_k=null samples among all codes.

    Raises:
        InputError: if a mode lacks an option or a value is unknown or out of its range.
    """

    mode: str = "t2i"
    prompt: str | None = None
    validation_prompts_file: str | None = None
    batch_size: int | None = None
    generation_timesteps: int | None = None
    mask_schedule: MaskSchedule = field(default_factory=MaskSchedule)
    image_path: str = ""
    inpainting_mask_path: str = ""
    extra_direction: str = ""
    offset: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_choice("mode", self.mode, MODES)
        longest = self.dataset.preprocessing.max_seq_length
        if longest is not None and longest < 3:
            raise InputError(
                f"prompt is empty if cut to dataset.preprocessing.max_seq_length {longest}: choose 3 or more tokens"
            )
        for name, value in self.sampling.items():
            check_option(SamplingOptions, name, value)
        if self.training.noise_type is not None:
            _check_choice("training.noise_type", self.training.noise_type, ("mask",))
        if self.mask_schedule.params != SigmoidParams():
            raise InputError("mask_schedule.params cannot be changed: leave them at start -3, end 3, tau 1, or out")
        required = {"t2i": (), "inpainting": ("image_path", "inpainting_mask_path"), "extrapolation": ("image_path",)}
        missing = [name for name in required[self.mode] if not getattr(self, name)]
        if self.mode != "t2i" and self.prompt is None:
            missing.append("prompt")
        if missing:
            raise InputError(f"mode {self.mode!r} needs {missing[0]}: add {missing[0]}=...")
        if self.mode == "extrapolation" and not self.directions:
            raise InputError("mode 'extrapolation' needs extra_direction: left, right, up or down")
        for direction in self.directions:
            _check_choice("extra_direction", direction, DIRECTIONS)
        if self.images_per_batch < 1:
            raise InputError(f"batch_size is {self.images_per_batch}: choose 1 or more")

    @property
    def directions(self) -> list[str]:
        """Directions of extrapolation, in order."""
        return [direction.strip() for direction in split(self.extra_direction)]

    @property
    def images_per_batch(self) -> int:
        """Batch size: the option, or else that of the section `training`, or else 1."""
        return next(size for size in (self.batch_size, self.training.batch_size, 1) if size is not None)

    @property
    def sampling(self) -> dict[str, Any]:
        """Sampling options that are given, under the names of `SamplingOptions`."""
        given = {}
        for name, own in options_in(SamplingOptions, self).items():
            values = [] if SamplingOptions.is_left_out(name, own) else [own]
            others = (attrgetter(path)(self) for path in SHOW_O_NAMES.get(name, ()))
            values += [value for value in others if value is not None]
            if values:
                given[name] = values[0]
        return given


@dataclass(frozen=True)
@add_options(DecodingOptions, _argument, max_new_tokens=100)
class UnderstandingOptions(CommonOptions):
    """Hold the options of `inference_mmu.py`.

    Attributes:
        mmu_image_root: folder of images.
        question: question about each of them; several separated by " *** ".

    Raises:
        InputError: if there is no folder or no question, or a value is out of its range.
    """

    mmu_image_root: str = ""
    question: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.mmu_image_root:
            raise InputError("mmu_image_root is missing: name a folder of images, mmu_image_root=FOLDER")
        if not split(self.question):
            raise InputError(f"question is missing: add question='...', several separated by {SEPARATOR!r}")
        self.decoding_options()

    def decoding_options(self) -> DecodingOptions:
        """Return the options as the library takes them.

        Raises:
            InputError: if one is out of its range.
        """
        return DecodingOptions(**options_in(DecodingOptions, self))


def split(text: str | None) -> list[str]:
    """Return the parts of an option that may hold several, without blank ones."""
    return [part for part in (text or "").split(SEPARATOR) if part.strip()]


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InputError(f"{name} is {value!r}: choose {' or '.join(choices)}")
