"""Render the sprites of the clip-art world from the icon set Fluent Emoji (flat), and store them as palette PNGs.

    npm pack @iconify-json/fluent-emoji-flat@1.2.6 && tar xzf iconify-json-fluent-emoji-flat-1.2.6.tgz
    pip install resvg_py
    python scripts/make_clipart_sprites.py package/icons.json

Each class has one file, a row of 128 x 128 pixels on white for each of its looks. A tinted class is recoloured in its
SVG: every fill close to the main one's hue takes the hue of the color, so windows, wheels and stems keep theirs.
"""

import colorsys
import io
import json
import re
import sys
from pathlib import Path

import resvg_py
from PIL import Image

from showo_turbo.scenes.clipart.sprites import COLORS_OF, FOLDER, SPRITE_SIZE

ICONS = {
    "apple": "red-apple",
    "balloon": "balloon",
    "basketball": "basketball",
    "boat": "sailboat",
    "book": "closed-book",
    "bottle": "bottle-with-popping-cork",
    "cake": "shortcake",
    "car": "automobile",
    "cell phone": "mobile-phone",
    "clock": "alarm-clock",
    "cup": "hot-beverage",
    "donut": "doughnut",
    "flower": "tulip",
    "heart": "heart-suit",
    "house": "house",
    "knife": "kitchen-knife",
    "orange": "tangerine",
    "sheep": "ewe",
    "shirt": "t-shirt",
    "suitcase": "luggage",
    "tennis racket": "tennis",
    "traffic light": "vertical-traffic-light",
    "train": "locomotive",
    "tree": "deciduous-tree",
    "truck": "delivery-truck",
    "tv": "television",
    "vase": "amphora",
}
"""Icons of classes that have another name in the icon set."""

MAIN_FILL = {
    "apple": "#f8312f",
    "balloon": "#f8312f",
    "bicycle": "#f92f60",
    "book": "#ca0b4a",
    "car": "#f8312f",
    "chair": "#a56953",
    "flower": "#ff6dc6",
    "heart": "#f8312f",
    "shirt": "#86d72f",
    "star": "#fcd53f",
    "umbrella": "#8d65c5",
}
"""The fill of every tinted class that becomes the color itself; similar ones become shades of it."""

MAX_HUE_DISTANCE = 0.13
MIN_SATURATION = 0.3
MAX_COLORS = 64
RGB = {"red": (244, 48, 46), "green": (30, 170, 60), "blue": (40, 105, 240), "yellow": (252, 208, 40)}


def svg_of(icon: dict) -> str:
    """Return the SVG document of an icon of the set."""
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32" width="32" height="32">{icon["body"]}</svg>'


def tinted(svg: str, main_fill: str, color: str) -> str:
    """Return an SVG in which the fills close to the main one's hue have the hue of a color, and their own shade."""
    main, target = _hsv(main_fill), colorsys.rgb_to_hsv(*(channel / 255 for channel in RGB[color]))

    def replace(fill: re.Match) -> str:
        hue, saturation, value = _hsv(fill[0])
        distance = abs(hue - main[0])
        if saturation < MIN_SATURATION or min(distance, 1 - distance) > MAX_HUE_DISTANCE:
            return fill[0]
        shade = min(1.0, target[1] * saturation / main[1]), min(1.0, target[2] * value / main[2])
        return "#" + "".join(f"{round(255 * channel):02X}" for channel in colorsys.hsv_to_rgb(target[0], *shade))

    return re.sub(r"#[0-9A-Fa-f]{3,6}", replace, svg)


def _hsv(fill: str) -> tuple[float, float, float]:
    digits = fill[1:] if len(fill) == 7 else "".join(2 * digit for digit in fill[1:])
    return colorsys.rgb_to_hsv(*(int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)))


def rendered(svg: str) -> Image.Image:
    """Render an SVG on white."""
    png = resvg_py.svg_to_bytes(svg_string=svg, width=SPRITE_SIZE, height=SPRITE_SIZE)
    icon = Image.open(io.BytesIO(bytes(png))).convert("RGBA")
    sprite = Image.new("RGB", icon.size, "white")
    sprite.paste(icon, mask=icon)
    return sprite


def main() -> None:
    """Write the file of every class."""
    icons = json.loads(Path(sys.argv[1]).read_text())["icons"]
    FOLDER.mkdir(exist_ok=True)
    for noun, colors in COLORS_OF.items():
        svg = svg_of(icons[ICONS.get(noun, noun.replace(" ", "-"))])
        looks = [rendered(tinted(svg, MAIN_FILL[noun], color) if color else svg) for color in colors]
        row = Image.new("RGB", (SPRITE_SIZE * len(looks), SPRITE_SIZE))
        for column, look in enumerate(looks):
            row.paste(look, (column * SPRITE_SIZE, 0))
        row.quantize(MAX_COLORS, Image.Quantize.MEDIANCUT).save(FOLDER / f"{noun}.png", optimize=True)


if __name__ == "__main__":
    main()
