"""Images: reading, preprocessing, masks, grids, and invalid input."""

import contextlib
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, features

from showo_turbo.errors import InputError
from showo_turbo.processing.image_files import image_to_pixels, load_image, preprocess_images, resize_and_crop
from showo_turbo.processing.images import make_grid, pixels_to_images
from showo_turbo.processing.masks import mask_to_grid


def png(image: Image.Image) -> io.BytesIO:
    file = io.BytesIO()
    image.save(file, format="PNG")
    file.seek(0)
    return file


def test_an_image_is_a_path_a_file_or_a_pil_image(tmp_path: Path):
    image = Image.new("RGB", (4, 3), "red")
    path = tmp_path / "red.png"
    image.save(path)
    for source in (path, str(path), png(image), image):
        assert load_image(source).tobytes() == image.tobytes()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I", "F", "I;16"])
def test_every_color_mode_is_converted_to_rgb(mode: str):
    assert load_image(Image.new(mode, (4, 3))).mode == "RGB"


def test_the_exif_orientation_is_applied():
    image, exif = Image.new("RGB", (4, 2)), Image.Exif()
    exif[0x0112] = 6  # the camera was held sideways
    file = io.BytesIO()
    image.save(file, format="JPEG", exif=exif)
    file.seek(0)
    assert load_image(file).size == (2, 4)


def test_16_bits_are_scaled_to_8():
    ramp = np.linspace(0, 65535, 256).astype(np.uint16)[None].repeat(2, 0)
    loaded = np.asarray(load_image(png(Image.fromarray(ramp))))[0, :, 0]
    assert np.array_equal(loaded, np.arange(256))
    dark = Image.fromarray(np.array([[0x2000, 0xFFFF]], dtype=np.uint16))
    assert mask_to_grid(dark.resize((8, 8), Image.Resampling.NEAREST), 8, 2).tolist() == [[False, True]] * 2


@pytest.mark.filterwarnings("ignore")  # PIL's own, about what it could still read
def test_an_image_with_damaged_metadata_is_read():
    """Its orientation is unknown, its pixels are valid."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "maker"
    file = io.BytesIO()
    Image.new("RGB", (4, 2), "red").save(file, format="JPEG", exif=exif)
    content = file.getvalue()
    tag = content.index(b"\x01\x0f\x00\x02") + 3
    for kind in range(13):
        assert load_image(io.BytesIO(content[:tag] + bytes([kind]) + content[tag + 1 :])).size in ((4, 2), (2, 4))


@pytest.mark.filterwarnings("ignore")  # PIL's own, about what it could still read
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "TIFF", "AVIF"])
def test_a_damaged_file_is_read_or_refused(kind: str):
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow reads no AVIF")
    file = io.BytesIO()
    Image.new("RGB", (20, 30), "red").save(file, kind)
    whole = file.getvalue()
    places = range(0, min(len(whole), 400), 3)
    damaged = [whole[:place] + b"\xff" + whole[place + 1 :] for place in places]
    for content in damaged + [whole[:place] for place in places]:
        with contextlib.suppress(InputError):
            assert load_image(io.BytesIO(content)).mode == "RGB"


def test_a_missing_file_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match=r"image '.*none\.png' does not exist"):
        load_image(tmp_path / "none.png")


def test_a_file_that_is_not_an_image_is_refused(tmp_path: Path):
    path = tmp_path / "notes.png"
    path.write_text("not an image")
    for source in (path, tmp_path, io.BytesIO(b"")):
        with pytest.raises(InputError, match="cannot be read"):
            load_image(source)


def test_a_truncated_file_is_refused():
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    half = png(Image.fromarray(noise)).getvalue()[:6000]
    for source in (io.BytesIO(half), Image.open(io.BytesIO(half))):
        with pytest.raises(InputError, match="cannot be read"):
            load_image(source)


def test_an_image_without_pixels_is_refused():
    with pytest.raises(InputError, match="has no pixels: its size is 0 x 5"):
        load_image(Image.new("RGB", (0, 5)))


def test_an_object_that_is_not_an_image_is_refused():
    with pytest.raises(InputError, match=r"image is a dict; expected a path, .* or an array"):
        load_image({"image": "a.png"})


def test_an_empty_list_of_images_is_refused():
    with pytest.raises(InputError, match="images is empty"):
        preprocess_images([], resolution=8)


@pytest.mark.parametrize(("size", "resolution", "message"), [((4, 4), 0, "resolution is 0"), ((2, 500), 8, "2 x 500")])
def test_sizes_that_cannot_be_cropped_are_refused(size: tuple[int, int], resolution: int, message: str):
    with pytest.raises(InputError, match=message):
        resize_and_crop(Image.new("RGB", size), resolution)


@given(st.integers(10, 60), st.integers(10, 60), st.integers(1, 40))
def test_every_image_is_cropped_to_a_square(width: int, height: int, resolution: int):
    image = resize_and_crop(Image.new("RGB", (width, height), "white"), resolution)
    assert image.size == (resolution, resolution)
    assert image.getextrema() == ((255, 255),) * 3  # no black border


def test_preprocessing_returns_a_batch():
    pixels = preprocess_images([Image.new("RGB", (20, 30), "white"), Image.new("L", (9, 9))], resolution=8)
    assert pixels.dtype == torch.float32
    assert torch.equal(pixels, torch.tensor([1.0, -1.0]).view(2, 1, 1, 1).expand(2, 3, 8, 8))


def test_pixels_convert_back_to_their_image_up_to_truncation():
    levels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    (image,) = pixels_to_images(image_to_pixels(Image.fromarray(levels))[None])
    difference = levels.astype(int) - np.asarray(image)
    assert difference.min() >= 0
    assert difference.max() <= 1


def test_pixels_outside_the_range_are_clamped():
    (image,) = pixels_to_images(torch.tensor([-9.0, 0.0, 9.0]).view(1, 3, 1, 1).requires_grad_())
    assert image.getpixel((0, 0)) == (0, 127, 255)


@pytest.mark.parametrize("shape", [(3, 4, 4), (1, 1, 4, 4)])
def test_pixels_of_another_shape_are_refused(shape: tuple[int, ...]):
    with pytest.raises(InputError, match=r"expected \(batch, 3, height, width\)"):
        pixels_to_images(torch.zeros(shape))


@pytest.mark.parametrize("mode", ["1", "L", "RGB"])
def test_a_mask_covers_codes_that_are_half_white_at_their_middle(mode: str):
    mask = Image.new(mode, (64, 64), "black")
    mask.paste(mask.copy().point(lambda _: 255).crop((0, 0, 21, 16)), (0, 16))  # 2.6 codes wide, 2 high
    expected = torch.zeros(8, 8, dtype=torch.bool)
    expected[2:4, :3] = True
    assert torch.equal(mask_to_grid(mask, resolution=64, grid_size=8), expected)


def test_a_mask_is_cropped_as_its_image():
    mask = Image.new("L", (32, 16))
    mask.paste(255, (0, 0, 16, 16))
    covered = mask_to_grid(mask, resolution=64, grid_size=4)
    assert covered.tolist() == [[True, True, False, False]] * 4


def test_an_invalid_grid_size_is_refused():
    with pytest.raises(InputError, match=r"grid_size is 9; expected 1\.\.8"):
        mask_to_grid(Image.new("L", (8, 8)), resolution=8, grid_size=9)


def test_make_grid_fills_rows_first():
    red, blue, green = (Image.new("RGB", (2, 3), colour) for colour in ("red", "blue", "lime"))
    grid = make_grid([red, blue, green], columns=2)
    assert grid.size == (4, 6)
    corners = [grid.getpixel(place) for place in ((0, 0), (3, 0), (0, 5), (3, 5))]
    assert corners == [(255, 0, 0), (0, 0, 255), (0, 255, 0), (255, 255, 255)]
    assert make_grid([red], columns=5).size == (2, 3)


def test_an_empty_grid_is_refused():
    with pytest.raises(InputError, match="a grid of 0 images in 2 columns"):
        make_grid([], columns=2)
    with pytest.raises(InputError, match="a grid of 1 images in 0 columns"):
        make_grid([Image.new("RGB", (1, 1))], columns=0)
