"""The forward passes of a batch: of the model that is trained, and of a teacher.

Assumed lengths: a prompt or question of 24 tokens; half of the longest answer before a block; 2 / pi of the codes
masked, the mean of the cosine schedule; 6 passes until a block of a teacher's answer settles.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import pi

from showo_turbo.configuration import BackboneConfig
from showo_turbo.distillation.config import Stage
from showo_turbo.finetuning.finetuning_config import FinetuningConfig
from showo_turbo.models.flops import Sizes, least_forward_flops

PROMPT_LENGTH = 24
PASSES_PER_BLOCK = 6
_BORDERS = 2  # of an image


@dataclass(frozen=True)
class ImageSizes:
    """Hold the number of codes of an image and of the codebook, and of all ids."""

    codes: int
    codebook: int
    vocabulary: int


@dataclass(frozen=True)
class Pass:
    """Describe equal forward passes, one after another.

    Attributes:
        rows: sequences in a pass.
        length: positions of each that are computed.
        context: positions of each that are attended to.
        scored: positions of each that have logits.
        ids: number of ids that have logits.
        count: number of passes.
        trained: whether a backward pass follows.
    """

    rows: int
    length: int
    context: int
    scored: int
    ids: int
    count: int = 1
    trained: bool = False

    def flops(self, config: BackboneConfig) -> float:
        """Return the operations of the forward passes."""
        sizes, rows = Sizes.from_config(config, self.ids), self.rows
        attended, scored = self.length * self.context, self.scored
        # The training computes all rows of the last layer, inference the scored ones only.
        scored_rows = self.length if self.trained else scored
        layers = least_forward_flops(
            Sizes(sizes.layers, sizes.hidden, sizes.mlp, 0),
            self.length,
            attended,
            scored_rows,
            scored_rows * self.context,
        )
        return float(self.count * rows * (layers + scored * 2 * sizes.hidden * sizes.scored_ids))


def stage_passes(stage: Stage, sizes: ImageSizes, batch: int) -> Iterator[Pass]:
    """Yield the passes of student, target and score for a batch that is `batch` times as large as configured."""
    image, text, language = stage.image, stage.text, stage.language
    masked, picture = round(sizes.codes * 2 / pi), PROMPT_LENGTH + sizes.codes + _BORDERS
    if image.weight:
        rows = batch * image.batch_size
        yield Pass(rows, picture, picture, masked, sizes.codebook, trained=True)
        if image.self_weight:
            yield Pass(rows, picture, picture, masked, sizes.codebook)
        if image.distribution_matching.weight:
            draws, teacher = round(image.distribution_matching.mean_steps), 2 if image.guidance_scale else 1
            yield Pass(rows, picture, picture, masked, sizes.codebook, count=draws + teacher)
            for _ in ("student", "score"):
                yield Pass(rows, picture, picture, masked, sizes.codebook, trained=True)
    if text.weight:
        rows, prompt = batch * text.batch_size, picture + text.max_new_tokens // 2
        length = prompt + 2 * (text.block_length - 1)
        yield Pass(rows, length, length, 2 * text.block_length, sizes.vocabulary, trained=True)
        if text.segments > 1:
            yield Pass(rows, prompt + text.block_length, length, text.block_length, sizes.vocabulary)
    if language.weight:
        length = language.max_length
        yield Pass(batch * language.batch_size, length, length, length, sizes.vocabulary, trained=True)


def teacher_passes(stage: Stage, sizes: ImageSizes, images: int, answers: int) -> Iterator[Pass]:
    """Yield the passes of the teacher for rollouts and answers that are generated at once."""
    image, text = stage.image, stage.text
    picture = PROMPT_LENGTH + sizes.codes + _BORDERS
    if image.weight and images:
        rows = round(images * image.teacher_sequences)
        masked, steps = round(sizes.codes * 2 / pi), image.num_inference_steps
        yield Pass(rows, sizes.codes + _BORDERS, picture, masked, sizes.codebook, count=steps)
    if text.weight and answers:
        yield Pass(answers, picture, picture, 1, sizes.vocabulary)
        blocks, block = text.max_new_tokens // text.block_length, text.block_length
        context = picture + text.max_new_tokens // 2
        yield Pass(answers, block, context, block, sizes.vocabulary, count=blocks * PASSES_PER_BLOCK)


def finetuning_passes(config: FinetuningConfig, sizes: ImageSizes, batch: int) -> Iterator[Pass]:
    """Yield the passes of a batch that is `batch` times as large as configured."""
    picture, masked = PROMPT_LENGTH + sizes.codes + _BORDERS, round(sizes.codes * 2 / pi)
    lengths = {
        "captions": (picture, masked, sizes.codebook),
        "dialogues": (picture + 2 * PROMPT_LENGTH, PROMPT_LENGTH, sizes.vocabulary),
        "texts": (config.max_text_length, config.max_text_length, sizes.vocabulary),
    }
    for kind in config.kinds:
        length, scored, ids = lengths[kind]
        yield Pass(batch * getattr(config, f"{kind}_batch_size"), length, length, scored, ids, trained=True)
