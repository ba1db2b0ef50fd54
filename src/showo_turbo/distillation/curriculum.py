"""A distillation as data: stages, one after the other, each from the student of the one before.

    teacher --stage 1, many segments--> student (Show-o Turbo*) --stage 2, fewer segments--> student (Show-o Turbo)
                                             = teacher and start of stage 2

(Show-o Turbo, arXiv 2502.05415, section 3.3.) What changes from stage to stage is all in here; no stage has code of its
own.
"""

from dataclasses import dataclass, field, replace

from showo_turbo.data import SourceConfig
from showo_turbo.errors import InputError
from showo_turbo.generation.options import SamplingOptions
from showo_turbo.training.loop import LoopConfig
from showo_turbo.training.optimizers import OptimizerConfig

PREVIOUS = "previous"
"""As a stage's teacher or student: the student of the stage before it."""

ORIGINAL = "original"
"""As a stage's teacher or student: the distillation's teacher."""


@dataclass(frozen=True)
class OnPolicy:
    """Roll-outs on the student's own way, labelled by the teacher, in place of the teacher's way.

    Attributes:
        prompts: so many are drawn at once; 0 keeps to the teacher's way.
        batches: so many batches learn from them before the student, who has learnt meanwhile, draws others.
        top_k: the student draws among its k most probable codes; of 1, it draws every prompt in one way only.
        sampled_steps: it does so in so many of its steps, the first ones; in all if left out.
        share: of a batch that is on the student's own way; the others are on the teacher's, so that it does not drift.
    """

    prompts: int = 0
    batches: int = 32
    top_k: int = 1
    sampled_steps: int | None = None
    share: float = 1.0

    def __post_init__(self) -> None:
        _check_positive("on_policy", self, "batches", "top_k")
        if not 0 < self.share <= 1:
            raise InputError(f"on_policy.share is {self.share}: choose more than 0 and at most 1")


@dataclass(frozen=True)
class ImageTerm:
    """The image term of a stage.

    Attributes:
        weight: in the total loss; 0 leaves the term out.
        batch_size: roll-outs a batch.
        num_inference_steps: length of the teacher's trajectory.
        segments: parts it is cut into.
        stride: the student is shown every `stride`-th state: with 16 steps and stride 4, those that a sampler of 4
            steps comes through. 1, as published, shows all.
        guidance_scale: of the teacher, see `SamplingOptions`; the student learns to do without.
        schedule: how fast the teacher settles codes, see `SamplingOptions`.
        order: which codes the teacher settles first, see `SamplingOptions`.
        self_weight: weight of the student's own labels beside the teacher's 1.
        label_size: codes kept of every soft label; all if left out.
        on_policy: whether the student walks; it then takes `stride` steps at a time.
    """

    weight: float = 1.0
    batch_size: int = 8
    num_inference_steps: int = 16
    segments: int = 1
    stride: int = 1
    guidance_scale: float = 1.75
    schedule: str = "cosine"
    order: str = "confidence"
    self_weight: float = 0.05
    label_size: int | None = None
    on_policy: OnPolicy = field(default_factory=OnPolicy)

    def __post_init__(self) -> None:
        _check_positive("image", self, "batch_size", "num_inference_steps", "segments", "stride")
        if 0 < self.on_policy.prompts < self.batch_size:
            raise InputError(
                f"image.on_policy.prompts is {self.on_policy.prompts}: choose at least batch_size, {self.batch_size}"
            )

    @property
    def sampling(self) -> SamplingOptions:
        """How the teacher draws: its most probable candidates, without noise."""
        return SamplingOptions(
            self.num_inference_steps, self.guidance_scale, 1, temperature=0.0, schedule=self.schedule, order=self.order
        )

    @property
    def own_roll_outs(self) -> int:
        """How many of a batch are on the student's own way."""
        return max(1, round(self.batch_size * self.on_policy.share)) if self.on_policy.prompts else 0

    @property
    def teacher_roll_outs(self) -> int:
        """How many are on the teacher's."""
        return self.batch_size - self.own_roll_outs

    @property
    def own_sampling(self) -> SamplingOptions:
        """How the student draws on its own way, a step of whose is `stride` of these."""
        own = self.on_policy
        sampled = None if own.sampled_steps is None else own.sampled_steps * self.stride
        return replace(self.sampling, guidance_scale=0.0, top_k=own.top_k, sampled_steps=sampled)


@dataclass(frozen=True)
class TextTerm:
    """The text term of a stage.

    Attributes:
        weight: in the total loss; 0 leaves the term out.
        batch_size: blocks a batch.
        block_length: ids of a Jacobi block.
        max_new_tokens: longest answer of the teacher, a multiple of the block length.
        given_ids: of a longer answer, the teacher is given up to so many first ids, at random. A sliding window makes
            blocks begin anywhere; with one less than the block length, so do the student's.
        segments: parts that a trajectory is cut into.
        autoregressive_weight: of the converged answer's own cross entropy, inside the term.
        teacher: who answers, named as a stage's teacher is; the stage's teacher if left out.
    """

    weight: float = 0.5
    batch_size: int = 8
    block_length: int = 16
    max_new_tokens: int = 64
    given_ids: int = 0
    segments: int = 1
    autoregressive_weight: float = 10.0
    teacher: str | None = None

    def __post_init__(self) -> None:
        _check_positive("text", self, "batch_size", "block_length", "max_new_tokens", "segments")
        if self.max_new_tokens % self.block_length:
            raise InputError(
                f"text.max_new_tokens is {self.max_new_tokens}: choose a multiple of block_length, {self.block_length}"
            )
        if not 0 <= self.given_ids < self.block_length:
            raise InputError(
                f"text.given_ids is {self.given_ids}: choose 0 or more, and less than block_length, {self.block_length}"
            )


@dataclass(frozen=True)
class LanguageTerm:
    """The regularisation of a stage: plain language modelling.

    Attributes:
        weight: in the total loss; 0 leaves the term out.
        batch_size: texts a batch.
        max_length: ids of a text; what is longer is cut.
    """

    weight: float = 0.1
    batch_size: int = 8
    max_length: int = 512

    def __post_init__(self) -> None:
        _check_positive("language", self, "batch_size", "max_length")


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
        _check_positive("trajectories", self, "batch_size")
        if self.dialogues is not None:
            _check_positive("trajectories", self, "dialogues")

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
        names = [stage.name for stage in self.stages]
        if not names or len(set(names)) < len(names):
            raise InputError(f"stages are named {names}: give at least one, and each a name of its own")


def _check_positive(term: str, config: object, *names: str) -> None:
    for name in names:
        if getattr(config, name) < 1:
            raise InputError(f"{term}.{name} is {getattr(config, name)}: choose 1 or more")
