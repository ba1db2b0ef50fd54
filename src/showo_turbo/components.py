"""The components of a checkpoint as one object: what is loaded, saved and converted together.

It also converts between images and codes, since that takes the image tokenizer only.
"""

import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isqrt
from typing import Any, Literal, Self, TypeVar

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from showo_turbo.backends.linear import arithmetic_dtype
from showo_turbo.device import parse_device
from showo_turbo.errors import InputError
from showo_turbo.generation.options import SamplingOptions
from showo_turbo.models.clip_vision import ClipVisionTower
from showo_turbo.models.magvit_v2 import MagvitV2
from showo_turbo.models.showo import Showo
from showo_turbo.outputs import Images
from showo_turbo.processing.image_files import ImageSource, preprocess_images
from showo_turbo.processing.images import pixels_to_images
from showo_turbo.processing.known_world import WORD, KnownWorld, UnknownWordsWarning
from showo_turbo.processing.prompts import PromptBuilder
from showo_turbo.validation import check_seed

OUTPUT_TYPES = ("pil", "np", "pt", "latent")

T = TypeVar("T")
U = TypeVar("U")


@dataclass(eq=False)
class Components:
    """Hold everything that belongs to one checkpoint.

    Attributes:
        model: the transformer.
        prompts: text tokenizer and prompt templates, for the same vocabulary.
        image_tokenizer: turns pixels into codes and back; without it only codes can be read and drawn.
        recommended: the sampling options that are used for what a call leaves out.
        vision_tower: the CLIP encoder that a `w_clip_vit` transformer sees images with when it answers.
        known_world: description of the texts that a model of a small world was trained on; words that it does not hold
            cause one `UnknownWordsWarning`.

    Raises:
        InputError: if the image tokenizer has another codebook size than the transformer, or the vision tower another
            feature size.
    """

    model: Showo
    prompts: PromptBuilder
    image_tokenizer: MagvitV2 | None = None
    recommended: SamplingOptions = field(default_factory=SamplingOptions)
    vision_tower: ClipVisionTower | None = None
    known_world: KnownWorld | None = None

    _warned = False  # of unknown words

    def __post_init__(self) -> None:
        config = self.model.config
        if self.image_tokenizer is not None and self.image_tokenizer.config.codebook_size != config.codebook_size:
            raise InputError(
                f"image tokenizer has {self.image_tokenizer.config.codebook_size} codes, the transformer "
                f"{config.codebook_size}: they do not belong together"
            )
        if self.vision_tower is not None and self.vision_tower.feature_size != config.clip_feature_size:
            raise InputError(
                f"vision tower has features of size {self.vision_tower.feature_size}, the transformer takes "
                f"{config.clip_feature_size}: they do not belong together"
            )

    def to(self, device: str | torch.device) -> Self:
        """Move all weights to a device.

        Raises:
            InputError: if the device cannot be used.
        """
        device = parse_device(device)
        for module in (self.model, self.image_tokenizer, self.vision_tower):
            if module is not None:
                module.to(device)
        return self

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.model.device

    @property
    def grid_size(self) -> int:
        """Codes along one side of the square image that the model was trained on."""
        return isqrt(self.model.config.num_vq_tokens)

    @property
    def resolution(self) -> int:
        """Pixels along one side of the square image that the model was trained on.

        Raises:
            InputError: if there is no image tokenizer.
        """
        return self.grid_size * self.require_image_tokenizer().config.downsampling_factor

    def warn_unknown_words(self, texts: Sequence[str], kind: Literal["prompts", "questions"]) -> None:
        """Warn, once, if texts have words that the model was never trained on."""
        world = self.known_world
        if world is None or self._warned:
            return
        found = (WORD.findall(text.lower()) for text in texts)
        if all(words and world.words.issuperset(words) for words in found):
            return
        note = world.note(texts, kind)  # looks closer, at invisible characters and other spellings
        if note is not None:
            self._warned = True
            warnings.warn(note, UnknownWordsWarning, stacklevel=_frames_inside())

    def require_image_tokenizer(self) -> MagvitV2:
        """Return the image tokenizer.

        Raises:
            InputError: if there is none.
        """
        if self.image_tokenizer is None:
            raise InputError(
                "the checkpoint has no image tokenizer: name one, from_pretrained(..., image_tokenizer=FOLDER), or "
                "work on codes (output_type='latent', image_to_text(codes=...))"
            )
        return self.image_tokenizer

    def require_vision_tower(self) -> ClipVisionTower:
        """Return the CLIP vision tower.

        Raises:
            InputError: if there is none.
        """
        if self.vision_tower is None:
            raise InputError(
                "the checkpoint has no CLIP vision tower: name one, from_pretrained(..., vision_tower=FOLDER); the "
                "published checkpoints take openai/clip-vit-large-patch14-336"
            )
        return self.vision_tower

    @torch.no_grad()
    def encode_image(self, image: ImageSource | Sequence[ImageSource]) -> Tensor:
        """Encode images as codes, long (batch, tokens), after resizing and cropping them to the model's square.

        An image that occurs several times is encoded once.

        Raises:
            InputError: if an image cannot be read, or there is no image tokenizer.
        """
        different, numbers = distinct(as_list(image))
        pixels = preprocess_images(different, self.resolution)
        return self.require_image_tokenizer().get_codes(pixels.to(self.device))[numbers]

    @torch.no_grad()
    def decode_codes(
        self, codes: Tensor, height: int | None = None, width: int | None = None, output_type: str = "pil"
    ) -> Images:
        """Decode codes to images.

        Args:
            codes: long (batch, height * width), row-major.
            height: rows of the grid of codes; left out together with `width` for a square one.
            width: columns of the grid.
            output_type: "pil", "np", "pt" or "latent"; see `outputs.Images`.

        Raises:
            InputError: if the codes do not fill the grid or lie outside the codebook, the output type is unknown, or
                there is no image tokenizer.
        """
        self.check_codes(codes)
        self.check_output_type(output_type)
        if output_type == "latent":
            return codes
        tokenizer = self.require_image_tokenizer()
        codes = codes.to(tokenizer.quantize.embedding.device)
        pixels = tokenizer.decode_codes(codes, height, width, arithmetic_dtype(self.model.showo.lm_head.weight))
        if output_type == "pil":
            return pixels_to_images(pixels)
        pixels = ((pixels + 1) / 2).clamp(0, 1)
        if output_type == "pt":
            return pixels
        return rearrange(pixels, "batch channel height width -> batch height width channel").cpu().numpy()

    def check_codes(self, codes: Tensor) -> None:
        """Check codes that a user gives, (tokens,), (batch, tokens) or (batch, height, width).

        Raises:
            InputError: if they are not a long tensor of codebook indices of such a shape.
        """
        size = self.model.config.codebook_size
        if not isinstance(codes, Tensor) or codes.dtype != torch.long or not 1 <= codes.ndim <= 3:
            raise InputError(
                "codes must be a torch.long tensor of shape (tokens,), (batch, tokens) or (batch, height, width)"
            )
        if codes.numel() == 0 or codes.min() < 0 or codes.max() >= size:
            raise InputError(f"codes must be codebook indices, 0..{size - 1}, at least one")

    def check_output_type(self, output_type: str) -> None:
        """Check that images can be returned in an output type.

        Raises:
            InputError: if it is unknown, or needs an image tokenizer and there is none.
        """
        if output_type not in OUTPUT_TYPES:
            raise InputError(f"output_type is {output_type!r}: choose {', '.join(OUTPUT_TYPES)}")
        if output_type != "latent":
            self.require_image_tokenizer()


def _frames_inside() -> int:
    """Return the number of frames above the caller that belong to this package, so that a warning names user's code."""
    frame, count = sys._getframe(1), 1
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).startswith(f"{__package__}."):
        frame, count = frame.f_back, count + 1
    return count


def as_list(value: Any) -> list:
    """Return one value or several as a list; an array of four dimensions is several images."""
    is_batch = isinstance(value, np.ndarray | Tensor) and value.ndim == 4
    return list(value) if is_batch or isinstance(value, list | tuple) else [value]


def distinct(values: Sequence[T]) -> tuple[list[T], list[int]]:
    """Return the different objects among values, and for each value the number of its object."""
    different = {id(value): value for value in values}
    number = {identity: number for number, identity in enumerate(different)}
    return list(different.values()), [number[id(value)] for value in values]


def broadcast(some: Sequence[T], others: Sequence[U], names: tuple[str, str]) -> tuple[list[T], list[U]]:
    """Pair values of two kinds; one value of either kind is paired with all of the other.

    Raises:
        InputError: if there are none, or several of both but in different numbers.
    """
    counts = {len(some), len(others)}
    if 0 in counts or (len(counts) == 2 and 1 not in counts):
        raise InputError(f"{len(some)} {names[0]} and {len(others)} {names[1]}: give equally many, or one for all")
    batch = max(counts)
    return list(some) * (batch // len(some)), list(others) * (batch // len(others))


def choose_generator(generator: torch.Generator | None, seed: int | None) -> torch.Generator | None:
    """Return the generator that is given, or else one of a seed.

    Raises:
        InputError: if the generator is not one, or the seed is invalid.
    """
    if generator is None:
        return make_generator(seed)
    if not isinstance(generator, torch.Generator):
        raise InputError(f"generator is {generator!r}: give a torch.Generator (a number is a seed)")
    return generator


def make_generator(seed: int | None) -> torch.Generator | None:
    """Return a generator on the CPU, so that a seed gives the same numbers for every device, or None without a seed.

    Raises:
        InputError: if the seed is not an integer or out of range.
    """
    if seed is None:
        return None
    check_seed("seed", seed)
    return torch.Generator().manual_seed(int(seed))
