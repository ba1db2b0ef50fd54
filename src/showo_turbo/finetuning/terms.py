"""Terms of a fine-tuning's loss, each from the samples of one kind.

captions    image -> codes, some masked     cross entropy of the masked codes (Show-o, arXiv 2408.12528, eq. 3)
dialogues   image -> codes, or features     cross entropy of the next token of answers (eq. 2)
texts                                       cross entropy of the next token
edits       target -> codes, some masked    cross entropy of the masked codes, after source and instruction
"""

import random
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from PIL.Image import Image
from torch import Tensor

from showo_turbo.data import CaptionSample, DialogueSample, EditSample, ImageOrCodes, Sample, TextSample
from showo_turbo.errors import InputError
from showo_turbo.finetuning.finetuning_config import FinetuningConfig
from showo_turbo.finetuning.loaders import Loaders
from showo_turbo.generation.scheduler import draw_latents
from showo_turbo.pipelines.pipeline import ShowoPipeline
from showo_turbo.processing.redrawn_parts import draw_redrawn_parts
from showo_turbo.training.supervised_batches import (
    SupervisedBatch,
    dialogue_batch,
    editing_batch,
    open_with_latents,
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
        """Return the term of a kind of samples: "captions", "dialogues", "texts" or "edits"."""
        build: Callable[[Any, int, bool], SupervisedBatch] = getattr(self, kind)
        held_out = loaders.held_out

        def batch(samples: Sequence[Sample], number: int, training: bool) -> NamedBatch:
            return NamedBatch(build(samples, number, training), [sample.key for sample in samples])

        return Term(
            weight=getattr(self.config, f"{kind}_weight"),
            batch=lambda number: batch(loaders.training.batch(number), number, True),
            predicts_codes=kind in ("captions", "edits"),
            held_out=None if held_out is None else lambda number: batch(held_out.batch(number), number, False),
            num_held_out=loaders.num_held_out,
        )

    def captions(self, samples: Sequence[CaptionSample], number: int, training: bool) -> SupervisedBatch:
        """Mask codes of the images by the cosine schedule; in training, drop some of the captions."""
        for sample in samples:
            if sample.image is None:
                raise InputError(f"{sample.key} has no image: choose captions with images")
        codes = self._codes([sample.image for sample in samples])
        dropped, masked, latents = self._noise(codes, number, training, self.config.known_share)
        texts = ["" if drop else sample.text for sample, drop in zip(samples, dropped, strict=True)]
        batch = text_to_image_batch(self.pipe.prompts, texts, codes, masked)
        return open_with_latents(batch, latents, codes.shape[1], self.pipe.prompts.vocabulary)

    def edits(self, samples: Sequence[EditSample], number: int, training: bool) -> SupervisedBatch:
        """Mask codes of the targets by the cosine schedule; in training, drop some sources with their instructions."""
        sources, targets = (self._codes([getattr(one, name) for one in samples]) for name in ("source", "target"))
        dropped, masked, latents = self._noise(targets, number, training)
        instructions = [None if drop else one.instruction for one, drop in zip(samples, dropped, strict=True)]
        batch = editing_batch(self.pipe.prompts, instructions, sources, targets, masked)
        return open_with_latents(batch, latents, targets.shape[1], self.pipe.prompts.vocabulary)

    @torch.no_grad()
    def dialogues(self, samples: Sequence[DialogueSample], number: int, training: bool) -> SupervisedBatch:
        """Build rows of dialogues about images, which are read as codes or as CLIP features."""
        del number, training
        images = [sample.image for sample in samples]
        if not self.pipe.model.config.w_clip_vit:
            return dialogue_batch(self.pipe.prompts, samples, self._codes(images).tolist())
        tower = self.pipe.require_vision_tower()
        features = tower(tower.preprocess(cast("list[Image]", images)))  # `SampleSources` leaves codes out
        indices = torch.arange(features.shape[:2].numel()).reshape(features.shape[:2])
        return dialogue_batch(self.pipe.prompts, samples, indices.tolist(), features)

    def texts(self, samples: Sequence[TextSample], number: int, training: bool) -> SupervisedBatch:
        """Build rows of plain texts."""
        del number, training
        return text_batch(self.pipe.prompts, [sample.text for sample in samples], self.config.max_text_length)

    def _noise(
        self, codes: Tensor, number: int, training: bool, known_share: float = 0.0
    ) -> tuple[list[bool], Tensor, list[int]]:
        """Return the conditions of a batch to drop, its codes to mask, bool (batch, n), and its latents."""
        rng = random.Random(f"{self.config.loop.seed}/masks/{number}")
        fraction = self.config.condition_dropout if training else 0.0
        dropped = [rng.random() < fraction for _ in codes]
        generator = torch.Generator().manual_seed(rng.getrandbits(48))
        parts = draw_redrawn_parts(len(codes), self.pipe.grid_size, known_share if training else 0.0, rng)
        masked = random_masking(parts, generator)
        return dropped, masked, draw_latents(self.pipe.model.config.num_latents, len(codes), generator)

    def _codes(self, images: Sequence[ImageOrCodes | None]) -> Tensor:
        """Return the codes of images, long (batch, n), on the CPU."""
        rows = [
            image if isinstance(image, Tensor) else self.pipe.encode_image(image)[0].cpu()  # type: ignore[arg-type]
            for image in images
        ]
        return torch.stack(rows)
