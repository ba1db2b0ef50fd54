"""Blocks of a picture, stacked side by side or one below the other, so that nothing overlaps."""

from collections.abc import Sequence
from functools import cache

from PIL import Image, ImageDraw, ImageFont

PAPER, INK, QUIET, LINE = "#ffffff", "#1a1d23", "#4d5561", "#c9cdd4"
MASK, MASK_DOT = "#d3d5d0", "#8d938f"
SETTLED, SETTLED_EDGE = "#d3f1eb", "#0e9d8b"

_LINE_SPACING = 1.3


@cache
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return Pillow's own font."""
    return ImageFont.load_default(size)


def blank(width: int, height: int) -> Image.Image:
    """Return an empty block."""
    return Image.new("RGB", (max(1, width), max(1, height)), PAPER)


def text_block(text: str, size: int, width: int, color: str = INK) -> Image.Image:
    """Return a block of a width with a text, wrapped between words, or within one that is wider than the block."""
    lines = wrap(text, size, width)
    height = round(size * _LINE_SPACING)
    block = blank(width, height * len(lines))
    draw = ImageDraw.Draw(block)
    for number, line in enumerate(lines):
        draw.text((0, number * height), line, fill=color, font=font(size))
    return block


def wrap(text: str, size: int, width: int) -> list[str]:
    """Return the lines of a text in a column of a width in pixels; at least one."""
    lines = [""]
    for word in text.split():
        joined = f"{lines[-1]} {word}".strip()
        if font(size).getlength(joined) <= width:
            lines[-1] = joined
            continue
        lines += [""] if lines[-1] else []
        for letter in word:
            if lines[-1] and font(size).getlength(lines[-1] + letter) > width:
                lines.append("")
            lines[-1] += letter
    return lines


def beside(blocks: Sequence[Image.Image], gap: int) -> Image.Image:
    """Return blocks side by side, their upper edges in line."""
    width = sum(block.width for block in blocks) + gap * (len(blocks) - 1)
    row, left = blank(width, max(block.height for block in blocks)), 0
    for block in blocks:
        row.paste(block, (left, 0))
        left += block.width + gap
    return row


def below(blocks: Sequence[Image.Image], gap: int) -> Image.Image:
    """Return blocks one below the other, their left edges in line."""
    height = sum(block.height for block in blocks) + gap * (len(blocks) - 1)
    column, top = blank(max(block.width for block in blocks), height), 0
    for block in blocks:
        column.paste(block, (0, top))
        top += block.height + gap
    return column


def framed(block: Image.Image, margin: int) -> Image.Image:
    """Return a block with a margin on all sides."""
    page = blank(block.width + 2 * margin, block.height + 2 * margin)
    page.paste(block, (margin, margin))
    return page


def evenly(count: int, most: int) -> list[int]:
    """Return up to `most` of the numbers from 0 to count - 1, evenly spread, with the first and the last."""
    if count <= most:
        return list(range(count))
    return sorted({round(number * (count - 1) / (most - 1)) for number in range(most)}) if most > 1 else [count - 1]
