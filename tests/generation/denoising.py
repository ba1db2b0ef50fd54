"""Denoisers of random models, and the logits of a plain forward pass to compare theirs with."""

import torch
from torch import Tensor

from showo_turbo.generation.image_denoiser import ImageDenoiser
from showo_turbo.generation.scheduler import UnmaskingScheduler
from showo_turbo.models.omni_attention import text_to_image_mask
from showo_turbo.models.showo import Showo
from showo_turbo.processing.prompts import left_pad
from showo_turbo.vocabulary import Vocabulary

NUM_CODES = 16


def prompt_of(text: list[int], vocabulary: Vocabulary) -> list[int]:
    return [vocabulary.t2i_id, vocabulary.end_of_text_id, *text, vocabulary.end_of_text_id]


def make_denoiser(
    model: Showo,
    vocabulary: Vocabulary,
    rows: list[list[int]],
    steps: int = 4,
    early_exit: float | None = None,
    **options: object,
) -> ImageDenoiser:
    scheduler = UnmaskingScheduler(vocabulary.codebook_size, early_exit=early_exit)
    scheduler.set_timesteps(steps, NUM_CODES)
    prompts = [prompt_of(text, vocabulary) for text in rows]
    return ImageDenoiser(model, vocabulary, scheduler, prompts, NUM_CODES, prompt_of([], vocabulary), **options)


def seeded(*numbers: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(number) for number in numbers]


def uncached_logits(
    model: Showo,
    vocabulary: Vocabulary,
    texts: list[list[int]],
    image_ids: Tensor,
    openings: tuple[int, ...] | None = None,
) -> Tensor:
    prompts = [prompt_of(text, vocabulary) for text in texts]
    rows = [
        [*prompt, vocabulary.soi_id, *image, vocabulary.eoi_id]
        for prompt, image in zip(prompts, image_ids.tolist(), strict=True)
    ]
    ids = left_pad(rows, vocabulary.pad_id).ids
    mask = text_to_image_mask(ids, vocabulary)
    if openings is not None:
        ids[:, -NUM_CODES - 2] = torch.tensor(openings)
    with torch.no_grad():
        logits = model.logits(model(ids, mask))
    return logits[:, -NUM_CODES - 1 : -1, vocabulary.image_offset : vocabulary.mask_id]
