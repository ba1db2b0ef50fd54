"""Plot how images and answers come about, pass by pass, as in figure 2 of the paper (arXiv 2502.05415)."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from showo_turbo.errors import InputError
from showo_turbo.files import atomic_file
from showo_turbo.outputs import AnswerFrame, CanvasFrame, ImageOutput, TextOutput
from showo_turbo.plots import canvas_frames, token_frames
from showo_turbo.plots.blocks import INK, below, beside, blank, framed, text_block
from showo_turbo.validation import check_integer, shown

_MARGIN, _GAP = 16, 18
_TITLE, _LABEL = 17, 14
_TOKENS_WIDTH = 620
_ANIMATED_SIDE = 288
_COLORS = 128
_MILLISECONDS, _LAST_MILLISECONDS = 500, 2500

Trajectory = Sequence[CanvasFrame] | Sequence[AnswerFrame]


def plot_trajectory(
    *outputs: ImageOutput | TextOutput,
    index: int = 0,
    title: str = "",
    labels: Sequence[str] = (),
    image: Image.Image | None = None,
    max_frames: int = 8,
) -> Image.Image:
    """Plot the trajectories of one output or several as a picture.

        output = pipe.text_to_image("a red circle", return_trajectory=True)
        plot_trajectory(output, title="a red circle")

    Args:
        *outputs: of calls with `return_trajectory=True`, all images or all answers, for comparison.
        index: which image or answer of each output.
        title: such as the prompt or the question.
        labels: one for each output, such as names of models; the number of passes is added.
        image: what a question is about.
        max_frames: passes to show of each, evenly spread, with the start and the end.

    Raises:
        InputError: if an output has no trajectory, images and answers are mixed, or a number is out of its range.
    """
    check_integer("max_frames", max_frames, 1)
    chosen = _check(outputs, index, labels)
    strips = []
    for trajectory, label in zip(chosen, _labels(chosen, labels), strict=True):
        if isinstance(outputs[0], ImageOutput):
            strip = canvas_frames.film_strip(trajectory, index, max_frames)  # type: ignore[arg-type]
        else:
            strip = token_frames.iterates(trajectory, max_frames, _TOKENS_WIDTH)  # type: ignore[arg-type]
        strips.append(below([text_block(label, _LABEL, strip.width), strip], 8))
    if isinstance(outputs[0], ImageOutput):
        return _page(title, below(strips, _GAP), image)
    return _page(title, below([beside(strips, 2 * _GAP), token_frames.legend(_TOKENS_WIDTH)], _GAP), image)


def animate_trajectory(
    *outputs: ImageOutput | TextOutput,
    index: int = 0,
    title: str = "",
    labels: Sequence[str] = (),
    image: Image.Image | None = None,
) -> list[Image.Image]:
    """Return a picture for every pass, with the outputs side by side; one that is finished waits for the others.

    `save_animation` writes them. Arguments and errors are those of `plot_trajectory`.
    """
    chosen = _check(outputs, index, labels)
    names = _labels(chosen, labels)
    rows = []
    for number in range(max(map(len, chosen))):
        panels = []
        for trajectory, label in zip(chosen, names, strict=True):
            now = min(number, len(trajectory) - 1)
            if isinstance(outputs[0], ImageOutput):
                panel = canvas_frames.captioned(trajectory, now, index, _ANIMATED_SIDE)  # type: ignore[arg-type]
            else:
                panel = token_frames.labelled(trajectory, now, _TOKENS_WIDTH)  # type: ignore[arg-type]
            panels.append(below([text_block(label, _LABEL, panel.width), panel], 8))
        rows.append(beside(panels, _GAP))
    width, height = (max(getattr(row, name) for row in rows) for name in ("width", "height"))
    parts = [token_frames.legend(width)] if isinstance(outputs[0], TextOutput) else []
    return [_page(title, below([_padded(row, width, height), *parts], _GAP), image) for row in rows]


def save_animation(pictures: Sequence[Image.Image], path: Path) -> None:
    """Write pictures as an animated GIF or WebP that repeats, atomically.

    Raises:
        InputError: if the name ends in neither .gif nor .webp.
    """
    kinds = {".gif": "GIF", ".webp": "WEBP"}
    if path.suffix.lower() not in kinds:
        raise InputError(f"animation {str(path)!r} must end in .gif or .webp")
    kind = kinds[path.suffix.lower()]
    if kind == "GIF":  # flat colors compress well without dithering
        pictures = [picture.quantize(_COLORS, dither=Image.Dither.NONE) for picture in pictures]
    durations = [_MILLISECONDS] * (len(pictures) - 1) + [_LAST_MILLISECONDS]
    with atomic_file(path) as partial:
        pictures[0].save(
            partial,
            format=kind,
            save_all=True,
            append_images=list(pictures[1:]),
            duration=durations,
            loop=0,
            lossless=True,  # of WebP
        )


def _check(outputs: Sequence[ImageOutput | TextOutput], index: int, labels: Sequence[str]) -> list[Trajectory]:
    """Return the trajectory of each output.

    Raises:
        InputError: as `plot_trajectory`.
    """
    if not outputs:
        raise InputError("outputs are missing: give at least one")
    if labels and len(labels) != len(outputs):
        raise InputError(f"labels are {len(labels)} for {len(outputs)} outputs: give one for each")
    chosen: list[Trajectory] = []
    for output in outputs:
        if not isinstance(output, ImageOutput | TextOutput):
            raise InputError(f"output is {shown(output)}: expected the output of a pipeline")
        if type(output) is not type(outputs[0]):
            raise InputError("outputs are images and answers: give either, not both")
        if output.trajectory is None:
            raise InputError("output has no trajectory: pass return_trajectory=True to the pipeline")
        count = len(output.codes) if isinstance(output, ImageOutput) else len(output.texts)
        check_integer("index", index, 0, count - 1)
        chosen.append(output.trajectory if isinstance(output, ImageOutput) else output.trajectory[index])
    return chosen


def _labels(trajectories: Sequence[Trajectory], labels: Sequence[str]) -> list[str]:
    passes = [trajectory[-1].forward_passes for trajectory in trajectories]
    counts = [f"{number} pass{'es' * (number != 1)}" for number in passes]
    return [f"{label}: {count}" for label, count in zip(labels, counts, strict=True)] if labels else counts


def _page(title: str, body: Image.Image, image: Image.Image | None) -> Image.Image:
    """Return the body below a title, with an image beside the title."""
    parts = [text_block(title, _TITLE, body.width, INK)] if title else []
    if image is not None:
        picture = image.convert("RGB")
        picture = picture.resize((96, round(96 * picture.height / picture.width)), Image.Resampling.BICUBIC)
        text = text_block(title, _TITLE, max(1, body.width - picture.width - _GAP), INK)
        parts = [beside([picture, text], _GAP)]
    return framed(below([*parts, body], _GAP), _MARGIN)


def _padded(picture: Image.Image, width: int, height: int) -> Image.Image:
    page = blank(width, height)
    page.paste(picture, (0, 0))
    return page
