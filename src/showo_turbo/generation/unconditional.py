"""What guidance compares with, as far as it is a constant of the model: it is computed once, and kept beside the model.

The unconditional prompt is the same for all images, and so is an image of which nothing is known. Keys and values of
the one, and the scores of the other under it, depend on the weights alone; they are forgotten when these change.
"""

from collections.abc import Sequence
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from showo_turbo.backends.int8 import plain_tensors
from showo_turbo.generation.image_passes import ImagePasses
from showo_turbo.generation.scoring import alone
from showo_turbo.models.showo import Showo
from showo_turbo.vocabulary import Vocabulary


class Constants:
    """What is kept for one state of a model's weights."""

    def __init__(self, weights: tuple) -> None:
        """Nothing yet; `weights` tells this state from others."""
        self.weights = weights
        self.key_values: dict[tuple[int, ...], Tensor] = {}
        self.blank_logits: dict[tuple[tuple[int, ...], int], Tensor] = {}


_KEPT: WeakKeyDictionary[Showo, Constants] = WeakKeyDictionary()


def unconditional_key_values(model: Showo, vocabulary: Vocabulary, prompt: Sequence[int]) -> Tensor:
    """Keys and values of the unconditional prompt, (layers, 2, length, heads, head size)."""
    kept, name = _constants(model).key_values, tuple(prompt)
    if name not in kept:
        kept[name] = ImagePasses(model, vocabulary, [prompt]).key_values_of(0)
    return kept[name]


def unconditional_blank_logits(model: Showo, vocabulary: Vocabulary, prompt: Sequence[int], num_codes: int) -> Tensor:
    """Scores of every code at every place of an image of which nothing is known, float32 (num_codes, codebook_size)."""
    constants, name = _constants(model), tuple(prompt)
    if (name, num_codes) not in constants.blank_logits:
        read = [constants.key_values[name]] if name in constants.key_values else []
        passes = ImagePasses(model, vocabulary, [prompt], read)
        blank = torch.full((1, num_codes), vocabulary.mask_id)
        scoring = passes.score(torch.zeros(1, dtype=torch.long), blank, torch.ones_like(blank, dtype=torch.bool))
        constants.blank_logits[name, num_codes] = alone(model, scoring)
        constants.key_values[name] = passes.key_values_of(0)
    return constants.blank_logits[name, num_codes]


def _constants(model: Showo) -> Constants:
    """What is kept for a model as it is now."""
    weights = _fingerprint(model)
    if model not in _KEPT or _KEPT[model].weights != weights:
        _KEPT[model] = Constants(weights)
    return _KEPT[model]


def _fingerprint(model: Showo) -> tuple:
    """Tells whether weights were replaced or changed: where they are, how often they were written to, a number of each.

    The numbers are looked at because fused optimizers write without counting.
    """
    weights = [part.detach() for weight in model.parameters() for part in plain_tensors(weight)]
    places = tuple((weight.data_ptr(), 0 if weight.is_inference() else weight._version) for weight in weights)
    numbers = torch.stack([weight.flatten()[0].float() for weight in weights]).tolist()
    return places, tuple(numbers)
