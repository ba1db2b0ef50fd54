"""Sizes and costs of requests that draw, checked before they are given to the worker."""

from typing import Any

from showo_turbo.pipelines.pipeline import ShowoPipeline
from showo_turbo.serving.http.error_bodies import invalid
from showo_turbo.serving.limits import LimitOptions
from showo_turbo.serving.requests import DrawingRequest, ExtrapolateRequest, ImageRequest
from showo_turbo.validation import shown


def windows_of(request: DrawingRequest, pipe: ShowoPipeline) -> int:
    """Return the number of windows that a request of the HTTP interface draws."""
    side, half = pipe.grid_size, max(pipe.grid_size // 2, 1)

    def along(codes: int) -> int:
        return -(-max(codes - side, 0) // half) + 1

    if isinstance(request, ImageRequest):
        factor = pipe.resolution // side
        height, width = (pixels or pipe.resolution for pixels in (request.height, request.width))
        return along(height // factor) * along(width // factor)
    height, width = (side, side) if request.codes is None else request.codes.shape[-2:]
    if not isinstance(request, ExtrapolateRequest):
        return along(height) * along(width)
    windows, added = 0, half + request.offset
    for direction in request.direction:
        if direction in ("up", "down"):
            height, windows = height + added, windows + along(width)
        else:
            width, windows = width + added, windows + along(height)
    return windows


def size_of(body: Any, pipe: ShowoPipeline) -> dict[str, int]:
    """Return height and width of `size`, by name; nothing for "auto".

    Raises:
        ApiError: if it is no size.
        InputError: if the model draws none of this size.
    """
    if body.size in (None, "", "auto"):
        return {}
    width, cross, height = body.size.partition("x")
    if not (cross and width.isascii() and height.isascii() and width.isdecimal() and height.isdecimal()):
        raise invalid("size", f"size is {shown(body.size)}: choose 'WIDTHxHEIGHT' in pixels, or 'auto'")
    if max(len(width), len(height)) > 6:
        raise invalid("size", f"size is {shown(body.size)}: choose less")
    size = {"height": int(height), "width": int(width)}
    for pixels in size.values():
        pipe.codes_along("size", pixels)
    return size


def check_cost(limits: LimitOptions, request: DrawingRequest, pipe: ShowoPipeline) -> None:
    """Check that a request stays within the limits of the server.

    Raises:
        ApiError: if it draws too many images, steps or windows.
    """
    steps = request.num_inference_steps  # type: ignore[union-attr]
    if request.num_images_per_prompt > limits.max_images:
        raise invalid("n", f"n is {request.num_images_per_prompt}: choose 1 to {limits.max_images}")
    if steps is not None and steps > limits.max_steps:
        raise invalid("num_inference_steps", f"num_inference_steps is {steps}: choose 1 to {limits.max_steps}")
    if windows_of(request, pipe) > limits.max_windows:
        name = "direction" if isinstance(request, ExtrapolateRequest) else "size"
        raise invalid(name, f"{name} takes {windows_of(request, pipe)} windows: choose at most {limits.max_windows}")
