"""What is known of an image at the start of an editing task; the rest is `text_to_image`'s.

inpainting    all but what the mask covers      extrapolation, non-square images    `generation.canvas`
variation     a random part
"""

import torch
from einops import rearrange
from PIL.Image import Image
from torch import Tensor

from showo_turbo.errors import InputError
from showo_turbo.generation.scheduler import Generators, share_rows
from showo_turbo.models.magvit_v2 import grid_shape
from showo_turbo.processing.images import ImageSource, mask_to_grid, open_image


def split_grids(tensor: Tensor) -> list[Tensor]:
    """Grids (height, width), one per image, of anything shaped as codes.

    Args:
        tensor: (tokens,) or (batch, tokens) of square grids, or (batch, height, width).

    Raises:
        InputError: when a row makes no square.
    """
    if tensor.ndim == 3:
        return list(tensor)
    rows = tensor.reshape(-1, tensor.shape[-1])
    return list(rearrange(rows, "batch (height width) -> batch height width", height=grid_shape(rows)[0]))


def split_masks(mask: Tensor) -> list[Tensor]:
    """Masks over codes, bool (height, width), one per image.

    Raises:
        InputError: when the tensor is no mask over codes.
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


def read_mask(mask: ImageSource | Tensor, image: Image | Tensor, resolution: int | None, side: int) -> Tensor:
    """Which codes of an image are to be drawn anew, bool (height, width), on the CPU.

    Args:
        mask: an image, white where to draw, or bool (height, width) over the codes.
        image: the image it belongs to, or its codes, (height, width).
        resolution: side of the square the image is cropped to, in pixels; needed for images only.
        side: codes along that side.

    Raises:
        InputError: when mask and image differ in size, the mask covers nothing, or it cannot be read.
    """
    if isinstance(mask, Tensor):
        if mask.dtype != torch.bool:
            raise InputError(f"mask is a {mask.dtype} tensor: give torch.bool, True where to draw")
        grid = tuple(image.shape) if isinstance(image, Tensor) else (side, side)
        if mask.shape != grid:
            raise InputError(f"mask has {_by(mask.shape)} codes and the image {_by(grid)}: give one for every code")
    elif isinstance(image, Tensor):
        raise InputError("mask is an image, but the image is given as codes: give a torch.bool tensor of their shape")
    else:
        opened = open_image(mask)
        if opened.size != image.size:
            raise InputError(
                f"mask is {_by(opened.size)} pixels and the image {_by(image.size)}: give a mask of the image's size"
            )
        mask = mask_to_grid(opened, resolution, side)
    if not mask.any():
        raise InputError("mask is empty, nothing would be drawn: paint what is to be drawn anew in white")
    return mask.cpu()


def check_strength(strength: float) -> None:
    """Refuse what is no share of an image.

    Raises:
        InputError: when it is not above 0 and at most 1.
    """
    if isinstance(strength, bool) or not isinstance(strength, int | float) or not 0 < strength <= 1:
        raise InputError(f"strength is {strength!r}: choose more than 0 (the same image) to 1 (another one)")


def draw_unknown(codes: Tensor, strength: float, generator: Generators = None) -> Tensor:
    """A random share of every image, bool (batch, height, width), at least one code.

    Args:
        codes: (batch, height, width).
        strength: the share.
        generator: where random numbers come from, see `scheduler.Generators`.
    """
    shape = codes[0].numel()
    pieces = [
        torch.rand(rows.stop - rows.start, shape, generator=source, device=source.device if source else codes.device)
        for rows, source in share_rows(len(codes), generator)
    ]
    ranks = torch.cat([piece.to(codes.device) for piece in pieces]).argsort(1).argsort(1)
    return (ranks < max(1, round(strength * shape))).reshape(codes.shape)


def _by(size: tuple[int, ...]) -> str:
    return " x ".join(map(str, size))
