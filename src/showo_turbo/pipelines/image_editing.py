"""Read masks and choose which codes of an image an editing task redraws.

inpainting    the codes under the mask
variation     a random part of the codes
extrapolation, and images that are not square, are in `generation.canvas`.
"""

import torch
from einops import rearrange
from PIL.Image import Image
from torch import Tensor

from showo_turbo.errors import InputError
from showo_turbo.generation.scheduler import Generators, split_rows
from showo_turbo.models.magvit_v2 import grid_shape
from showo_turbo.processing.image_files import ImageSource, check_same_size, open_image
from showo_turbo.processing.masks import mask_to_grid


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
