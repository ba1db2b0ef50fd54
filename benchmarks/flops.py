"""The work of every step, counted, beside the least that the mathematics allows. No weights, no time: seconds to run.

    python benchmarks/flops.py [--output FILE]

The model of the published sizes has shapes but no numbers (torch's meta device); torch's own counter counts the
floating point operations of matrix products, attention included, as the library runs its steps. Beside them: the least,
`least_work` (derived in docs/lab/speed.md), and what the published code takes, which pads every prompt to 129 tokens, keeps
nothing, and scores all ids at all positions.
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
from measuring import operation_counter
from showo_turbo.configuration import ShowoConfig
from showo_turbo.generation import image_denoiser as image_loop
from showo_turbo.generation.image_denoiser import ImageDenoiser, partly_known_state
from showo_turbo.generation.kv_cache import room_for_key_values
from showo_turbo.generation.scheduler import UnmaskingScheduler
from showo_turbo.models.showo import Showo
from showo_turbo.vocabulary import Vocabulary

PROMPT_TOKENS = 16
PADDED_PROMPT = 129
UNCONDITIONAL_TOKENS = 3


@dataclass(frozen=True)
class Sizes:
    """What the work depends on: layers, width, width of the MLP, and ids that are scored."""

    layers: int
    hidden: int
    mlp: int
    scored: int

    @classmethod
    def of(cls, model: Showo, scored: int) -> "Sizes":
        """Those of a model."""
        config = model.showo.config
        return cls(config.num_hidden_layers, config.hidden_size, config.intermediate_size, scored)


def least_work(sizes: Sizes, rows: int, seen: int, asked: int, asked_seen: int) -> int:
    """Floating point operations of a pass that computes nothing it need not; see docs/lab/speed.md.

    Args:
        sizes: of the model.
        rows: positions computed.
        seen: positions that all of them look at, added up.
        asked: rows whose scores are wanted.
        asked_seen: positions that these look at, added up.
    """
    hidden, mlp = sizes.hidden, sizes.mlp
    key_value, query_output, feed_forward, per_pair = 4 * hidden**2, 4 * hidden**2, 4 * hidden * mlp, 4 * hidden
    inner = rows * (key_value + query_output + feed_forward) + seen * per_pair
    last = rows * key_value + asked * (query_output + feed_forward) + asked_seen * per_pair
    return (sizes.layers - 1) * inner + last + asked * 2 * hidden * sizes.scored


def least_image_work(
    sizes: Sizes, prompts: Sequence[int], copies: int, masked: Sequence[int], num_codes: int, guided: bool
) -> int:
    """Operations of whole images: prompts of so many tokens, `copies` of each, from nothing known.

    Args:
        sizes: of the model.
        prompts: the tokens of each.
        copies: images per prompt.
        masked: how many codes of an image are masked before each step, all of them before the first.
        num_codes: of an image.
        guided: whether there is an unconditional image to each; the first one's scores are a constant.
    """
    image = num_codes + 2
    total = 0
    for length in prompts:
        columns = length + image
        seen = length * (length + 1) // 2 + image * columns
        total += least_work(sizes, length + image, seen, masked[0], masked[0] * columns)
        for left in masked[1:]:
            kinds = [columns, UNCONDITIONAL_TOKENS + image] if guided else [columns]
            total += copies * sum(least_work(sizes, image, image * one, left, left * one) for one in kinds)
    return total


def published_pass(sizes: Sizes, length: int, vocabulary: int) -> int:
    """Operations of a pass of the published code: every row in every layer, every id at every position."""
    whole = Sizes(sizes.layers, sizes.hidden, sizes.mlp, vocabulary)
    return least_work(whole, length, length**2, length, length**2)


def published_image_work(
    sizes: Sizes, num_prompts: int, copies: int, steps: int, num_codes: int, guided: bool, vocabulary: int
) -> int:
    """Operations of the published loop: every row in every layer of every step, every id at every position."""
    length = PADDED_PROMPT + num_codes + 2
    return num_prompts * copies * (1 + guided) * steps * published_pass(sizes, length, vocabulary)


def least_answer_work(sizes: Sizes, image: int, question: int, passes: Sequence[tuple[int, int]]) -> int:
    """Operations of an answer.

    Args:
        sizes: of the model.
        image: rows of the image and what is around it, which see each other.
        question: rows between image and answer.
        passes: of each, how many ids of the answer are settled before it, and where its guesses end.
    """
    prompt, total = image + question, 0
    for settled, end in passes:
        kept = prompt + settled - 1 if settled else image  # by the first pass the image itself is to be read
        seen = range(kept + 1, prompt + end)
        asked = range(prompt + settled, prompt + end)
        first = 0 if settled else image
        total += least_work(sizes, first + len(seen), first**2 + sum(seen), len(asked), sum(asked))
    return total


def published_answer_work(sizes: Sizes, prompt: int, ends: Sequence[int], vocabulary: int) -> int:
    """Operations of the published loop: passes over prompt, answer and guesses up to each end, all ids at all rows."""
    return sum(published_pass(sizes, prompt + end, vocabulary) for end in ends)


def counted_image_work(denoiser: ImageDenoiser, masked: Sequence[int], vocabulary: Vocabulary) -> int:
    """Operations that torch counts while a denoiser scores states with so many codes masked."""
    batch, num_codes = len(denoiser.owners), denoiser.num_codes
    total = 0
    for step, left in enumerate(masked):
        places = torch.rand(batch, num_codes, generator=torch.Generator().manual_seed(step)).argsort(1).argsort(1)
        codes = torch.randint(vocabulary.codebook_size, (batch, num_codes))
        state = partly_known_state(codes, places >= left, vocabulary)
        with sdpa_kernel(SDPBackend.MATH), operation_counter() as counter:
            denoiser.masked_logits(state)
        total += counter.get_total_flops()
    return total


def full_size_model(num_codes: int) -> tuple[Showo, Vocabulary]:
    """The published sizes without numbers."""
    config = ShowoConfig(num_vq_tokens=num_codes)
    phi = PhiConfig.from_dict(PHI_1_5 | {"vocab_size": config.vocab_size, "qk_layernorm": True})
    with torch.device("meta"):
        model = Showo(config, phi).eval()
    return model, Vocabulary(config.llm_vocab_size, config.codebook_size, end_of_text_id=50256)


@dataclass(frozen=True)
class Count:
    """Teraflops of one setting."""

    resolution: int
    steps: int
    guided: bool
    images_per_prompt: int
    published: float
    counted: float
    least: float


def count(resolution: int, steps: int, guided: bool, copies: int) -> Count:
    """The work of the images of one prompt at full size."""
    num_codes = (resolution // 16) ** 2
    model, vocabulary = full_size_model(num_codes)
    scheduler = UnmaskingScheduler(vocabulary.codebook_size)
    scheduler.set_timesteps(steps, num_codes)
    masked = [num_codes, *scheduler.mask_counts[:-1]]
    prompt = list(range(PROMPT_TOKENS))
    unconditional = [1] * UNCONDITIONAL_TOKENS
    prompts, scale = [prompt] * copies, float(guided)
    denoiser = ImageDenoiser(model, vocabulary, scheduler, prompts, num_codes, unconditional, scale)
    kept = room_for_key_values(model, model, 1, UNCONDITIONAL_TOKENS)[:, :, 0]

    def blank(*_: object) -> Tensor:
        return torch.empty(num_codes, vocabulary.codebook_size, device="meta")

    with (
        patch.object(image_loop, "unconditional_key_values", lambda *_: kept),
        patch.object(image_loop, "unconditional_blank_logits", blank),
    ):
        counted = counted_image_work(denoiser, masked, vocabulary)
    sizes = Sizes.of(model, vocabulary.codebook_size)
    least = least_image_work(sizes, [PROMPT_TOKENS], copies, masked, num_codes, guided)
    published = published_image_work(sizes, 1, copies, steps, num_codes, guided, vocabulary.size)
    return Count(resolution, steps, guided, copies, *(work / 1e12 for work in (published, counted, least)))


def main(output: Annotated[Path | None, typer.Option(help="JSON file to write.")] = None) -> None:
    """Count and print."""
    settings = [(r, t, g, c) for r in (256, 512) for t, g in ((2, False), (4, False), (16, True)) for c in (1, 4)]
    counts = [count(*setting) for setting in settings]
    table = Table(title="TFLOP of one prompt's images")
    for name in ("pixels", "steps", "guidance", "images", "published", "counted", "least", "above least", "saved"):
        table.add_column(name, justify="right")
    for one in counts:
        setting = (str(one.resolution), str(one.steps), "yes" if one.guided else "no", str(one.images_per_prompt))
        work = (f"{one.published:.2f}", f"{one.counted:.2f}", f"{one.least:.2f}")
        table.add_row(*setting, *work, f"{one.counted / one.least - 1:.1%}", f"{one.published / one.counted:.2f} x")
    Console().print(table)
    if output is not None:
        output.write_text(json.dumps([asdict(one) for one in counts], indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
