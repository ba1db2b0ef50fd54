"""Draw answers on their way: settled tokens are green, those that the last pass has settled outlined, guesses grey."""

from collections.abc import Sequence

from PIL import Image, ImageDraw

from showo_turbo.outputs import AnswerFrame
from showo_turbo.plots.blocks import (
    INK,
    LINE,
    MASK,
    QUIET,
    SETTLED,
    SETTLED_EDGE,
    below,
    beside,
    blank,
    evenly,
    font,
    text_block,
)

_SIZE = 14
_HEIGHT = 24
_GAP = 5
_LABEL = 56
_LONGEST = 40
"""Characters of a token that are drawn."""


def _shown(token: str) -> str:
    text = token.strip(" ").replace("\n", "\\n")[:_LONGEST]
    return text or "·"


def _box(text: str, is_settled: bool, is_new: bool) -> Image.Image:
    """Return a token in a box."""
    width = round(font(_SIZE).getlength(text)) + 12
    block = blank(width, _HEIGHT)
    draw = ImageDraw.Draw(block)
    fill, edge = (SETTLED, SETTLED_EDGE if is_new else SETTLED) if is_settled else (MASK, MASK)
    draw.rounded_rectangle((0, 0, width - 1, _HEIGHT - 1), 4, fill=fill, outline=edge, width=2)
    draw.text((6, _HEIGHT / 2), text, fill=INK if is_settled else QUIET, font=font(_SIZE), anchor="lm")
    return block


def draw_tokens(frames: Sequence[AnswerFrame], number: int, width: int) -> Image.Image:
    """Return the tokens of a frame in lines of a width in pixels."""
    frame = frames[number]
    before = frames[number - 1].num_settled if number else 0
    lines: list[list[Image.Image]] = [[]]
    for position, token in enumerate(frame.tokens):
        box = _box(_shown(token), position < frame.num_settled, position >= before)
        if lines[-1] and sum(one.width + _GAP for one in lines[-1]) + box.width > width:
            lines.append([])
        lines[-1].append(box)
    filled = [beside(line, _GAP) for line in lines if line]
    return below([*filled, blank(width, 1)], _GAP) if filled else blank(width, _HEIGHT)


def labelled(frames: Sequence[AnswerFrame], number: int, width: int) -> Image.Image:
    """Return `draw_tokens` with the pass to the left."""
    title = f"pass {frames[number].forward_passes}" if number else "start"
    label = below([blank(_LABEL, 4), text_block(title, 13, _LABEL, QUIET)], 0)
    return beside([label, draw_tokens(frames, number, width - _LABEL - 8)], 8)


def iterates(frames: Sequence[AnswerFrame], most: int, width: int) -> Image.Image:
    """Return up to `most` iterates one below the other, with lines between them."""
    rows: list[Image.Image] = []
    for number in evenly(len(frames), most):
        rule = Image.new("RGB", (width, 1), LINE)
        rows += [*([rule] if rows else []), labelled(frames, number, width)]
    return below(rows, 4)


def legend(width: int) -> Image.Image:
    """Return what the boxes mean."""
    boxes = [_box("settled", True, False), _box("settled by this pass", True, True), _box("guess", False, False)]
    line = beside(boxes, 10)
    return line if line.width <= width else below(boxes, _GAP)
