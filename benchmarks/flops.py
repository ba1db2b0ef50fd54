"""The floating point operations of every step, counted, beside the least that the mathematics allows.

    python benchmarks/flops.py [--output FILE]

The model of the published sizes is on torch's meta device, without weights, so this takes seconds. torch's counter
counts the operations of matrix products, attention included, as the library runs its steps. Beside them: the least,
`least_forward_flops` (derived in docs/lab/speed.md), and those of the published code, which pads every prompt to 129
tokens, has no KV cache, and computes logits of all ids at all positions.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated
from unittest.mock import patch

import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import PhiConfig

from full_size import PHI_1_5
from measuring import flop_counter
from showo_turbo.configuration import ShowoConfig
from showo_turbo.generation.image_denoiser import ImageDenoiser, partly_known_state
from showo_turbo.generation.kv_cache import allocate_kv_buffer
from showo_turbo.generation.scheduler import UnmaskingScheduler
from showo_turbo.models.flops import Sizes, least_forward_flops
from showo_turbo.models.showo import Showo
from showo_turbo.vocabulary import Vocabulary

PROMPT_TOKENS = 16
PADDED_PROMPT = 129
UNCONDITIONAL_TOKENS = 3


def least_image_flops(
    sizes: Sizes, prompts: Sequence[int], copies: int, masked: Sequence[int], num_codes: int, guided: bool
) -> int:
    """Return the least operations of images, from fully masked ones.

    Args:
        sizes: of the model.
        prompts: number of tokens of each prompt.
        copies: images per prompt.
        masked: number of masked codes of an image before each step, all of them before the first.
        num_codes: codes of an image.
        guided: with guidance; unconditional logits of the first step are a constant.
    """
    image = num_codes + 2
    total = 0
    for length in prompts:
        columns = length + image
        attended = length * (length + 1) // 2 + image * columns
        total += least_forward_flops(sizes, length + image, attended, masked[0], masked[0] * columns)
        for scored in masked[1:]:
            contexts = [columns, UNCONDITIONAL_TOKENS + image] if guided else [columns]
            total += copies * sum(
                least_forward_flops(sizes, image, image * context, scored, scored * context) for context in contexts
            )
    return total


def published_forward_flops(sizes: Sizes, length: int, vocabulary: int) -> int:
    """Return the operations of a published forward pass: every row in every layer, every id at every position."""
    whole = Sizes(sizes.layers, sizes.hidden, sizes.mlp, vocabulary)
    return least_forward_flops(whole, length, length**2, length, length**2)


def published_image_flops(
    sizes: Sizes, num_prompts: int, copies: int, steps: int, num_codes: int, guided: bool, vocabulary: int
) -> int:
    """Return the operations of the published image loop."""
    length = PADDED_PROMPT + num_codes + 2
    return num_prompts * copies * (1 + guided) * steps * published_forward_flops(sizes, length, vocabulary)


def least_answer_flops(sizes: Sizes, image: int, question: int, passes: Sequence[tuple[int, int]]) -> int:
    """Return the least operations of an answer.

    Args:
        sizes: of the model.
        image: rows of the image and its borders, which attend to each other.
        question: rows between image and answer.
        passes: for each forward pass, the number of settled ids of the answer before it, and the end of its guesses.
    """
    prompt, total = image + question, 0
    for settled, end in passes:
        cached = prompt + settled - 1 if settled else image  # the first pass includes the image itself
        attended = range(cached + 1, prompt + end)
        scored = range(prompt + settled, prompt + end)
        prefix = 0 if settled else image
        total += least_forward_flops(sizes, prefix + len(attended), prefix**2 + sum(attended), len(scored), sum(scored))
    return total


def published_answer_flops(sizes: Sizes, prompt: int, ends: Sequence[int], vocabulary: int) -> int:
    """Return the operations of the published text loop: passes over prompt, answer and guesses up to each end."""
    return sum(published_forward_flops(sizes, prompt + end, vocabulary) for end in ends)


def count_image_flops(denoiser: ImageDenoiser, masked: Sequence[int], vocabulary: Vocabulary) -> int:
    """Return the operations that torch counts while a denoiser computes logits of states with these masked counts."""
    batch, num_codes = len(denoiser.prompt_of_image), denoiser.num_codes
    total = 0
    for step, count in enumerate(masked):
        ranks = torch.rand(batch, num_codes, generator=torch.Generator().manual_seed(step)).argsort(1).argsort(1)
        codes = torch.randint(vocabulary.codebook_size, (batch, num_codes))
        state = partly_known_state(codes, ranks >= count, vocabulary)
        with sdpa_kernel(SDPBackend.MATH), flop_counter() as counter:
            denoiser.masked_logits(state)
        total += counter.get_total_flops()
    return total


def full_size_model(num_codes: int) -> tuple[Showo, Vocabulary]:
    """Build a model of the published sizes on the meta device."""
    config = ShowoConfig(num_vq_tokens=num_codes)
    phi = PhiConfig.from_dict(PHI_1_5 | {"vocab_size": config.vocab_size, "qk_layernorm": True})
    with torch.device("meta"):
        model = Showo(config, phi).eval()
    return model, Vocabulary(config.llm_vocab_size, config.codebook_size, end_of_text_id=50256)


@dataclass(frozen=True)
class FlopCount:
    """Hold the teraflops of one setting."""

    resolution: int
    steps: int
    guided: bool
    images_per_prompt: int
    published: float
    counted: float
    least: float


def count(resolution: int, steps: int, guided: bool, copies: int) -> FlopCount:
    """Count the operations of the images of one prompt at full size."""
    num_codes = (resolution // 16) ** 2
    model, vocabulary = full_size_model(num_codes)
    scheduler = UnmaskingScheduler(vocabulary.codebook_size)
    scheduler.set_timesteps(steps, num_codes)
    masked = [num_codes, *scheduler.mask_counts[:-1]]
    prompt = list(range(PROMPT_TOKENS))
    unconditional = [1] * UNCONDITIONAL_TOKENS
    prompts, scale = [prompt] * copies, float(guided)
    denoiser = ImageDenoiser(model, vocabulary, scheduler, prompts, num_codes, unconditional, scale)
    prefix = allocate_kv_buffer(model, model, 1, UNCONDITIONAL_TOKENS)[:, :, 0]

    def masked_logits(_: ImageDenoiser) -> Tensor:
        return torch.empty(num_codes, vocabulary.codebook_size, device="meta")

    with (
        patch.object(ImageDenoiser, "_unconditional_prefix", lambda _: prefix),
        patch.object(ImageDenoiser, "_unconditional_masked_logits", masked_logits),
    ):
        counted = count_image_flops(denoiser, masked, vocabulary)
    sizes = Sizes.of(model, vocabulary.codebook_size)
    least = least_image_flops(sizes, [PROMPT_TOKENS], copies, masked, num_codes, guided)
    published = published_image_flops(sizes, 1, copies, steps, num_codes, guided, vocabulary.size)
    return FlopCount(resolution, steps, guided, copies, *(flops / 1e12 for flops in (published, counted, least)))


def main(output: Annotated[Path | None, typer.Option(help="JSON file to write.")] = None) -> None:
    """Count and print."""
    settings = [(r, t, g, c) for r in (256, 512) for t, g in ((2, False), (4, False), (16, True)) for c in (1, 4)]
    counts = [count(*setting) for setting in settings]
    table = Table(title="TFLOP of one prompt's images")
    for name in ("pixels", "steps", "guidance", "images", "published", "counted", "least", "above least", "saved"):
        table.add_column(name, justify="right")
    for one in counts:
        setting = (str(one.resolution), str(one.steps), "yes" if one.guided else "no", str(one.images_per_prompt))
        teraflops = (f"{one.published:.2f}", f"{one.counted:.2f}", f"{one.least:.2f}")
        table.add_row(
            *setting, *teraflops, f"{one.counted / one.least - 1:.1%}", f"{one.published / one.counted:.2f} x"
        )
    Console().print(table)
    if output is not None:
        output.write_text(json.dumps([asdict(one) for one in counts], indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
