"""Draw a label under an image."""

from textwrap import wrap

from PIL import Image, ImageDraw, ImageFont

_FONT_SIZE = 13
_LINES = 4
_MARGIN = 6


def label_image(image: Image.Image, text: str, height: int) -> Image.Image:
    """Return an image scaled to `height` pixels, in a white cell with a text below it.

    Cells of images of one shape are equally large; text beyond four lines is cut.
    """
    width = round(height * image.width / image.height)
    font = ImageFont.load_default(_FONT_SIZE)
    line_height = _FONT_SIZE + 3
    cell = Image.new("RGB", (width + 2 * _MARGIN, height + _LINES * line_height + 3 * _MARGIN), "white")
    draw = ImageDraw.Draw(cell)
    draw.rectangle((_MARGIN - 1, _MARGIN - 1, _MARGIN + width, _MARGIN + height), outline="gray")
    cell.paste(image.resize((width, height), Image.Resampling.BICUBIC), (_MARGIN, _MARGIN))
    characters = int(width / (font.getlength(text) / len(text)))
    for number, line in enumerate(wrap(text, characters, max_lines=_LINES, placeholder=" ...")):
        draw.text((_MARGIN, height + 2 * _MARGIN + number * line_height), line, fill="black", font=font)
    return cell
