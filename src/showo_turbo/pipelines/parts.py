"""The parts of a pipeline, and the way between pixels and codes that every task takes."""

from collections.abc import Sequence
from dataclasses import replace
from math import isqrt
from typing import Any, Literal, Self, TypeVar

import torch
from torch import Tensor

from showo_turbo.device import parse_device
from showo_turbo.errors import InputError
from showo_turbo.generation.options import SamplingOptions
from showo_turbo.models.clip_vision import ClipVisionTower
from showo_turbo.models.magvit_v2 import MagvitV2
from showo_turbo.models.showo import Showo
from showo_turbo.outputs import Images
from showo_turbo.pipelines import text_to_image as drawing
from showo_turbo.processing.images import ImageSource, preprocess_images
from showo_turbo.processing.prompts import PromptBuilder
from showo_turbo.validation import check_seed

T = TypeVar("T")
U = TypeVar("U")


class PipelineParts:
    """Transformer, text side and pixel side of one model."""

    def __init__(
        self,
        model: Showo,
        prompts: PromptBuilder,
        image_tokenizer: MagvitV2 | None = None,
        recommended: SamplingOptions | None = None,
        vision_tower: ClipVisionTower | None = None,
    ) -> None:
        """Put the parts together; `from_pretrained` loads them.

        Args:
            model: the transformer.
            prompts: the text side, for the same vocabulary.
            image_tokenizer: the pixel side; without it the pipeline works on codes.
            recommended: what `text_to_image` uses for options that are left out.
            vision_tower: what a transformer with `w_clip_vit` sees images by when it answers.

        Raises:
            InputError: when the image tokenizer has another codebook than the transformer, or the CLIP picture tower
                features of another size.
        """
        if image_tokenizer is not None and image_tokenizer.config.codebook_size != model.config.codebook_size:
            raise InputError(
                f"image tokenizer has {image_tokenizer.config.codebook_size} codes, the transformer "
                f"{model.config.codebook_size}: they do not belong together"
            )
        if vision_tower is not None and vision_tower.feature_size != model.config.clip_feature_size:
            raise InputError(
                f"CLIP picture tower has features of {vision_tower.feature_size} numbers, the transformer takes "
                f"{model.config.clip_feature_size}: they do not belong together"
            )
        self.model, self.prompts, self.image_tokenizer = model, prompts, image_tokenizer
        self.vision_tower = vision_tower
        self.recommended = recommended or SamplingOptions()

    def to(self, device: str | torch.device) -> Self:
        """Move all weights.

        Raises:
            InputError: when there is no such device.
        """
        device = parse_device(device)
        self.model.to(device)
        for part in (self.image_tokenizer, self.vision_tower):
            if part is not None:
                part.to(device)
        return self

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.model.device

    @property
    def side(self) -> int:
        """Side of the square image that the model was trained on, in codes."""
        return isqrt(self.model.config.num_vq_tokens)

    @property
    def resolution(self) -> int:
        """Side of the square image that the model was trained on, in pixels.

        Raises:
            InputError: when there is no image tokenizer.
        """
        return self.side * drawing.require_image_tokenizer(self.image_tokenizer).config.downsampling_factor

    def sampling_options(
        self,
        *,
        top_k: int | Literal["recommended"] | None = "recommended",
        sampled_steps: int | Literal["recommended"] | None = "recommended",
        **sampling: float | str | None,
    ) -> SamplingOptions:
        """The checkpoint's recommendation for so many steps, with the options that are given in its place.

        None is an option of `top_k` and `sampled_steps`, and stands for one that is left out elsewhere.

        Raises:
            InputError: when a value is of another type.
        """
        given = {name: value for name, value in sampling.items() if value is not None}
        chosen = {"top_k": top_k, "sampled_steps": sampled_steps}
        given |= {name: value for name, value in chosen.items() if value != "recommended"}
        return replace(self.recommended.at(given.get("num_inference_steps")), **given)

    @torch.no_grad()
    def encode_image(self, image: ImageSource | Sequence[ImageSource]) -> Tensor:
        """Codes of images, long (batch, tokens): resized to the resolution, the middle square cut out, encoded.

        Raises:
            InputError: when an image cannot be read, or there is no image tokenizer.
        """
        tokenizer = drawing.require_image_tokenizer(self.image_tokenizer)
        pixels = preprocess_images(as_list(image), self.resolution)
        return tokenizer.get_codes(pixels.to(self.device))

    def decode_codes(
        self, codes: Tensor, height: int | None = None, width: int | None = None, output_type: str = "pil"
    ) -> Images:
        """Images of codes.

        Args:
            codes: long (batch, height * width), row-major.
            height: rows of the grid of codes; left out together with `width` for a square one.
            width: columns of the grid.
            output_type: "pil", "np", "pt" or "latent"; see `outputs.Images`.

        Raises:
            InputError: when the codes do not fill the grid or lie outside the codebook, or there is no image tokenizer.
        """
        return drawing.unpack(self.check_codes(codes), self.image_tokenizer, output_type, height, width)

    def encode_each_once(self, images: Sequence[ImageSource]) -> Tensor:
        """Codes of images, long (batch, tokens); one that comes several times is encoded once.

        Raises:
            InputError: as `encode_image`.
        """
        different = {id(image): image for image in images}
        rows = dict(zip(different, self.encode_image(list(different.values())), strict=True))
        return torch.stack([rows[id(image)] for image in images])

    def check_codes(self, codes: Tensor) -> Tensor:
        """Codes as a user gives them.

        Args:
            codes: long (tokens,), (batch, tokens) or (batch, height, width).

        Returns:
            The same codes.

        Raises:
            InputError: when they are no codes of this model.
        """
        size = self.model.config.codebook_size
        if not isinstance(codes, Tensor) or codes.dtype != torch.long or not 1 <= codes.ndim <= 3:
            raise InputError(
                "codes must be a torch.long tensor of shape (tokens,), (batch, tokens) or (batch, height, width)"
            )
        if codes.numel() == 0 or codes.min() < 0 or codes.max() >= size:
            raise InputError(f"codes must be codebook indices, 0..{size - 1}, at least one")
        return codes


def as_list(value: Any) -> list:
    """One thing or several, as a list."""
    return list(value) if isinstance(value, list | tuple) else [value]


def share(some: Sequence[T], others: Sequence[U], names: tuple[str, str]) -> tuple[list[T], list[U]]:
    """Pair things: one of either kind goes with all of the other.

    Raises:
        InputError: when there are none, or several of both but not equally many.
    """
    counts = {len(some), len(others)}
    if 0 in counts or (len(counts) == 2 and 1 not in counts):
        raise InputError(f"{len(some)} {names[0]} and {len(others)} {names[1]}: give equally many, or one for all")
    batch = max(counts)
    return list(some) * (batch // len(some)), list(others) * (batch // len(others))


def seeded(seed: int | None) -> torch.Generator | None:
    """A generator on the CPU, so that a seed means the same on every device.

    Raises:
        InputError: when the seed is no whole number, or out of range.
    """
    if seed is None:
        return None
    check_seed("seed", seed)
    return torch.Generator().manual_seed(int(seed))


def one_source(generator: torch.Generator | None, seed: int | None) -> torch.Generator | None:
    """Where random numbers come from: a generator, or else one of a seed.

    Raises:
        InputError: when the generator is none, or as `seeded`.
    """
    if generator is None:
        return seeded(seed)
    if not isinstance(generator, torch.Generator):
        raise InputError(f"generator is {generator!r}: give a torch.Generator (a number is a seed)")
    return generator
