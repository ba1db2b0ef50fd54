"""Mask images: Show-o's rule at every resolution, and shapes in the alpha channel."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from showo_turbo.errors import InputError
from showo_turbo.processing.masks import load_mask, mask_to_grid


def show_o_rule(mask: Image.Image, resolution: int, factor: int) -> list:
    """Return the rule step by step: resize, crop, scale, interpolate, compare."""
    gray = mask.convert("L")
    shorter = min(gray.size)
    gray = gray.resize([int(resolution * side / shorter) for side in gray.size], Image.Resampling.BICUBIC)
    left, top = (round((side - resolution) / 2) for side in gray.size)
    square = torch.from_numpy(np.array(gray.crop((left, top, left + resolution, top + resolution))))
    sampled = F.interpolate(square[None, None].float().div(255), size=resolution // factor, mode="bicubic")
    return (sampled >= 0.5)[0, 0].tolist()


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10_000),
    size=st.tuples(st.integers(200, 700), st.integers(200, 700)),
    sizes=st.sampled_from([(256, 16), (512, 16), (64, 8)]),
)
def test_masks_follow_show_o(seed: int, size: tuple[int, int], sizes: tuple[int, int]) -> None:
    rng = np.random.default_rng(seed)
    mask = Image.new("L", size)
    draw = ImageDraw.Draw(mask)
    for width in (1, 2, 3, 40):
        draw.line([tuple(rng.integers(0, size, 2).tolist()) for _ in range(3)], fill=255, width=width)
    resolution, factor = sizes
    assert mask_to_grid(mask, resolution, resolution // factor).tolist() == show_o_rule(mask, resolution, factor)


@pytest.mark.parametrize("resolution", [256, 512])
def test_a_thin_stroke_counts_where_it_crosses_the_middle_of_a_code(resolution: int) -> None:
    mask = Image.new("L", (resolution, resolution))
    ImageDraw.Draw(mask).rectangle((39, 0, 40, resolution), fill=255)  # columns 39 and 40 are the middle of code 2
    grid = mask_to_grid(mask, resolution, resolution // 16)
    assert grid[:, 2].all()
    assert grid.sum() == resolution // 16


def with_hole(color: str, mode: str = "RGBA") -> Image.Image:
    """Return a mask of one color whose left half is transparent."""
    alpha = Image.new("L", (32, 32), 255)
    alpha.paste(0, (0, 0, 16, 32))
    mask = Image.new("RGB", (32, 32), color).convert({"LA": "L", "PA": "P"}.get(mode, "RGB"))
    mask.putalpha(alpha)
    return mask


LEFT = [[True, True, False, False]] * 4


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
@pytest.mark.parametrize("color", ["white", "black", "gray", "#4080c0"])
def test_the_transparent_part_is_redrawn(mode: str, color: str) -> None:
    mask = with_hole(color, mode)
    assert mask.mode == mode
    assert mask_to_grid(mask, 32, 4).tolist() == LEFT


@pytest.mark.parametrize("mode", ["RGBa", "La"])
def test_premultiplied_alpha_is_alpha(mode: str) -> None:
    mask = with_hole("gray", "LA" if mode == "La" else "RGBA").convert(mode)
    assert mask_to_grid(mask, 32, 4).tolist() == LEFT


def test_an_image_with_a_hole_is_a_mask() -> None:
    noise = Image.effect_noise((32, 32), 60).convert("RGB")
    noise.putalpha(with_hole("white").getchannel("A"))
    noise.paste((0, 0, 0, 0), (0, 0, 16, 32))
    assert mask_to_grid(noise, 32, 4).tolist() == LEFT


def test_a_palette_with_a_transparent_color_is_a_mask() -> None:
    mask = Image.new("P", (32, 32))
    mask.putpalette([255, 255, 255, 255, 255, 254])
    mask.paste(1, (0, 0, 16, 32))
    mask.info["transparency"] = 1
    assert mask_to_grid(mask, 32, 4).tolist() == LEFT


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_an_opaque_alpha_channel_leaves_the_mask_as_it_is(mode: str) -> None:
    painted = Image.new("L", (32, 32))
    painted.paste(255, (0, 0, 16, 32))
    mask = painted.convert(mode)
    assert mask_to_grid(mask, 32, 4).tolist() == LEFT
    mask.putalpha(Image.effect_noise((32, 32), 10).point(lambda level: 240 + level // 20))
    assert mask_to_grid(mask, 32, 4).tolist() == LEFT


def test_black_and_white_and_transparency_that_agree_are_one_mask() -> None:
    mask = with_hole("black")
    mask.paste((255, 255, 255, 0), (0, 0, 16, 32))
    assert mask_to_grid(mask, 32, 4).tolist() == LEFT


def test_masks_that_contradict_themselves_are_refused() -> None:
    strokes = Image.new("RGBA", (32, 32), (0, 0, 0, 0))
    strokes.paste((255, 255, 255, 255), (0, 0, 16, 32))
    with pytest.raises(InputError, match="white in one part and transparent in another"):
        load_mask(strokes)
    for alpha in (0, 1, 100):
        with pytest.raises(InputError, match="mask is transparent everywhere"):
            load_mask(Image.new("RGBA", (32, 32), (255, 255, 255, alpha)))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("color", ["white", "black", "gray"])
@pytest.mark.parametrize("alpha", [128, 180, 215])
def test_a_shape_of_little_transparency_alone_is_refused(mode: str, color: str, alpha: int) -> None:
    mask = Image.new("RGBA", (32, 32), color)
    mask.paste((*mask.getpixel((0, 0))[:3], alpha), (0, 0, 16, 32))
    with pytest.raises(InputError, match=r"its shape in its transparency, which is at most \d+%: make it transparent"):
        load_mask(mask.convert(mode))
