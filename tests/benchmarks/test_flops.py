"""The counted operations are the least possible ones within 5 %; counted by torch on a small model."""

from collections.abc import Callable

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

import flops
from measuring import flop_counter
from showo_turbo.generation.image_denoiser import ImageDenoiser
from showo_turbo.generation.scheduler import UnmaskingScheduler
from showo_turbo.generation.text_decoder import TextDecoder
from showo_turbo.models.showo import Showo
from showo_turbo.vocabulary import Vocabulary

NUM_CODES = 64


@pytest.mark.parametrize("guidance", [0.0, 2.0])
@pytest.mark.parametrize(("prompts", "copies", "steps"), [([16], 1, 2), ([16], 4, 2), ([5, 16, 9], 2, 4)])
def test_image_flops(
    tiny_model: Showo, tiny_vocabulary: Vocabulary, guidance: float, prompts: list[int], copies: int, steps: int
) -> None:
    scheduler = UnmaskingScheduler(tiny_vocabulary.codebook_size)
    scheduler.set_timesteps(steps, NUM_CODES)
    masked = [NUM_CODES, *scheduler.mask_counts[:-1]]
    rows = [[number] * length for number, length in enumerate(prompts) for _ in range(copies)]
    unconditional = [tiny_vocabulary.end_of_text_id] * 3
    for _ in range(2):  # the first one caches the constants of the model
        denoiser = ImageDenoiser(tiny_model, tiny_vocabulary, scheduler, rows, NUM_CODES, unconditional, guidance)
        counted = flops.count_image_flops(denoiser, masked, tiny_vocabulary)
    sizes = flops.Sizes.of(tiny_model, tiny_vocabulary.codebook_size)
    least = flops.least_image_flops(sizes, prompts, copies, masked, NUM_CODES, guidance > 0)
    assert least <= counted <= 1.05 * least


def test_answer_flops(make_random_model: Callable[[int], Showo], random_vocabulary: Vocabulary) -> None:
    """Image and question in the first pass, then the unsettled part of the block."""
    model, vocabulary = make_random_model(0), random_vocabulary
    image = [vocabulary.mmu_id, vocabulary.soi_id, *[vocabulary.image_offset] * 16, vocabulary.eoi_id]
    prompt = [*image, 1, 2, 3]
    decoder = TextDecoder(model, vocabulary, [prompt], 16, 8)
    sizes = flops.Sizes.of(model, vocabulary.size)
    state = decoder.start(torch.zeros(1, 16, dtype=torch.long))
    while not state.done:
        one = decoder.block(state)
        with sdpa_kernel(SDPBackend.MATH), flop_counter() as counter:
            state = decoder.advance(state)
        least = flops.least_answer_flops(sizes, len(image), len(prompt) - len(image), [one])
        assert least <= counter.get_total_flops() <= 1.05 * least


def test_full_size_flops() -> None:
    """The savings at full size in the settings of arXiv 2502.05415, on the meta device."""
    found = flops.count(256, 2, False, 4)
    assert found.counted <= 1.05 * found.least
    assert found.published / found.counted > 2.6
