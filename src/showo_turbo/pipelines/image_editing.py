"""Draw images from other images. The tasks differ in what is known at the start.

inpainting     all but the codes under the mask
extrapolation  one side of each window
variation      a random part of the codes
editing        nothing: the image before is a part of the prompt, with an instruction
"""

from collections.abc import Sequence
from typing import Any

import torch
from einops import rearrange
from PIL.Image import Image
from torch import Tensor

from showo_turbo.components import as_list, broadcast
from showo_turbo.errors import InputError
from showo_turbo.generation.canvas import Canvas, cover, extrapolate, unknown_windows
from showo_turbo.generation.model_limits import check_extrapolation, check_strength
from showo_turbo.generation.options import SamplingOptions, takes_options
from showo_turbo.generation.scheduler import Generators, split_rows
from showo_turbo.models.magvit_v2 import grid_shape
from showo_turbo.outputs import ImageOutput
from showo_turbo.pipelines.image_generation import Drawing, ImageCall, ImageGeneration
from showo_turbo.processing.image_files import ImageSource, check_same_size, open_image
from showo_turbo.processing.masks import mask_to_grid


class ImageEditing(ImageGeneration):
    """Draw images from other images.

    Images to edit are given as pixels, of which the central square is used at the model's resolution, or as `codes`,
    with nothing lost and of any size: long (tokens,) or (batch, tokens) for square ones, or (batch, height, width).
    Known codes stay bit for bit.
    """

    @takes_options(SamplingOptions)
    def inpaint(
        self,
        image: ImageSource | Sequence[ImageSource] | None = None,
        mask: ImageSource | Tensor | Sequence[ImageSource] | None = None,
        prompt: str | Sequence[str] = "",
        *,
        codes: Tensor | None = None,
        **options: Any,
    ) -> ImageOutput:
        """Redraw a part of images. One image may be paired with several prompts, and one prompt with several images.

        Args:
            image: a path, an open file, a PIL image, an array (output types "np" and "pt"), or a list of these.
            mask: an image of the same size, white or transparent where to redraw (see `processing.masks`), or bool over
                the codes, shaped as `codes`. One for all images, or one for each.
            prompt: what the whole image shows, one text or several.
            codes: the image as codes, in place of `image`.
            **options: as for `text_to_image`.

        Raises:
            InputError: if mask and image differ in size, the mask is empty, or as `text_to_image`; before any forward
                pass.
        """
        return self._draw(self.prepare_inpainting(image, mask, prompt, codes, **options))

    @takes_options(SamplingOptions)
    def extrapolate(
        self,
        image: ImageSource | Sequence[ImageSource] | None = None,
        prompt: str | Sequence[str] = "",
        direction: str | Sequence[str] = "left",
        *,
        offset: int = 0,
        codes: Tensor | None = None,
        **options: Any,
    ) -> ImageOutput:
        """Extend images beyond their borders, half a window at a time.

        Args:
            image: a path, an open file, a PIL image, an array (output types "np" and "pt"), or a list of these.
            prompt: what the new part shows, one text or several.
            direction: "left", "right", "up" or "down", or several in order; each may occur several times.
            offset: number of codes that are added beyond half a window; the model then sees fewer known ones.
            codes: the image as codes, in place of `image`.
            **options: as for `text_to_image`; every window takes all steps.

        Raises:
            InputError: if a direction is unknown, or as `text_to_image`; before any forward pass.
        """
        return self._draw(self.prepare_extrapolation(image, prompt, direction, offset, codes, **options))

    @takes_options(SamplingOptions)
    def vary(
        self,
        image: ImageSource | Sequence[ImageSource] | None = None,
        prompt: str | Sequence[str] = "",
        strength: float = 0.6,
        *,
        codes: Tensor | None = None,
        **options: Any,
    ) -> ImageOutput:
        """Draw variations of images: a random part of the codes is redrawn.

        Args:
            image: a path, an open file, a PIL image, an array (output types "np" and "pt"), or a list of these.
            prompt: what the whole image shows, one text or several.
            strength: fraction of the codes that is redrawn, more than 0 to 1.
            codes: the image as codes, in place of `image`.
            **options: as for `text_to_image`; the redrawn codes are chosen by the same generator.

        Raises:
            InputError: if the strength is out of its range, or as `text_to_image`; before any forward pass.
        """
        return self._draw(self.prepare_variation(image, prompt, strength, codes, **options))

    @takes_options(SamplingOptions)
    def edit(
        self,
        image: ImageSource | Sequence[ImageSource] | None = None,
        prompt: str | Sequence[str] = "",
        *,
        codes: Tensor | None = None,
        **options: Any,
    ) -> ImageOutput:
        """Draw images as instructions change them, with a model that was trained on editing pairs.

        Args:
            image: a path, an open file, a PIL image, an array (output types "np" and "pt"), or a list of these.
            prompt: the instruction, such as "make the circle red", one or several.
            codes: the image as codes, in place of `image`; as many as the model draws.
            **options: as for `text_to_image`; guidance compares with a prompt that has neither image nor instruction.

        Raises:
            InputError: if the model was not trained on editing pairs, the image has another number of codes, image and
                instruction are too long, or as `text_to_image`; before any forward pass.
        """
        return self._draw(self.prepare_editing(image, prompt, codes, **options))

    def prepare_editing(
        self,
        image: ImageSource | Sequence[ImageSource] | None,
        prompt: str | Sequence[str],
        codes: Tensor | None = None,
        **options: Any,
    ) -> Drawing:
        """Prepare `edit`, which describes arguments and errors."""
        if not self.model.config.edits_images:
            raise InputError(
                "the model was not trained to edit by instructions (edits_images in its config.json): fine-tune it on "
                "editing pairs, redraw a part of the image with a mask, or vary all of it"
            )
        images = self._sources(image, codes)
        grid = (self.grid_size, self.grid_size)
        if codes is not None and any(one.shape != grid for one in images):
            raise InputError(f"codes are {_by(images[0].shape)}: the model edits images of {_by(grid)} codes")
        encoded = images if codes is not None else list(self.encode_image(images))
        sources, prompts = broadcast(encoded, as_list(prompt), ("images", "prompts"))
        call = self.prepare_images(prompts, sources=[one.flatten().tolist() for one in sources], **options)
        return Drawing(call, Canvas.blank(len(call.denoiser.prompt_of_image), *grid), cover(grid, self.grid_size))

    def prepare_inpainting(
        self,
        image: ImageSource | Sequence[ImageSource] | None,
        mask: ImageSource | Tensor | Sequence[ImageSource] | None,
        prompt: str | Sequence[str],
        codes: Tensor | None = None,
        **options: Any,
    ) -> Drawing:
        """Prepare `inpaint`, which describes arguments and errors."""
        if mask is None:
            raise InputError("mask is missing: give an image that is white where to draw")
        sources = self._sources(image, codes)
        masks = split_masks(mask) if isinstance(mask, Tensor) else as_list(mask)
        sources, masks = broadcast(sources, masks, ("images", "masks"))
        resolution = self.resolution if codes is None else None
        unknown = [
            read_mask(one, source, resolution, self.grid_size) for one, source in zip(masks, sources, strict=True)
        ]
        pairs, prompts = broadcast(list(zip(sources, unknown, strict=True)), as_list(prompt), ("images", "prompts"))
        call = self.prepare_images(prompts, **options)
        known = ~torch.stack([one for _, one in pairs]).repeat_interleave(call.num_images_per_prompt, 0)
        canvas = Canvas(self._grids([source for source, _ in pairs], call), known)
        return Drawing(call, canvas, unknown_windows(canvas, cover(canvas.grid, self.grid_size)))

    def prepare_extrapolation(
        self,
        image: ImageSource | Sequence[ImageSource] | None,
        prompt: str | Sequence[str],
        direction: str | Sequence[str],
        offset: int = 0,
        codes: Tensor | None = None,
        **options: Any,
    ) -> Drawing:
        """Prepare `extrapolate`, which describes arguments and errors."""
        directions = as_list(direction)
        check_extrapolation(directions, self.grid_size, offset)
        sources, prompts = broadcast(self._sources(image, codes), as_list(prompt), ("images", "prompts"))
        call = self.prepare_images(prompts, **options)
        grids = self._grids(sources, call)
        known = Canvas(grids, torch.ones_like(grids, dtype=torch.bool))
        canvas, windows = extrapolate(known, directions, self.grid_size, offset)
        return Drawing(call, canvas, unknown_windows(canvas, windows))

    def prepare_variation(
        self,
        image: ImageSource | Sequence[ImageSource] | None,
        prompt: str | Sequence[str],
        strength: float,
        codes: Tensor | None = None,
        **options: Any,
    ) -> Drawing:
        """Prepare `vary`, which describes arguments and errors."""
        check_strength(strength)
        sources, prompts = broadcast(self._sources(image, codes), as_list(prompt), ("images", "prompts"))
        call = self.prepare_images(prompts, **options)
        grids = self._grids(sources, call)
        canvas = Canvas(grids, ~draw_unknown(grids, strength, call.generator))
        return Drawing(call, canvas, unknown_windows(canvas, cover(canvas.grid, self.grid_size)))

    def _sources(self, image: ImageSource | Sequence[ImageSource] | None, codes: Tensor | None) -> list:
        """Return the images to edit, one by one, as PIL images or as codes (height, width)."""
        if (image is None) == (codes is None):
            raise InputError("give either image or codes, and not both")
        if codes is None:
            return [open_image(source) for source in as_list(image)]
        self.check_codes(codes)
        return split_grids(codes)

    def _grids(self, sources: list, call: ImageCall) -> Tensor:
        """Return the codes of the images to edit, on the CPU, long (batch, height, width), once for each result."""
        if isinstance(sources[0], Tensor):
            grids = torch.stack(sources)
        else:
            grids = torch.stack(split_grids(self.encode_image(sources)))
        return grids.cpu().repeat_interleave(call.num_images_per_prompt, 0)


def split_grids(tensor: Tensor) -> list[Tensor]:
    """Split a tensor shaped as codes into grids (height, width), one per image.

    Args:
        tensor: (tokens,) or (batch, tokens) of square grids, or (batch, height, width).

    Raises:
        InputError: if a row does not form a square.
    """
    if tensor.ndim == 3:
        return list(tensor)
    rows = tensor.reshape(-1, tensor.shape[-1])
    return list(rearrange(rows, "batch (height width) -> batch height width", height=grid_shape(rows)[0]))


def split_masks(mask: Tensor) -> list[Tensor]:
    """Split masks over codes, bool (height, width), one per image.

    Raises:
        InputError: if the tensor is not a mask over codes.
    """
    if mask.dtype != torch.bool or not 1 <= mask.ndim <= 3:
        raise InputError(
            f"mask is a {mask.dtype} tensor of shape {tuple(mask.shape)}: expected torch.bool and the codes' shape, "
            "or an image"
        )
    try:
        return split_grids(mask)
    except InputError as error:
        raise InputError(
            f"mask of shape {tuple(mask.shape)} is read as rows of codes, which make no squares: give (batch, height, "
            "width), of one mask mask[None]"
        ) from error


def read_mask(mask: ImageSource | Tensor, image: Image | Tensor, resolution: int | None, grid_size: int) -> Tensor:
    """Return the codes of an image to redraw, bool (height, width), on the CPU.

    Args:
        mask: an image, see `masks.load_mask`, or bool (height, width) over the codes.
        image: the image that the mask belongs to, or its codes, (height, width).
        resolution: side of the square that the image is cropped to, in pixels; needed for images only.
        grid_size: codes along that side.

    Raises:
        InputError: if mask and image differ in size, the mask is empty, or it cannot be read.
    """
    if isinstance(mask, Tensor):
        if mask.dtype != torch.bool:
            raise InputError(f"mask is a {mask.dtype} tensor: give torch.bool, True where to draw")
        grid = tuple(image.shape) if isinstance(image, Tensor) else (grid_size, grid_size)
        if mask.shape != grid:
            raise InputError(f"mask has {_by(mask.shape)} codes and the image {_by(grid)}: give one for every code")
    elif isinstance(image, Tensor):
        raise InputError("mask is an image, but the image is given as codes: give a torch.bool tensor of their shape")
    else:
        opened = open_image(mask)
        check_same_size(image, opened)
        assert resolution is not None  # given with every image
        mask = mask_to_grid(opened, resolution, grid_size)
    if not mask.any():
        raise InputError("mask is empty, nothing would be drawn: paint what is to be drawn anew in white")
    return mask.cpu()


def draw_unknown(codes: Tensor, strength: float, generator: Generators = None) -> Tensor:
    """Choose random codes of every image, bool (batch, height, width), at least one.

    Args:
        codes: (batch, height, width).
        strength: fraction of the codes.
        generator: source of random numbers, see `scheduler.Generators`.
    """
    size = codes[0].numel()
    pieces = [
        torch.rand(
            (rows.stop - rows.start, size),
            generator=source,
            dtype=torch.float32,
            device=source.device if source else codes.device,
        )
        for rows, source in split_rows(len(codes), generator)
    ]
    ranks = torch.cat([piece.to(codes.device) for piece in pieces]).argsort(1).argsort(1)
    return (ranks < max(1, round(strength * size))).reshape(codes.shape)


def _by(size: tuple[int, ...]) -> str:
    return " x ".join(map(str, size))
