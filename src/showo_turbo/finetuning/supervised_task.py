"""Supervised training as a task of the training loop: masked codes of captions, next tokens of answers and texts.

captions    image -> codes, some masked     cross entropy of the masked codes (Show-o, arXiv 2408.12528, eq. 3)
dialogues   image -> codes                  cross entropy of the next token of answers (eq. 2)
texts                                       cross entropy of the next token
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from showo_turbo.data import CaptionSample, DialogueSample, Sample, SampleLoader, TextSample
from showo_turbo.errors import InputError
from showo_turbo.finetuning.finetuning_config import FinetuningConfig
from showo_turbo.models.showo import Showo
from showo_turbo.pipelines.pipeline import ShowoPipeline
from showo_turbo.training.adapters import merge_adapters, save_adapter
from showo_turbo.training.export import export_pipeline
from showo_turbo.training.optimizers import build_optimizers
from showo_turbo.training.supervised_batches import (
    SupervisedBatch,
    dialogue_batch,
    random_masking,
    supervised_loss,
    text_batch,
    text_to_image_batch,
)
from showo_turbo.training.task import StepLosses, Task

_SHEET_PROMPTS = 8


@dataclass(frozen=True)
class MixedBatch:
    """Hold a batch of each kind of samples that the loss uses, and the names of the samples."""

    batches: dict[str, SupervisedBatch]
    names: list[str]


class SupervisedTask(Task[Showo, MixedBatch]):
    """Train a model on samples."""

    can_be_sharded = True

    def __init__(
        self,
        config: FinetuningConfig,
        pipe: ShowoPipeline,
        captions: SampleLoader[CaptionSample] | None,
        dialogues: SampleLoader[DialogueSample] | None,
        texts: SampleLoader[TextSample] | None,
    ) -> None:
        """Set model and data.

        Args:
            config: the configuration.
            pipe: its model is trained, see `adapters.prepare_model`.
            captions: captioned images; None if the loss does not use them.
            dialogues: likewise.
            texts: likewise.
        """
        self.config, self.pipe, self.model = config, pipe, pipe.model
        self.captions, self.dialogues, self.texts = captions, dialogues, texts
        self.sheet_prompts: list[str] = []

    def optimizers(self) -> list[Optimizer]:
        """Build the configured optimizers."""
        return build_optimizers(self.model, self.config.optimizer)

    def batch(self, number: int) -> MixedBatch:
        """Return a batch of each kind that the loss uses."""
        batches: dict[str, SupervisedBatch] = {}
        samples: list[Sample] = []
        if self.captions is not None:
            captions = self.captions.batch(number)
            batches["captions"] = self._captions(captions, number)
            samples += captions
        if self.dialogues is not None:
            dialogues = self.dialogues.batch(number)
            batches["dialogues"] = dialogue_batch(self.pipe.prompts, dialogues, self._codes(dialogues).tolist())
            samples += dialogues
        if self.texts is not None:
            texts = self.texts.batch(number)
            rows = [sample.text for sample in texts]
            batches["texts"] = text_batch(self.pipe.prompts, rows, self.config.max_text_length)
            samples += texts
        on_device = {kind: batch.to(self.model.device) for kind, batch in batches.items()}
        return MixedBatch(on_device, [sample.key for sample in samples])

    def losses(self, ema_model: Showo, batch: MixedBatch) -> StepLosses:
        """Compute the weighted sum of the mean cross entropies of all kinds."""
        vocabulary, config = self.pipe.prompts.vocabulary, self.config
        codes = (vocabulary.image_offset, vocabulary.mask_id)
        parts: dict[str, Tensor | float] = {
            kind: supervised_loss(self.model, one, *(codes if kind == "captions" else ()))
            for kind, one in batch.batches.items()
        }
        weighted = (getattr(config, f"{kind}_weight") * part for kind, part in parts.items())
        return StepLosses(sum(weighted, torch.zeros((), device=self.model.device)), parts, len(batch.names))

    def sample_names(self, batch: MixedBatch) -> list[str]:
        """Return the keys of the samples of a batch."""
        return batch.names

    def state_dict(self) -> dict[str, Any]:
        """Return the prompts of the sample sheet."""
        return {"sheet_prompts": self.sheet_prompts}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state."""
        self.sheet_prompts = state["sheet_prompts"]

    def export(self, model: Showo, folder: Path) -> None:
        """Write a checkpoint with float16 weights, the adapter if there is one, a sample sheet and the loss curves."""
        if self.config.lora.rank:
            save_adapter(folder / "adapter", model, self.config.lora, self.config.model)
        # The description of the base's small world is not that of the model any more.
        pipe = replace(self.pipe, model=merge_adapters(model), known_world=None)
        export_pipeline(folder, pipe, self.sheet_prompts)

    def _captions(self, samples: Sequence[CaptionSample], number: int) -> SupervisedBatch:
        """Mask codes of the images by the cosine schedule, and drop some of the captions."""
        for sample in samples:
            if sample.image is None:
                raise InputError(f"{sample.key} has no image: choose captions with images")
        texts = [sample.text for sample in samples]
        self.sheet_prompts = self.sheet_prompts or texts[:_SHEET_PROMPTS]
        rng = random.Random(f"{self.config.loop.seed}/masks/{number}")
        texts = ["" if rng.random() < self.config.condition_dropout else text for text in texts]
        codes = self._codes(samples)
        masked = random_masking(len(codes), codes.shape[1], torch.Generator().manual_seed(rng.getrandbits(48)))
        return text_to_image_batch(self.pipe.prompts, texts, codes, masked)

    def _codes(self, samples: Sequence[CaptionSample] | Sequence[DialogueSample]) -> Tensor:
        """Return the codes of the samples' images, long (batch, n), on the CPU."""
        rows = [
            sample.image if isinstance(sample.image, Tensor) else self.pipe.encode_image(sample.image)[0].cpu()  # type: ignore[arg-type]
            for sample in samples
        ]
        return torch.stack(rows)
