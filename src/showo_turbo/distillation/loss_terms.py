"""Configuration of the terms of a stage's loss (Show-o Turbo, arXiv 2502.05415, section 3.3): image, text, language."""

from dataclasses import dataclass, field, replace

from showo_turbo.errors import InputError
from showo_turbo.generation.options import SamplingOptions
from showo_turbo.validation import check_integer, check_number

MAX_COUNT = 1 << 16
"""Largest batch, and largest number of steps, segments and ids of a trajectory."""

_MAX_WEIGHT = 1e6


@dataclass(frozen=True)
class OnPolicy:
    """Configure rollouts of the student's policy, labelled by the teacher, in place of the teacher's rollouts.

    Attributes:
        prompts: number of rollouts generated at once; 0 uses the teacher's rollouts only.
        batches: number of batches that learn from them before the current student generates new ones.
        top_k: the student samples among its k most probable codes; 1 is greedy, with one rollout for each prompt.
        sampled_steps: number of first steps of the student that sample, the rest is greedy; all if left out.
        share: fraction of a batch that is on-policy; the rest are rollouts of the teacher, which limits drift.
    """

    prompts: int = 0
    batches: int = 32
    top_k: int = 1
    sampled_steps: int | None = None
    share: float = 1.0

    def __post_init__(self) -> None:
        _check_positive("on_policy", self, "batches", "top_k")
        check_integer("on_policy.prompts", self.prompts, 0, MAX_COUNT)
        if not 0 < self.share <= 1:
            raise InputError(f"on_policy.share is {self.share}: choose more than 0 and at most 1")


@dataclass(frozen=True)
class SampledRollouts:
    """Configure rollouts in which the teacher samples its first steps; all other rollouts are greedy.

    With a share of at most one half, each prompt keeps one image that is more probable than all others, which is what a
    student of few steps draws, and has others beside it, from which a student that samples chooses.

    Attributes:
        share: fraction of the batches of rollouts that are sampled; 0, as published, makes all of them greedy.
        steps: number of first steps that sample; the others take the most probable codes.
        top_k: number of most probable codes to sample from; all if left out.
        guidance_scale: of the teacher in these rollouts; images of a prompt differ most without guidance.
    """

    share: float = 0.0
    steps: int = 1
    top_k: int | None = None
    guidance_scale: float = 0.0

    def __post_init__(self) -> None:
        check_number("image.sampled.share", self.share, 0, 1)
        _check_positive("image.sampled", self, "steps")
        _check_not_negative("image.sampled", self, "guidance_scale")


@dataclass(frozen=True)
class DistributionMatching:
    """Configure distribution matching beside the image term, see `distillation.distribution_matching`.

    It begins after the loop's `warmup_steps`; until then only the score learns.

    Attributes:
        weight: in the total loss; 0 disables it.
        num_inference_steps: numbers of steps in which the student draws; each batch has one of them, at random.
        schedules: mask schedules, likewise; the one of the stage's `sampling` if left out, where all other sampling
            options come from.
        score_lr_scale: learning rates of the score, relative to those of the student, which it has to follow.
    """

    weight: float = 0.0
    num_inference_steps: list[int] = field(default_factory=lambda: [1, 2, 4])
    schedules: list[str] = field(default_factory=list)
    score_lr_scale: float = 3.0

    def __post_init__(self) -> None:
        _check_not_negative("distribution_matching", self, "weight", "score_lr_scale")
        if not self.num_inference_steps:
            raise InputError("distribution_matching.num_inference_steps is empty: give at least one number of steps")

    @property
    def mean_steps(self) -> float:
        """Mean number of steps in which the student draws."""
        return sum(self.num_inference_steps) / len(self.num_inference_steps)

    def samplings(self, recommended: SamplingOptions) -> list[SamplingOptions]:
        """Return the sampling options of the student, one of which each batch has."""
        return [
            replace(recommended, guidance_scale=0.0, num_inference_steps=steps, schedule=schedule)
            for steps in self.num_inference_steps
            for schedule in self.schedules or [recommended.schedule]
        ]


@dataclass(frozen=True)
class ImageTerm:
    """Configure the image term of a stage's loss.

    Attributes:
        weight: in the total loss; 0 disables the term.
        batch_size: rollouts per batch.
        num_inference_steps: length of the teacher's trajectory.
        segments: number of segments of a trajectory.
        stride: train on every `stride`-th state: with 16 steps and stride 4, on the states that a sampler of 4 steps
            reaches. 1, as published, trains on all.
        first_states: train on this many of the first states only, as where a sampler of few steps settles one code in
            each but the last. All if left out, as published.
        guidance_scale: of the teacher, see `SamplingOptions`; the student learns to do without guidance.
        schedule: mask schedule of the teacher, see `SamplingOptions`.
        order: unmasking order of the teacher, see `SamplingOptions`.
        self_weight: weight of the target model's own labels, relative to 1 for the teacher's.
        label_size: number of codes stored for each soft label; all if left out.
        known_share: fraction of the rollouts that start from a partly known image of the sample, as inpainting,
            extrapolation and variation do; needs captions with images.
        sampled: rollouts in which the teacher samples.
        on_policy: rollouts of the student's policy, which takes `stride` steps at a time.
        distribution_matching: another loss, on images that the student draws from the first states of the rollouts.
    """

    weight: float = 1.0
    batch_size: int = 8
    num_inference_steps: int = 16
    segments: int = 1
    stride: int = 1
    first_states: int | None = None
    guidance_scale: float = 1.75
    schedule: str = "cosine"
    order: str = "confidence"
    self_weight: float = 0.05
    label_size: int | None = None
    known_share: float = 0.0
    sampled: SampledRollouts = field(default_factory=SampledRollouts)
    on_policy: OnPolicy = field(default_factory=OnPolicy)
    distribution_matching: DistributionMatching = field(default_factory=DistributionMatching)

    def __post_init__(self) -> None:
        _check_positive("image", self, "batch_size", "num_inference_steps", "segments", "stride")
        _check_not_negative("image", self, "weight", "self_weight", "guidance_scale")
        check_number("image.known_share", self.known_share, 0, 1)
        if self.first_states is not None:
            check_integer("image.first_states", self.first_states, 1, self.num_inference_steps)
        if self.distribution_matching.weight and not self.weight:
            raise InputError("image.distribution_matching has a weight but image has none: set image.weight")
        if 0 < self.on_policy.prompts < self.batch_size:
            raise InputError(
                f"image.on_policy.prompts is {self.on_policy.prompts}: choose at least batch_size, {self.batch_size}"
            )

    @property
    def teacher_sampling(self) -> SamplingOptions:
        """Sampling options of the teacher's greedy rollouts."""
        return SamplingOptions(
            self.num_inference_steps,
            self.guidance_scale,
            temperature=0.0,
            schedule=self.schedule,
            order=self.order,
            sampled_steps=0,
        )

    @property
    def sampled_teacher_sampling(self) -> SamplingOptions:
        """Sampling options of the teacher's sampled rollouts."""
        sampled = self.sampled
        return replace(
            self.teacher_sampling,
            guidance_scale=sampled.guidance_scale,
            top_k=sampled.top_k,
            sampled_steps=sampled.steps,
        )

    @property
    def teacher_sequences(self) -> float:
        """Mean number of sequences of a rollout in a forward pass of the teacher: with guidance 2, otherwise 1."""
        greedy, sampled = (2 if scale else 1 for scale in (self.guidance_scale, self.sampled.guidance_scale))
        return greedy + self.sampled.share * (sampled - greedy)

    @property
    def student_sampling(self) -> SamplingOptions:
        """Sampling options of on-policy rollouts, in steps of the teacher's trajectory."""
        policy = self.on_policy
        sampled_steps = None if policy.sampled_steps is None else policy.sampled_steps * self.stride
        return replace(self.teacher_sampling, guidance_scale=0.0, top_k=policy.top_k, sampled_steps=sampled_steps)

    @property
    def on_policy_batch_size(self) -> int:
        """Number of on-policy rollouts in a batch."""
        return max(1, round(self.batch_size * self.on_policy.share)) if self.on_policy.prompts else 0

    @property
    def teacher_batch_size(self) -> int:
        """Number of teacher rollouts in a batch."""
        return self.batch_size - self.on_policy_batch_size


@dataclass(frozen=True)
class TextTerm:
    """Configure the text term of a stage's loss.

    Attributes:
        weight: in the total loss; 0 disables the term.
        batch_size: blocks per batch.
        block_length: ids of a Jacobi block.
        max_new_tokens: maximum length of the teacher's answer, a multiple of the block length.
        given_ids: maximum number of ids that the teacher is given of a longer answer; the number is sampled. With a
            sliding window, blocks begin anywhere in an answer; `block_length` - 1 trains on such blocks.
        segments: number of segments of a trajectory.
        autoregressive_weight: weight, within the term, of the cross entropy of the converged answer.
        teacher: model that answers, named as a stage's teacher is; the stage's teacher if left out.
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
        _check_not_negative("text", self, "weight", "autoregressive_weight")
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
    """Configure the language-modelling term of a stage's loss, its regularisation.

    Attributes:
        weight: in the total loss; 0 disables the term.
        batch_size: texts per batch.
        max_length: maximum number of ids of a text; longer texts are truncated.
    """

    weight: float = 0.1
    batch_size: int = 8
    max_length: int = 512

    def __post_init__(self) -> None:
        _check_positive("language", self, "batch_size", "max_length")
        _check_not_negative("language", self, "weight")


def _check_positive(term: str, config: object, *names: str) -> None:
    for name in names:
        check_integer(f"{term}.{name}", getattr(config, name), 1, MAX_COUNT)


def _check_not_negative(term: str, config: object, *names: str) -> None:
    for name in names:
        check_number(f"{term}.{name}", getattr(config, name), 0, _MAX_WEIGHT)
