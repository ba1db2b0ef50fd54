"""Batches of pre-training by number, from a pool of scenes: captions with codes to predict, and questions."""

import math
import random
from collections.abc import Sequence

import torch

from showo_turbo.errors import InputError
from showo_turbo.processing.prompts import PromptBuilder
from showo_turbo.processing.redrawn_parts import draw_redrawn_parts
from showo_turbo.scenes.pool import ScenePool
from showo_turbo.scenes.scene import Scene
from showo_turbo.scenes.split import differ_in_noun_and_color
from showo_turbo.training.supervised_batches import random_masking, text_to_image_batch, understanding_batch
from showo_turbo.training.supervised_task import NamedBatch

_STEPS_PER_LENGTH_GROUP = 8
"""Steps whose captions are generated together and sorted by length, so that a batch has little padding."""


class SceneBatches:
    """Generate the texts of scenes, and the codes to mask, from the seed and the number of a batch."""

    def __init__(self, pool: ScenePool, prompts: PromptBuilder, seed: int) -> None:
        """Set the scenes."""
        self.pool, self.prompts, self.seed = pool, prompts, seed

    def captions(
        self,
        number: int,
        size: int,
        condition_dropout: float,
        pair_share: float,
        pairs: Sequence[Sequence[int]],
        known_share: float,
    ) -> NamedBatch:
        """Build captions of similar length, from the scenes of several batches sorted by caption length.

        Args:
            number: of the batch, from 0.
            size: captions in a batch.
            condition_dropout: fraction of them that is replaced by the empty prompt.
            pair_share: fraction of them that is drawn from `pairs`.
            pairs: see `pair_rows`.
            known_share: fraction of the images of which a part is known, see `redrawn_parts`.
        """
        group, member = divmod(number, _STEPS_PER_LENGTH_GROUP)
        rng = random.Random(f"{self.seed}/captions/{group}")
        rows = [
            rng.choice(rng.choice(pairs)) if pair_share and rng.random() < pair_share
            else rng.randrange(len(self.pool.scenes))
            for _ in range(size * _STEPS_PER_LENGTH_GROUP)
        ]  # fmt: skip
        caption = self.pool.world.language.caption
        texts = ["" if rng.random() < condition_dropout else caption(self.pool.scenes[row], rng) for row in rows]
        by_length = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        first = size * rng.sample(range(_STEPS_PER_LENGTH_GROUP), _STEPS_PER_LENGTH_GROUP)[member]
        chosen = by_length[first : first + size]
        codes = self.pool.codes[[rows[index] for index in chosen]]
        generator = torch.Generator().manual_seed(rng.getrandbits(48) + member)
        parts = draw_redrawn_parts(size, math.isqrt(codes.shape[1]), known_share, rng)
        masked = random_masking(parts, generator)
        batch = text_to_image_batch(self.prompts, [texts[index] for index in chosen], codes, masked)
        return NamedBatch(batch, [f"scene {rows[index]}: {texts[index]}" for index in chosen])

    def questions(self, number: int, size: int, questions_per_picture: int) -> NamedBatch:
        """Build questions. Descriptions are long, so either all rows of a batch have one or none has."""
        rng = random.Random(f"{self.seed}/questions/{number}")
        rows = [rng.randrange(len(self.pool.scenes)) for _ in range(size)]
        draw, described = self.pool.world.language.turns, number % 2 == 1
        turns = [draw(self.pool.scenes[row], rng, questions_per_picture, described=described) for row in rows]
        batch = understanding_batch(self.prompts, turns, self.pool.codes[rows])
        return NamedBatch(batch, [f"scene {row}: questions" for row in rows])


def pair_rows(scenes: Sequence[Scene]) -> tuple[list[int], list[int]]:
    """Return the indices of the scenes with two objects of different nouns, and of those that differ in color as well.

    Raises:
        InputError: if there is none of either.
    """
    pairs = [row for row, scene in enumerate(scenes) if scene.is_pair]
    colored = [row for row in pairs if differ_in_noun_and_color(*scenes[row].objects)]
    if not colored:
        raise InputError("pair_share: the scene pool has no scene with two objects that differ in noun and color")
    return pairs, colored
