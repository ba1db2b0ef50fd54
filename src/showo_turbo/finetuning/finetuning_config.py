"""Configuration of a fine-tuning."""

from dataclasses import dataclass, field

from showo_turbo.data import SourceConfig
from showo_turbo.errors import InputError
from showo_turbo.training.adapters import LoraConfig
from showo_turbo.training.architecture import ArchitectureConfig
from showo_turbo.training.loop import LoopConfig
from showo_turbo.training.optimizers import OptimizerConfig
from showo_turbo.training.sample_sources import KINDS, SampleSourcesConfig
from showo_turbo.validation import check_fraction, check_integer, check_number, check_seed

_MAX_BATCH = 1 << 16
_MAX_WEIGHT = 1e6


@dataclass(frozen=True)
class ValidationConfig:
    """Configure the held-out samples of a fine-tuning, which are used if `loop.validation_steps` is set.

    Attributes:
        held_out: fraction of each source that is held out, for the kinds without validation sources of their own.
        samples: number of samples of each kind that a validation reads, or all if there are fewer; captions are then
            repeated with other masks.
        captions, dialogues, texts, edits: sources of held-out samples.

    Raises:
        InputError: if a number is out of its range.
    """

    held_out: float = 0.1
    samples: int = 64
    captions: list[SourceConfig] = field(default_factory=list)
    dialogues: list[SourceConfig] = field(default_factory=list)
    texts: list[SourceConfig] = field(default_factory=list)
    edits: list[SourceConfig] = field(default_factory=list)

    def __post_init__(self) -> None:
        check_integer("validation.samples", self.samples, 1, _MAX_BATCH)
        if not 0 < self.held_out < 1:
            raise InputError(f"validation.held_out is {self.held_out}: choose more than 0 and less than 1")


@dataclass(frozen=True)
class FinetuningConfig(SampleSourcesConfig):
    """Configure a fine-tuning. The loss has a term for each kind of sources that is given.

    Attributes:
        model: shipped model, folder or hub name; `tiny` if it is left out, and there is no architecture.
        output: folder of the run.
        captions, dialogues, texts, num_workers: see `SampleSourcesConfig`. Captions need images.
        edits: sources of editing pairs, likewise.
        captions_batch_size, dialogues_batch_size, texts_batch_size, edits_batch_size: samples in a batch of a process.
        captions_weight, dialogues_weight, texts_weight, edits_weight: weights of the terms in the total loss.
        condition_dropout: fraction of the captions replaced by the empty prompt, and of the sources and instructions
            of edits, which guidance needs.
        known_share: fraction of the captions' images of which only a part is to be predicted, as in inpainting,
            extrapolation and variation; the masks of the others may fall anywhere.
        max_text_length: maximum number of ids of a plain text; longer texts are truncated.
        lora: adapters in place of all weights.
        optimizer: the optimizer.
        loop: the training loop; its `output` is set from `output`.
        validation: held-out samples, if `loop.validation_steps` is set.
        sheet_prompts: prompts of the sample sheets; the first captions, held-out ones if there are some, if left out.
        gradient_checkpointing: trade time for memory.
        seed: overrides `loop.seed`.
        image_tokenizer, text_tokenizer, vision_tower: for a model without its own, see
            `ShowoPipeline.from_pretrained`.
        architecture: sizes of a model that starts from random weights, in place of `model`; with `image_tokenizer` and
            `text_tokenizer`, each a shipped model, a folder or a hub name.

    Raises:
        InputError: if there are no sources, a number is out of its range, or settings contradict each other.
    """

    model: str | None = None
    output: str = "runs/finetuned"
    edits: list[SourceConfig] = field(default_factory=list)
    captions_batch_size: int = 16
    dialogues_batch_size: int = 8
    texts_batch_size: int = 8
    edits_batch_size: int = 16
    captions_weight: float = 1.0
    dialogues_weight: float = 0.5
    texts_weight: float = 0.1
    edits_weight: float = 1.0
    condition_dropout: float = 0.1
    known_share: float = 0.0
    max_text_length: int = 512
    lora: LoraConfig = field(default_factory=LoraConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    sheet_prompts: list[str] = field(default_factory=list)
    gradient_checkpointing: bool = False
    seed: int | None = None
    image_tokenizer: str | None = None
    text_tokenizer: str | None = None
    vision_tower: str | None = None
    architecture: ArchitectureConfig | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.architecture is not None:
            self._check_architecture()
        check_integer("max_text_length", self.max_text_length, 1, _MAX_BATCH)
        for kind in KINDS.values():
            check_integer(f"{kind}_batch_size", getattr(self, f"{kind}_batch_size"), 1, _MAX_BATCH)
            check_number(f"{kind}_weight", getattr(self, f"{kind}_weight"), 0, _MAX_WEIGHT)
        check_fraction("condition_dropout", self.condition_dropout)
        check_fraction("known_share", self.known_share)
        if self.seed is not None:
            check_seed("seed", self.seed)
        if not self.kinds:
            raise InputError("there is nothing to learn: give captions, dialogues, texts or edits, each with a weight")
        for kind in KINDS.values():
            if getattr(self.validation, kind) and not (self.loop.validation_steps and kind in self.kinds):
                raise InputError(
                    f"validation.{kind} are given, but are not used: set loop.validation_steps, and give {kind} to "
                    "train on"
                )

    def _check_architecture(self) -> None:
        """Raise `InputError` if a setting is given that a model from random weights has no use for."""
        if self.model is not None:
            raise InputError(f"model is {self.model!r}, and architecture is given as well: leave one of them out")
        if self.lora.rank:
            raise InputError(
                f"lora.rank is {self.lora.rank}, but architecture starts from random weights: leave lora out, or give "
                "model in place of architecture"
            )
        if self.vision_tower is not None:
            raise InputError("vision_tower is given, but architecture reads images as codes: leave it out")

    @property
    def base(self) -> str:
        """Name of the checkpoint that the run starts from, if there is no architecture."""
        return self.model or "tiny"

    @property
    def kinds(self) -> list[str]:
        """Kinds of sources that the loss uses."""
        return [kind for kind in KINDS.values() if getattr(self, kind) and getattr(self, f"{kind}_weight")]
