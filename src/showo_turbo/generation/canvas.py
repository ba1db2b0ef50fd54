"""Pictures of any size, painted by the square that the model was trained on (extrapolation, arXiv 2408.12528).

    to the left                          upwards, over a picture wider than the square

    . . | a b | c d                      1 1 2 2 3 3      each square starts half a side after the one before,
    . . | a b | c d                      1 1 2 2 3 3      and sees what that has painted
    . . | a b | c d                      a b c d e f
    . . | a b | c d                      a b c d e f
    [ square ]

The transformer reads codes row by row and knows one width only. So a larger picture is denoised square by square, each
over what is known already: the known half of the picture is the far half of the square.

A canvas is to a picture what a state is to one square: `paint` yields one after every pass, and known codes never
change.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from einops import rearrange
from torch import Tensor

from showo_turbo.errors import InputError
from showo_turbo.generation.image_denoiser import ImageDenoiser, partly_known_state

DIRECTIONS = ("left", "right", "up", "down")


@dataclass(frozen=True)
class Square:
    """A part of a canvas: its upper left corner, in codes, and its side."""

    top: int
    left: int
    side: int

    @property
    def place(self) -> tuple[slice, slice, slice]:
        """The index of this part in a tensor (batch, height, width)."""
        return slice(None), slice(self.top, self.top + self.side), slice(self.left, self.left + self.side)


@dataclass(frozen=True)
class Canvas:
    """One point on the way to pictures of any size.

    Attributes:
        codes: long (batch, height, width), codebook indices; no more than a guess where they are not known.
        known: bool (batch, height, width), which of them are final.
        forward_passes: calls of the transformer so far, whatever the batch.
    """

    codes: Tensor
    known: Tensor
    forward_passes: int = 0

    @classmethod
    def blank(cls, batch: int, height: int, width: int, device: torch.device | str | None = None) -> Self:
        """Pictures of which nothing is known."""
        codes = torch.zeros(batch, height, width, dtype=torch.long, device=device)
        return cls(codes, torch.zeros_like(codes, dtype=torch.bool))

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of codes."""
        return self.codes.shape[1], self.codes.shape[2]

    def extended(self, direction: str, count: int) -> Self:
        """The pictures with `count` unknown rows or columns more at one border."""
        height, width = self.grid
        vertical = direction in ("up", "down")
        added = Canvas.blank(len(self.codes), *((count, width) if vertical else (height, count)), self.codes.device)
        parts = (added, self) if direction in ("left", "up") else (self, added)
        dim = 1 if vertical else 2
        codes = torch.cat([part.codes for part in parts], dim)
        return replace(self, codes=codes, known=torch.cat([part.known for part in parts], dim))


def all_squares(grid: tuple[int, int], side: int) -> list[Square]:
    """Squares that cover a whole grid, row by row, half a side apart.

    Raises:
        InputError: when the grid is smaller than a square.
    """
    return [Square(top, left, side) for top in _starts(grid[0], side) for left in _starts(grid[1], side)]


def extrapolation(canvas: Canvas, directions: Sequence[str], side: int, offset: int = 0) -> tuple[Canvas, list[Square]]:
    """Extend pictures at their borders, one direction after the other.

    Args:
        canvas: the pictures.
        directions: of "left", "right", "up" and "down"; the same one may come again.
        side: of a square, in codes. Half of it is added at a time.
        offset: how many rows or columns more than half a square are added; a square sees as many less.

    Returns:
        The larger pictures and the squares to paint them by, in this order.

    Raises:
        InputError: as `check_extrapolation`, or when a picture is smaller than a square.
    """
    check_extrapolation(directions, side, offset)
    count = side // 2 + offset
    squares: list[Square] = []
    for direction in directions:
        canvas = canvas.extended(direction, count)
        down, right = count * (direction == "up"), count * (direction == "left")
        squares = [replace(square, top=square.top + down, left=square.left + right) for square in squares]
        squares += _border_squares(canvas.grid, direction, side)
    return canvas, squares


def check_extrapolation(directions: Sequence[str], side: int, offset: int = 0) -> None:
    """Refuse what `extrapolation` cannot do, whatever the pictures.

    Raises:
        InputError: when there is no direction or an unknown one, nothing is added, or a square would see nothing.
    """
    if not directions:
        raise InputError(f"direction is an empty list: give at least one of {', '.join(DIRECTIONS)}")
    if unknown := [direction for direction in directions if direction not in DIRECTIONS]:
        raise InputError(f"direction is {unknown[0]!r}: choose {', '.join(DIRECTIONS)}")
    if type(offset) is not int or not 1 <= side // 2 + offset < side:
        raise InputError(f"offset is {offset!r}: choose {1 - side // 2} to {side - side // 2 - 1}")


def paint(denoiser: ImageDenoiser, canvas: Canvas, squares: Sequence[Square]) -> Iterator[Canvas]:
    """The canvas as it comes (first), and after every pass over one square after the other."""
    yield canvas
    for square in squares:
        codes, known = (rearrange(tensor[square.place], "b h w -> b (h w)") for tensor in (canvas.codes, canvas.known))
        for state in denoiser.run(partly_known_state(codes, known, denoiser.vocabulary)):
            if state.forward_passes:
                canvas = _after_pass(canvas, square, denoiser.vocabulary.ids_to_codes(state.ids), state.settled)
                yield canvas


def unknown_squares(canvas: Canvas, squares: Sequence[Square]) -> list[Square]:
    """Those squares in which something is left to paint when their turn comes."""
    known, left = canvas.known.clone(), []
    for square in squares:
        if not known[square.place].all():
            left.append(square)
            known[square.place] = True
    return left


def _after_pass(canvas: Canvas, square: Square, codes: Tensor, known: Tensor) -> Canvas:
    """A canvas after one more pass, which left a square with these codes and known places, (batch, n)."""
    all_codes, all_known = canvas.codes.clone(), canvas.known.clone()
    all_codes[square.place] = rearrange(codes, "b (h w) -> b h w", h=square.side)
    all_known[square.place] = rearrange(known, "b (h w) -> b h w", h=square.side)
    return Canvas(all_codes, all_known, canvas.forward_passes + 1)


def _border_squares(grid: tuple[int, int], direction: str, side: int) -> list[Square]:
    """Squares along one border of a grid, half a side apart."""
    (last_top, last_left), vertical = (length - side for length in grid), direction in ("up", "down")
    if vertical:
        return [Square(0 if direction == "up" else last_top, left, side) for left in _starts(grid[1], side)]
    return [Square(top, 0 if direction == "left" else last_left, side) for top in _starts(grid[0], side)]


def _starts(length: int, side: int) -> list[int]:
    """Where squares begin that cover a length, half a side apart."""
    if length < side:
        raise InputError(f"a picture of {length} codes along one side is too small: the model paints {side} x {side}")
    return [*range(0, length - side, max(side // 2, 1)), length - side]
