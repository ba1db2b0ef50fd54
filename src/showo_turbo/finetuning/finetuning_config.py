"""Configuration of a fine-tuning."""

from dataclasses import dataclass, field

from showo_turbo.errors import InputError
from showo_turbo.training.adapters import LoraConfig
from showo_turbo.training.loop import LoopConfig
from showo_turbo.training.optimizers import OptimizerConfig
from showo_turbo.training.sample_sources import SampleSourcesConfig
from showo_turbo.validation import check_fraction, check_integer, check_number, check_seed

_MAX_BATCH = 1 << 16
_MAX_WEIGHT = 1e6


@dataclass(frozen=True)
class FinetuningConfig(SampleSourcesConfig):
    """Configure a fine-tuning. The loss has a term for each kind of sources that is given.

    Attributes:
        model: shipped model, folder or hub name.
        output: folder of the run.
        captions, dialogues, texts, num_workers: see `SampleSourcesConfig`. Captions need images.
        captions_batch_size, dialogues_batch_size, texts_batch_size: samples in a batch of a process.
        captions_weight, dialogues_weight, texts_weight: weights of the terms in the total loss.
        condition_dropout: fraction of the captions replaced by the empty prompt, which guidance needs.
        max_text_length: maximum number of ids of a plain text; longer texts are truncated.
        lora: adapters in place of all weights.
        optimizer: the optimizer.
        loop: the training loop; its `output` is set from `output`.
        gradient_checkpointing: trade time for memory.
        seed: overrides `loop.seed`.
        image_tokenizer, text_tokenizer: for a model without its own, see `ShowoPipeline.from_pretrained`.

    Raises:
        InputError: if there are no sources, or a number is out of its range.
    """

    model: str = "tiny"
    output: str = "runs/finetuned"
    captions_batch_size: int = 16
    dialogues_batch_size: int = 8
    texts_batch_size: int = 8
    captions_weight: float = 1.0
    dialogues_weight: float = 0.5
    texts_weight: float = 0.1
    condition_dropout: float = 0.1
    max_text_length: int = 512
    lora: LoraConfig = field(default_factory=LoraConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)
    gradient_checkpointing: bool = False
    seed: int | None = None
    image_tokenizer: str | None = None
    text_tokenizer: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("captions_batch_size", "dialogues_batch_size", "texts_batch_size", "max_text_length"):
            check_integer(name, getattr(self, name), 1, _MAX_BATCH)
        for name in ("captions_weight", "dialogues_weight", "texts_weight"):
            check_number(name, getattr(self, name), 0, _MAX_WEIGHT)
        check_fraction("condition_dropout", self.condition_dropout)
        if self.seed is not None:
            check_seed("seed", self.seed)
        if not self.kinds:
            raise InputError("there is nothing to learn: give captions, dialogues or texts, each with a weight")

    @property
    def kinds(self) -> list[str]:
        """Kinds of sources that the loss uses."""
        kinds = ("captions", "dialogues", "texts")
        return [kind for kind in kinds if getattr(self, kind) and getattr(self, f"{kind}_weight")]
