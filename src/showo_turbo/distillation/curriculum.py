"""A distillation as data: stages, one after the other, each from the student of the one before.

    teacher --stage 1, many segments--> student (Show-o Turbo*) --stage 2, fewer segments--> student (Show-o Turbo)
                                             = teacher and start of stage 2

(Show-o Turbo, arXiv 2502.05415, section 3.3.) What changes from stage to stage is all in here; no stage has code of its
own.
"""

from dataclasses import dataclass, field

from showo_turbo.data import SourceConfig
from showo_turbo.distillation.terms import ImageTerm, LanguageTerm, TextTerm
from showo_turbo.errors import InputError
from showo_turbo.generation.options import SamplingOptions
from showo_turbo.training.loop import LoopConfig
from showo_turbo.training.optimizers import OptimizerConfig
from showo_turbo.validation import check_integer, check_number, check_seed

PREVIOUS = "previous"
"""As a stage's teacher or student: the student of the stage before it."""

ORIGINAL = "original"
"""As a stage's teacher or student: the distillation's teacher."""


@dataclass(frozen=True)
class LoraConfig:
    """Low-rank adapters in place of all weights.

    Attributes:
        rank: of the adapters; 0 trains all weights.
        alpha: their scale times the rank.
        targets: names of the layers that get one.
    """

    rank: int = 0
    alpha: float = 16.0
    targets: list[str] = field(default_factory=lambda: ["q_proj", "k_proj", "v_proj", "dense", "fc1", "fc2"])

    def __post_init__(self) -> None:
        check_integer("lora.rank", self.rank, 0)
        check_number("lora.alpha", self.alpha, 0)


@dataclass(frozen=True)
class TrajectoryFiles:
    """Trajectories that the teacher makes once, before a stage, to be read back in every epoch.

    Attributes:
        count: roll-outs, and dialogues; 0 makes new ones for every batch instead.
        dialogues: so many dialogues in place of `count`, if given; answers of a few ids need fewer than images.
        folder: where they are, for stages of one teacher and setting to share, whatever sources these have. If left
            out, the stage's own, which is of its own sources.
        batch_size: roll-outs, and dialogues, that the teacher makes at once.
        seed: of what is drawn and asked.
    """

    count: int = 0
    dialogues: int | None = None
    folder: str | None = None
    batch_size: int = 32
    seed: int = 0

    def __post_init__(self) -> None:
        check_integer("trajectories.batch_size", self.batch_size, 1)
        check_integer("trajectories.count", self.count, 0)
        check_seed("trajectories.seed", self.seed)
        if self.dialogues is not None:
            check_integer("trajectories.dialogues", self.dialogues, 1)
        if self.count == 0 and (self.dialogues or self.folder):
            raise InputError("trajectories has dialogues or a folder but no count: say how many roll-outs to keep")

    @property
    def num_dialogues(self) -> int:
        """How many dialogues are asked for."""
        return self.count if self.dialogues is None else self.dialogues


@dataclass(frozen=True)
class Stage:
    """One stage.

    Attributes:
        name: of its folder.
        teacher: shipped model, folder or hub name; "previous" for the student of the stage before (of the first stage,
            the distillation's student), "original" for the distillation's teacher.
        student: where the student starts, likewise; from the teacher if left out.
        loop: how long and how it runs; `output` is set from the distillation's.
        optimizer: what changes the weights.
        image, text, language: the terms of the loss.
        trajectories: whether the teacher's work is kept in files.
        average_target: take the student's own targets from the running average of its weights.
        lora: adapters in place of all weights.
        gradient_checkpointing: less memory for more time.
        sampling: what to recommend to those who draw with the student.
    """

    name: str
    teacher: str = PREVIOUS
    student: str | None = None
    loop: LoopConfig = field(default_factory=LoopConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    image: ImageTerm = field(default_factory=ImageTerm)
    text: TextTerm = field(default_factory=TextTerm)
    language: LanguageTerm = field(default_factory=LanguageTerm)
    trajectories: TrajectoryFiles = field(default_factory=TrajectoryFiles)
    average_target: bool = False
    lora: LoraConfig = field(default_factory=LoraConfig)
    gradient_checkpointing: bool = False
    sampling: SamplingOptions = field(default_factory=lambda: SamplingOptions(4, 0.0))

    def __post_init__(self) -> None:
        if not self.terms:
            raise InputError(f"stage {self.name!r} has nothing to learn: give image, text or language a weight")

    @property
    def terms(self) -> list["ImageTerm | TextTerm | LanguageTerm"]:
        """Those with a weight; the others cost nothing and need no data."""
        return [term for term in (self.image, self.text, self.language) if term.weight]

    @property
    def samples_per_batch(self) -> int:
        """Roll-outs, blocks and texts together."""
        return sum(term.batch_size for term in self.terms)


@dataclass(frozen=True)
class DistillationConfig:
    """All stages and what they read.

    Attributes:
        output: folder of the run; every stage has one in it.
        stages: in order.
        teacher: shipped model, folder or hub name: what stages call "original".
        student: likewise, what the first stage calls "previous"; the teacher if left out.
        captions, dialogues, texts: sources of each kind, see `data.opening`.
        seed: of all stages, in place of each one's `loop.seed`, if given; stored trajectories keep their own.
        dtype: precision of the teacher; the student learns in float32, or what accelerate is told.
        image_tokenizer, text_tokenizer: where the first teacher does not hold them, see `ShowoPipeline`.
    """

    output: str = "runs/turbo"
    stages: list[Stage] = field(default_factory=list)
    teacher: str = "tiny"
    student: str | None = None
    captions: list[SourceConfig] = field(default_factory=list)
    dialogues: list[SourceConfig] = field(default_factory=list)
    texts: list[SourceConfig] = field(default_factory=list)
    seed: int | None = None
    dtype: str = "float32"
    image_tokenizer: str | None = None
    text_tokenizer: str | None = None

    def __post_init__(self) -> None:
        if self.seed is not None:
            check_seed("seed", self.seed)
        names = [stage.name for stage in self.stages]
        if not names or len(set(names)) < len(names):
            raise InputError(f"stages are named {names}: give at least one, and each a name of its own")
