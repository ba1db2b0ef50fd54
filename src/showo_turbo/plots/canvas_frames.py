"""Draw images on their way: codes that are masked are grey, those that the last pass has settled are outlined."""

from collections.abc import Sequence

from PIL import Image, ImageDraw

from showo_turbo.outputs import CanvasFrame
from showo_turbo.plots.blocks import MASK, MASK_DOT, QUIET, SETTLED_EDGE, below, beside, evenly, text_block

SIDE = 144
"""Width of an image in a film strip, in pixels."""

_CAPTION, _SMALL = 13, 12


def draw_canvas(frames: Sequence[CanvasFrame], number: int, index: int, width: int) -> Image.Image:
    """Return an image of a batch after a number of frames, as a picture of a width in pixels."""
    frame = frames[number]
    image = frame.images[index]
    picture = image.resize((width, round(width * image.height / image.width)), Image.Resampling.BICUBIC).convert("RGB")
    known = frame.known[index].tolist()
    before = frames[number - 1].known[index].tolist() if number else known
    rows, columns = len(known), len(known[0])
    finished = frame.known[index].all()
    draw = ImageDraw.Draw(picture)
    for row in range(rows):
        for column in range(columns):
            left, right = (round(one * picture.width / columns) for one in (column, column + 1))
            top, bottom = (round(one * picture.height / rows) for one in (row, row + 1))
            if not known[row][column]:
                draw.rectangle((left, top, right - 1, bottom - 1), fill=MASK)
                if right - left >= 8:
                    middle = ((left + right) // 2, (top + bottom) // 2)
                    draw.ellipse((middle[0] - 1, middle[1] - 1, middle[0] + 1, middle[1] + 1), fill=MASK_DOT)
            elif not before[row][column] and not finished:
                draw.rectangle((left, top, right - 1, bottom - 1), outline=SETTLED_EDGE, width=1 + width // 200)
    draw.rectangle((0, 0, picture.width - 1, picture.height - 1), outline=MASK_DOT)
    return picture


def captioned(frames: Sequence[CanvasFrame], number: int, index: int, width: int) -> Image.Image:
    """Return `draw_canvas` with the pass and the number of settled codes below."""
    known = frames[number].known[index]
    title = f"pass {frames[number].forward_passes}" if number else "start"
    settled = f"{int(known.sum())} of {known.numel()} settled"
    caption = [text_block(title, _CAPTION, width), text_block(settled, _SMALL, width, QUIET)]
    return below([draw_canvas(frames, number, index, width), below(caption, 0)], 4)


def film_strip(frames: Sequence[CanvasFrame], index: int, most: int) -> Image.Image:
    """Return up to `most` frames side by side, evenly spread over the trajectory."""
    return beside([captioned(frames, number, index, SIDE) for number in evenly(len(frames), most)], 10)
