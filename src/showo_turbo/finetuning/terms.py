"""Terms of a fine-tuning's loss, each from the samples of one kind.

captions    image -> codes, some masked     cross entropy of the masked codes (Show-o, arXiv 2408.12528, eq. 3)
dialogues   image -> codes                  cross entropy of the next token of answers (eq. 2)
texts                                       cross entropy of the next token
"""

import random
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from showo_turbo.data import CaptionSample, DialogueSample, Sample, TextSample
from showo_turbo.errors import InputError
from showo_turbo.finetuning.finetuning_config import FinetuningConfig
from showo_turbo.finetuning.loaders import Loaders
from showo_turbo.pipelines.pipeline import ShowoPipeline
from showo_turbo.training.supervised_batches import (
    SupervisedBatch,
    dialogue_batch,
    random_masking,
    text_batch,
    text_to_image_batch,
)
from showo_turbo.training.supervised_task import NamedBatch, Term


class Terms:
    """Build the terms of a loss."""

    def __init__(self, config: FinetuningConfig, pipe: ShowoPipeline) -> None:
        """Set weights, and the components that encode samples."""
        self.config, self.pipe = config, pipe

    def build(self, kind: str, loaders: Loaders) -> Term:
        """Return the term of a kind of samples: "captions", "dialogues" or "texts"."""
        build: Callable[[Any, int, bool], SupervisedBatch] = getattr(self, kind)
        held_out = loaders.held_out

        def batch(samples: Sequence[Sample], number: int, training: bool) -> NamedBatch:
            return NamedBatch(build(samples, number, training), [sample.key for sample in samples])

        return Term(
            weight=getattr(self.config, f"{kind}_weight"),
            batch=lambda number: batch(loaders.training.batch(number), number, True),
            predicts_codes=kind == "captions",
            held_out=None if held_out is None else lambda number: batch(held_out.batch(number), number, False),
            num_held_out=loaders.num_held_out,
        )

    def captions(self, samples: Sequence[CaptionSample], number: int, training: bool) -> SupervisedBatch:
        """Mask codes of the images by the cosine schedule; in training, drop some of the captions."""
        for sample in samples:
            if sample.image is None:
                raise InputError(f"{sample.key} has no image: choose captions with images")
        rng = random.Random(f"{self.config.loop.seed}/masks/{number}")
        fraction = self.config.condition_dropout if training else 0.0
        texts = ["" if rng.random() < fraction else sample.text for sample in samples]
        codes = self._codes(samples)
        masked = random_masking(len(codes), codes.shape[1], torch.Generator().manual_seed(rng.getrandbits(48)))
        return text_to_image_batch(self.pipe.prompts, texts, codes, masked)

    def dialogues(self, samples: Sequence[DialogueSample], number: int, training: bool) -> SupervisedBatch:
        """Build rows of dialogues."""
        del number, training
        return dialogue_batch(self.pipe.prompts, samples, self._codes(samples).tolist())

    def texts(self, samples: Sequence[TextSample], number: int, training: bool) -> SupervisedBatch:
        """Build rows of plain texts."""
        del number, training
        return text_batch(self.pipe.prompts, [sample.text for sample in samples], self.config.max_text_length)

    def _codes(self, samples: Sequence[CaptionSample] | Sequence[DialogueSample]) -> Tensor:
        """Return the codes of the samples' images, long (batch, n), on the CPU."""
        rows = [
            sample.image if isinstance(sample.image, Tensor) else self.pipe.encode_image(sample.image)[0].cpu()  # type: ignore[arg-type]
            for sample in samples
        ]
        return torch.stack(rows)
