"""Configuration of a distillation: stages that run in order, each from the student of the stage before.

    teacher --stage 1, many segments--> student (Show-o Turbo*) --stage 2, fewer segments--> student (Show-o Turbo)
                                             = teacher and initial weights of stage 2

(Show-o Turbo, arXiv 2502.05415, section 3.3.) Stages differ in this configuration only; no stage has code of its own.
"""

import re
from dataclasses import dataclass, field

from showo_turbo.distillation.loss_terms import MAX_COUNT, ImageTerm, LanguageTerm, TextTerm
from showo_turbo.errors import InputError
from showo_turbo.generation.options import SamplingOptions
from showo_turbo.training.adapters import LoraConfig
from showo_turbo.training.loop import LoopConfig
from showo_turbo.training.optimizers import OptimizerConfig
from showo_turbo.training.sample_sources import SampleSourcesConfig
from showo_turbo.validation import check_integer, check_number, check_seed, shown
from showo_turbo.vocabulary import OPENING_TOKENS

PREVIOUS = "previous"
"""As a stage's teacher or student: the student of the stage before."""

ORIGINAL = "original"
"""As a stage's teacher or student: the teacher of the distillation."""

_STAGE_NAME = re.compile(r"\w[\w.-]{0,99}")
_MAX_TRAJECTORIES = 10**9


@dataclass(frozen=True)
class TrajectoryFiles:
    """Configure trajectories that the teacher generates once, before a stage, for all epochs.

    Attributes:
        count: number of image rollouts, and of dialogues; 0 generates new ones for every batch instead.
        dialogues: number of dialogues, where it differs from `count`; answers of a few ids need fewer than images.
        folder: folder that stages with the same teacher and settings share, whatever their sources. If left out, the
            stage has a folder of its own, which belongs to its sources.
        batch_size: number of rollouts, and of dialogues, that the teacher generates at once.
        seed: of the sampled captions and dialogues.
    """

    count: int = 0
    dialogues: int | None = None
    folder: str | None = None
    batch_size: int = 32
    seed: int = 0

    def __post_init__(self) -> None:
        check_integer("trajectories.batch_size", self.batch_size, 1, MAX_COUNT)
        check_integer("trajectories.count", self.count, 0, _MAX_TRAJECTORIES)
        check_seed("trajectories.seed", self.seed)
        if self.dialogues is not None:
            check_integer("trajectories.dialogues", self.dialogues, 1, _MAX_TRAJECTORIES)
        if self.count == 0 and (self.dialogues or self.folder):
            raise InputError("trajectories has dialogues or a folder but no count: set count to the number of rollouts")

    @property
    def num_dialogues(self) -> int:
        """Number of dialogues."""
        return self.count if self.dialogues is None else self.dialogues


@dataclass(frozen=True)
class Stage:
    """Configure one stage.

    Attributes:
        name: of its folder.
        teacher: shipped model, folder or hub name; "previous" for the student of the stage before (of the first stage,
            the distillation's student), "original" for the distillation's teacher.
        student: initial weights of the student, named likewise; the teacher's if left out.
        teacher_share: share of the teacher in the mean of both that the student starts from, as in WiSE-FT (arXiv
            2109.01903). It brings back what an earlier student has forgotten.
        num_latents: number of latents of the student, see `distillation.latents`; those that it lacks start near the
            first. A step with n latents has n more forward passes. 1 is none.
        loop: the training loop; `output` is set from the distillation's.
        optimizer: the optimizer.
        image, text, language: the terms of the loss.
        trajectories: stored trajectories of the teacher.
        average_target: use the EMA of the student's weights as the target model, in place of the student.
        lora: adapters in place of all weights.
        gradient_checkpointing: trade time for memory.
        shard_teacher: hold 1 / N of the weights of the teachers in each of N processes, whether the student is sharded
            or not; every forward pass of a teacher then gathers its layers, which takes less memory and more time.
        sampling: sampling options that the student's checkpoint recommends.
    """

    name: str
    teacher: str = PREVIOUS
    student: str | None = None
    teacher_share: float = 0.0
    num_latents: int = 1
    loop: LoopConfig = field(default_factory=LoopConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    image: ImageTerm = field(default_factory=ImageTerm)
    text: TextTerm = field(default_factory=TextTerm)
    language: LanguageTerm = field(default_factory=LanguageTerm)
    trajectories: TrajectoryFiles = field(default_factory=TrajectoryFiles)
    average_target: bool = False
    lora: LoraConfig = field(default_factory=LoraConfig)
    gradient_checkpointing: bool = False
    shard_teacher: bool = False
    sampling: SamplingOptions = field(default_factory=lambda: SamplingOptions(4, 0.0))

    def __post_init__(self) -> None:
        if not _STAGE_NAME.fullmatch(self.name):
            raise InputError(
                f"stage {shown(self.name)} is to be the name of a folder: choose letters, digits, '-', '_' and '.'"
            )
        check_number("teacher_share", self.teacher_share, 0, 1)
        check_integer("num_latents", self.num_latents, 1, len(OPENING_TOKENS))
        if self.num_latents > 1 and self.lora.rank:
            raise InputError(
                f"stage {self.name!r}: num_latents is {self.num_latents}, whose embeddings adapters cannot hold: leave "
                "out lora.rank, or num_latents"
            )
        if self.image.distribution_matching.weight and (self.shard_teacher or self.loop.sharding != "none"):
            raise InputError(
                f"stage {self.name!r}: image.distribution_matching has a weight, whose score is not sharded: leave out "
                "shard_teacher and loop.sharding"
            )
        if self.samples_per_batch == 0:
            raise InputError(f"stage {self.name!r} has nothing to learn: give image, text or language a weight")

    @property
    def samples_per_batch(self) -> int:
        """Number of rollouts, blocks and texts in a batch, of the terms that have a weight."""
        return sum(term.batch_size for term in (self.image, self.text, self.language) if term.weight)


@dataclass(frozen=True)
class DistillationConfig(SampleSourcesConfig):
    """Configure a distillation: its stages and their data.

    Attributes:
        output: folder of the run; every stage has a folder in it.
        stages: in order.
        teacher: shipped model, folder or hub name: the model that stages call "original".
        student: likewise, the model that the first stage calls "previous"; the teacher if left out.
        captions, dialogues, texts, num_workers: see `SampleSourcesConfig`.
        seed: overrides the `loop.seed` of all stages; stored trajectories keep their own seed.
        dtype: precision of the teacher; the student trains in float32, or in accelerate's mixed precision.
        image_tokenizer, text_tokenizer: for a first teacher without its own, see `ShowoPipeline.from_pretrained`.
    """

    output: str = "runs/turbo"
    stages: list[Stage] = field(default_factory=list)
    teacher: str = "tiny"
    student: str | None = None
    seed: int | None = None
    dtype: str = "float32"
    image_tokenizer: str | None = None
    text_tokenizer: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.seed is not None:
            check_seed("seed", self.seed)
        names = [stage.name for stage in self.stages]
        if not names or len(set(names)) < len(names):
            raise InputError(f"stages are named {names}: give at least one, and each a name of its own")
