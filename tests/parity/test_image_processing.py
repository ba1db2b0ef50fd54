"""Resizing, cropping and scaling equal those of the published code, bit for bit."""

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from showo_turbo.processing.image_files import image_to_pixels, load_image, resize_and_crop
from showo_turbo.processing.images import pixels_to_images

CASES = [("256x256", 256), ("389x300", 256), ("389x300", 512), ("300x701", 256), ("300x701", 512)]


@pytest.fixture(scope="module")
def folder(golden: Path) -> Path:
    return golden / "magvit"


def preprocess(folder: Path, size: str, resolution: int) -> Image.Image:
    return resize_and_crop(load_image(folder / f"img_{size}.png"), resolution)


@pytest.mark.parametrize("size", ["256x256", "389x300", "300x701"])
def test_resize_and_crop(folder: Path, size: str):
    with np.load(folder / "magvit.npz") as arrays:
        assert np.array_equal(preprocess(folder, size, 256), arrays[f"pre_{size}_r256_u8"])


@pytest.mark.parametrize(("size", "resolution"), CASES)
def test_checksums(folder: Path, size: str, resolution: int):
    expected = json.loads((folder / "info.json").read_text())[f"{size}_r{resolution}"]
    image = preprocess(folder, size, resolution)
    pixels = image_to_pixels(image)
    assert list(pixels.shape) == expected["shape"]
    assert pixels[:, :2, :2].tolist() == expected["corner"]
    assert zlib.crc32(np.asarray(image).tobytes()) == expected["crc32_of_uint8_hwc"]
    assert zlib.crc32(pixels.numpy().tobytes()) == expected["crc32_of_float32_chw"]
    assert pixels.double().sum().item() == pytest.approx(expected["sum"], rel=1e-9)
    assert pixels.double().abs().sum().item() == pytest.approx(expected["sum_abs"], rel=1e-9)


def test_pixels_are_clamped_and_truncated(folder: Path):
    with np.load(folder / "magvit.npz") as arrays:
        pixels = torch.from_numpy(arrays["decode_8x8_f32"])
        expected = arrays["decode_8x8_uint8_hwc"]
    assert np.array_equal(np.stack([np.asarray(image) for image in pixels_to_images(pixels)]), expected)
