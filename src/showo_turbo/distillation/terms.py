"""The terms of a stage's loss, as data: what the student is shown, and what it counts.

(Show-o Turbo, arXiv 2502.05415, section 3.)
"""

from dataclasses import dataclass, field, replace

from showo_turbo.errors import InputError
from showo_turbo.generation.options import SamplingOptions
from showo_turbo.validation import check_integer, check_number


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
        check_integer("on_policy.prompts", self.prompts, 0)
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
        _check_weights("image", self, "weight", "self_weight", "guidance_scale")
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
        _check_weights("text", self, "weight", "autoregressive_weight")
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
        _check_weights("language", self, "weight")


def _check_positive(term: str, config: object, *names: str) -> None:
    for name in names:
        check_integer(f"{term}.{name}", getattr(config, name), 1)


def _check_weights(term: str, config: object, *names: str) -> None:
    for name in names:
        check_number(f"{term}.{name}", getattr(config, name), 0)
