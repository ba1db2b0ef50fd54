"""Configuration of a distillation: stages that run in order, each from the student of the stage before.

    teacher --stage 1, many segments--> student (Show-o Turbo*) --stage 2, fewer segments--> student (Show-o Turbo)
                                             = teacher and initial weights of stage 2

(Show-o Turbo, arXiv 2502.05415, section 3.3.) Stages differ in this configuration only; no stage has code of its own.
"""

import re
from dataclasses import dataclass, field, replace

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
_MAX_COUNT = 1 << 16
"""Largest batch, and largest number of steps, segments and ids of a trajectory."""

_MAX_TRAJECTORIES = 10**9
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
        check_integer("on_policy.prompts", self.prompts, 0, _MAX_COUNT)
        if not 0 < self.share <= 1:
            raise InputError(f"on_policy.share is {self.share}: choose more than 0 and at most 1")


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
        guidance_scale: of the teacher, see `SamplingOptions`; the student learns to do without guidance.
        schedule: mask schedule of the teacher, see `SamplingOptions`.
        order: unmasking order of the teacher, see `SamplingOptions`.
        sampled_steps: number of first steps in which the teacher samples codes; the others take the most probable ones.
            0, as published, is greedy.
        top_k: number of most probable codes that the teacher samples from; all if left out.
        self_weight: weight of the target model's own labels, relative to 1 for the teacher's.
        label_size: number of codes stored for each soft label; all if left out.
        known_share: fraction of the rollouts that start from a partly known image of the sample, as inpainting,
            extrapolation and variation do; needs captions with images.
        on_policy: rollouts of the student's policy, which takes `stride` steps at a time.
    """

    weight: float = 1.0
    batch_size: int = 8
    num_inference_steps: int = 16
    segments: int = 1
    stride: int = 1
    guidance_scale: float = 1.75
    schedule: str = "cosine"
    order: str = "confidence"
    sampled_steps: int = 0
    top_k: int | None = None
    self_weight: float = 0.05
    label_size: int | None = None
    known_share: float = 0.0
    on_policy: OnPolicy = field(default_factory=OnPolicy)

    def __post_init__(self) -> None:
        _check_positive("image", self, "batch_size", "num_inference_steps", "segments", "stride")
        _check_not_negative("image", self, "weight", "self_weight", "guidance_scale", "sampled_steps")
        check_number("image.known_share", self.known_share, 0, 1)
        if 0 < self.on_policy.prompts < self.batch_size:
            raise InputError(
                f"image.on_policy.prompts is {self.on_policy.prompts}: choose at least batch_size, {self.batch_size}"
            )

    @property
    def teacher_sampling(self) -> SamplingOptions:
        """Sampling options of the teacher: without noise in the order, greedy after the sampled steps."""
        return SamplingOptions(
            self.num_inference_steps,
            self.guidance_scale,
            self.top_k,
            temperature=0.0,
            schedule=self.schedule,
            order=self.order,
            sampled_steps=self.sampled_steps,
        )

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
        check_integer("trajectories.batch_size", self.batch_size, 1, _MAX_COUNT)
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


def _check_positive(term: str, config: object, *names: str) -> None:
    for name in names:
        check_integer(f"{term}.{name}", getattr(config, name), 1, _MAX_COUNT)


def _check_not_negative(term: str, config: object, *names: str) -> None:
    for name in names:
        check_number(f"{term}.{name}", getattr(config, name), 0, _MAX_WEIGHT)
