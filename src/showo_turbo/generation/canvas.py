"""Draw images of any size in windows of the size that the model was trained on (extrapolation, arXiv 2408.12528).

    to the left                          upwards, over an image wider than the window

    . . | a b | c d                      1 1 2 2 3 3      each window starts half a side after the one before,
    . . | a b | c d                      1 1 2 2 3 3      and attends to what that one has drawn
    . . | a b | c d                      a b c d e f
    . . | a b | c d                      a b c d e f
    [ window ]

The transformer reads codes row by row in a grid of one width. So a larger image is denoised window by window, each over
what is known already: the known half of the image is the far half of the window.

A canvas is to an image what a state is to one window, and known codes never change. `CanvasDenoiser` steps canvases as
`ImageDenoiser` steps images, so the engine runs both.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from einops import rearrange
from torch import Tensor

from showo_turbo.errors import InputError
from showo_turbo.generation.image_denoiser import ImageDenoiser, partly_known_state
from showo_turbo.generation.model_limits import check_extrapolation
from showo_turbo.generation.trajectory import State, Step, trajectory
from showo_turbo.vocabulary import Vocabulary


@dataclass(frozen=True)
class Window:
    """Locate a square of a canvas by its upper left corner and its side, in codes."""

    top: int
    left: int
    side: int

    @property
    def index(self) -> tuple[slice, slice, slice]:
        """Index of the window in a tensor (batch, height, width)."""
        return slice(None), slice(self.top, self.top + self.side), slice(self.left, self.left + self.side)


@dataclass(frozen=True)
class Canvas:
    """Hold one point on the way to images of any size.

    Attributes:
        codes: long (batch, height, width), codebook indices; guesses where they are not known.
        known: bool (batch, height, width), True where they are final.
        forward_passes: forward passes of the transformer so far, whatever the batch size.
    """

    codes: Tensor
    known: Tensor
    forward_passes: int = 0

    @classmethod
    def blank(cls, batch: int, height: int, width: int, device: torch.device | str | None = None) -> Self:
        """Return images of which no code is known."""
        codes = torch.zeros(batch, height, width, dtype=torch.long, device=device)
        return cls(codes, torch.zeros_like(codes, dtype=torch.bool))

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of codes."""
        return self.codes.shape[1], self.codes.shape[2]

    def start(self, vocabulary: Vocabulary) -> State:
        """Return the state before the first pass; its rows are canvases, row by row."""
        return partly_known_state(self.codes.flatten(1), self.known.flatten(1), vocabulary)

    def at(self, state: State, vocabulary: Vocabulary) -> "Canvas":
        """Return a later state of this canvas; codes that are not guessed yet stay as they are here."""
        ids, known = state.ids.unflatten(1, self.grid), state.settled.unflatten(1, self.grid)
        codes = torch.where(ids == vocabulary.mask_id, self.codes, ids - vocabulary.image_offset)
        return Canvas(codes, known, state.forward_passes)

    def extend(self, direction: str, count: int) -> Self:
        """Return the images with `count` more unknown rows or columns at one border."""
        height, width = self.grid
        vertical = direction in ("up", "down")
        added = Canvas.blank(len(self.codes), *((count, width) if vertical else (height, count)), self.codes.device)
        parts = (added, self) if direction in ("left", "up") else (self, added)
        dim = 1 if vertical else 2
        codes = torch.cat([part.codes for part in parts], dim)
        return replace(self, codes=codes, known=torch.cat([part.known for part in parts], dim))


def cover(grid: tuple[int, int], side: int) -> list[Window]:
    """Return windows that cover a grid, row by row, half a side apart.

    Raises:
        InputError: if the grid is smaller than a window.
    """
    return [Window(top, left, side) for top in _starts(grid[0], side) for left in _starts(grid[1], side)]


def extrapolate(canvas: Canvas, directions: Sequence[str], side: int, offset: int = 0) -> tuple[Canvas, list[Window]]:
    """Extend images at their borders, one direction after the other.

    Args:
        canvas: the images.
        directions: "left", "right", "up" and "down", in any order and number.
        side: side of a window, in codes. Half of it is added at a time.
        offset: number of rows or columns that are added beyond half a window; a window then sees fewer known ones.

    Returns:
        The larger images and the windows to draw them by, in order.

    Raises:
        InputError: as `check_extrapolation`, or if an image is smaller than a window.
    """
    check_extrapolation(directions, side, offset)
    count = side // 2 + offset
    windows: list[Window] = []
    for direction in directions:
        canvas = canvas.extend(direction, count)
        down, right = count * (direction == "up"), count * (direction == "left")
        windows = [replace(window, top=window.top + down, left=window.left + right) for window in windows]
        (last_top, last_left), vertical = (length - side for length in canvas.grid), direction in ("up", "down")
        if vertical:
            top = 0 if direction == "up" else last_top
            windows += [Window(top, left, side) for left in _starts(canvas.grid[1], side)]
        else:
            left = 0 if direction == "left" else last_left
            windows += [Window(top, left, side) for top in _starts(canvas.grid[0], side)]
    return canvas, windows


class CanvasDenoiser:
    """Denoise canvases window by window: one step is one forward pass over the first window that is not finished."""

    def __init__(self, denoiser: ImageDenoiser, grid: tuple[int, int], windows: Sequence[Window]) -> None:
        """Prepare canvases.

        Args:
            denoiser: for as many images as there are canvases.
            grid: rows and columns of their codes.
            windows: they cover all that is unknown.
        """
        self.denoiser, self.grid, self.windows = denoiser, grid, windows
        self._window: Window | None = None
        self._passes_before_window = 0

    @property
    def sequences(self) -> int:
        """Largest number of sequences in a forward pass."""
        return self.denoiser.sequences

    def step(self, state: State) -> Step[State]:
        """Run one step of the current window."""
        window, inner = self._current_window(state)
        drawn = yield from self.denoiser.step(inner)
        return self._with_window(state, window, drawn)

    def advance(self, state: State) -> State:
        """Run one step of the current window with a forward pass of its own."""
        window, inner = self._current_window(state)
        return self._with_window(state, window, self.denoiser.advance(inner))

    def _current_window(self, state: State) -> tuple[Window, State]:
        """Return the first window that is not finished, and its state."""
        ids, known = (tensor.unflatten(1, self.grid) for tensor in (state.ids, state.settled))
        window = next(one for one in self.windows if not known[one.index].all())
        if window is not self._window:
            self._window, self._passes_before_window = window, state.forward_passes
        inner = State(
            rearrange(ids[window.index], "b h w -> b (h w)"),
            rearrange(known[window.index], "b h w -> b (h w)"),
            state.forward_passes - self._passes_before_window,
        )
        return window, inner

    def _with_window(self, state: State, window: Window, drawn: State) -> State:
        """Return the state after a step of a window."""
        ids, known = (tensor.unflatten(1, self.grid).clone() for tensor in (state.ids, state.settled))
        ids[window.index] = rearrange(drawn.ids, "b (h w) -> b h w", h=window.side)
        known[window.index] = rearrange(drawn.settled, "b (h w) -> b h w", h=window.side)
        return State(ids.flatten(1), known.flatten(1), state.forward_passes + 1)


def denoise_windows(denoiser: ImageDenoiser, canvas: Canvas, windows: Sequence[Window]) -> Iterator[State]:
    """Yield states of the canvas, `Canvas.at`, before and after every forward pass over one window after the other."""
    is_one_window = canvas.known[0].numel() == denoiser.num_codes
    decoder = denoiser if is_one_window else CanvasDenoiser(denoiser, canvas.grid, windows)
    return trajectory(canvas.start(denoiser.vocabulary), decoder.advance)


def unknown_windows(canvas: Canvas, windows: Sequence[Window]) -> list[Window]:
    """Return the windows in which something is unknown when their turn comes."""
    known, left = canvas.known.clone(), []
    for window in windows:
        if not known[window.index].all():
            left.append(window)
            known[window.index] = True
    return left


def _starts(length: int, side: int) -> list[int]:
    """Return where windows begin that cover a length, half a side apart."""
    if length < side:
        raise InputError(f"an image of {length} codes along one side is too small: the model draws {side} x {side}")
    return [*range(0, length - side, max(side // 2, 1)), length - side]
