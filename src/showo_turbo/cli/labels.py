"""Pictures with a line of text under them."""

from textwrap import wrap

from PIL import Image, ImageDraw, ImageFont

_FONT_SIZE = 13
_LINES = 4
_MARGIN = 6


def labelled(image: Image.Image, text: str, side: int) -> Image.Image:
    """A picture scaled to a square of `side` pixels, in a white cell with the text below it.

    All cells of one side are equally large; what does not fit in four lines is cut.
    """
    font = ImageFont.load_default(_FONT_SIZE)
    line_height = _FONT_SIZE + 3
    cell = Image.new("RGB", (side + 2 * _MARGIN, side + _LINES * line_height + 3 * _MARGIN), "white")
    draw = ImageDraw.Draw(cell)
    draw.rectangle((_MARGIN - 1, _MARGIN - 1, _MARGIN + side, _MARGIN + side), outline="gray")
    cell.paste(image.resize((side, side), Image.Resampling.BICUBIC), (_MARGIN, _MARGIN))
    characters = int(side / (font.getlength(text) / len(text)))
    for number, line in enumerate(wrap(text, characters, max_lines=_LINES, placeholder=" ...")):
        draw.text((_MARGIN, side + 2 * _MARGIN + number * line_height), line, fill="black", font=font)
    return cell
