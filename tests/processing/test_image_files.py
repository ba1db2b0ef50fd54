"""Image files: allowed formats, files that are not plain, sizes, and gray levels of more than 8 bits."""

import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image

from showo_turbo.data.samples import BadSampleError
from showo_turbo.data.sources.webdataset import WebDataset
from showo_turbo.errors import InputError
from showo_turbo.processing import image_files, image_levels
from showo_turbo.processing.image_files import load_image, open_image

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n"


def encoded(image: Image.Image, kind: str, **options: object) -> io.BytesIO:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file


@pytest.fixture
def no_ghostscript(monkeypatch: pytest.MonkeyPatch) -> None:
    def started(*_: object, **__: object) -> None:
        pytest.fail("Ghostscript was started")

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", started)


@pytest.mark.usefixtures("no_ghostscript")
def test_an_eps_never_starts_ghostscript(tmp_path: Path) -> None:
    path = tmp_path / "drawing.png"
    path.write_bytes(EPS)
    dos = b"\xc5\xd0\xd3\xc6" + (32).to_bytes(4, "little") + len(EPS).to_bytes(4, "little") + bytes(20) + EPS
    with Image.open(path) as lazy:
        for source in (path, io.BytesIO(EPS), io.BytesIO(dos), lazy):
            with pytest.raises(InputError, match=r"expected AVIF|is an EPS file, which is not opened: choose AVIF"):
                load_image(source)
    with tarfile.open(tmp_path / "0.tar", "w") as archive:
        for name, content in (("a.png", EPS), ("a.txt", b"a drawing")):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    with pytest.raises(BadSampleError, match="cannot be read as an image"):
        WebDataset(tmp_path / "0.tar")[0]


@pytest.mark.parametrize("kind", ["ICO", "PCX", "SGI", "TGA", "PDF", "DDS"])
def test_other_formats_are_refused_whatever_their_name(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "image.jpg"
    path.write_bytes(encoded(Image.new("RGB", (16, 16), "red"), kind).getvalue())
    with pytest.raises(InputError, match=r"image '.*image.jpg' cannot be read as an image: expected AVIF, BMP, "):
        load_image(path)


@pytest.mark.parametrize("kind", ["BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP", "JPEG2000", "MPO"])
def test_allowed_formats_are_read(kind: str) -> None:
    pages = {"save_all": True, "append_images": [Image.new("RGB", (16, 16))]} if kind == "MPO" else {}
    loaded = load_image(encoded(Image.new("RGB", (16, 16), "red"), kind, **pages))
    assert np.abs(np.asarray(loaded).astype(int) - [255, 0, 0]).max() < 5


def test_what_is_no_plain_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    for path in (tmp_path / "pipe.png", tmp_path, "/dev/zero", "/dev/stdin"):
        with pytest.raises(InputError, match="it is not a plain file"):
            load_image(path)
    with open("/dev/zero", "rb") as zeros, pytest.raises(InputError, match="cannot be read as an image"):
        load_image(zeros)
    with pytest.raises(InputError, match="null byte"):
        load_image("a\0.png")


def test_a_stream_is_read_up_to_the_largest_file(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stream(io.RawIOBase):
        def __init__(self, content: bytes) -> None:
            self.content = io.BytesIO(content)

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: bytearray) -> int:
            return self.content.readinto(buffer)

    content = encoded(Image.effect_noise((40, 30), 90), "PNG").getvalue()
    assert load_image(io.BufferedReader(Stream(content))).size == (40, 30)
    monkeypatch.setattr(image_files, "MAX_FILE_BYTES", 500)
    for source in (io.BufferedReader(Stream(content)), io.BytesIO(content)):
        with pytest.raises(InputError, match="image is too large"):
            load_image(source)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L", "LA", "1", "CMYK", "I;16", "I", "F"])
def test_a_large_image_is_read_at_half_its_size(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (image_files, image_levels):
        monkeypatch.setattr(module, "MAX_PIXELS", 4000)
    monkeypatch.setattr(image_levels, "_BAND_PIXELS", 500)
    ramp = Image.linear_gradient("L").resize((90, 71))
    image = ramp.convert(mode) if mode != "I;16" else Image.fromarray(np.asarray(ramp).astype(np.uint16) * 257)
    expected = ramp.reduce(2)
    loaded = load_image(image)
    assert loaded.size == (45, 36)
    tolerance = 130 if mode == "1" else 3  # dithered
    assert np.abs(np.asarray(loaded)[..., 1].astype(int) - np.asarray(expected)).max() <= tolerance


def test_a_large_jpeg_is_decoded_at_half_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (image_files, image_levels):
        monkeypatch.setattr(module, "MAX_PIXELS", 4000)
    exif = Image.Exif()
    exif[0x0112] = 6
    for progressive in (False, True):
        file = encoded(Image.new("RGB", (90, 71), "red"), "JPEG", exif=exif, progressive=progressive)
        assert load_image(file).size == (36, 45)


def test_an_image_that_takes_too_much_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = encoded(Image.new("1", (20_000, 20_000)), "PNG")
    with pytest.raises(InputError, match=r"image is too large \(more than 178 million pixels\): scale it down first"):
        load_image(bomb)
    monkeypatch.setattr(image_files, "_MEMORY", 10_000)
    assert load_image(encoded(Image.new("L", (90, 71)), "PNG")).size == (90, 71)
    for kind in ("PNG", "TIFF", "WEBP"):
        with pytest.raises(InputError, match=r"too large \(90 x 71 pixels\)"):
            load_image(encoded(Image.new("RGB", (90, 71)), kind))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_a_huge_16_bit_image_is_read_within_a_gigabyte(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "huge"
    ramp = (np.arange(13_377, dtype=np.uint16) * 4)[None].repeat(13_377, 0)
    Image.fromarray(ramp).save(path, kind, **({"compress_level": 1} if kind == "PNG" else {}))
    script = (
        "import resource\n"
        "from showo_turbo.processing.image_files import load_image\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        f"image = load_image({str(path)!r})\n"
        "print(*image.size, *image.getpixel((6600, 0)), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    *found, kib = map(int, done.stdout.split())
    assert found == [6689, 6689, 205, 205, 205]
    assert kib < 1 << 20


LEVELS = np.array([[0x2000, 0xFFFF, 0, 0x8000]], dtype=np.uint16)


@pytest.mark.parametrize(
    "image",
    [
        Image.fromarray(LEVELS),
        Image.frombytes("I;16B", (4, 1), LEVELS.astype(">u2").tobytes()),
        Image.fromarray(LEVELS.astype(np.int32)),
        Image.fromarray((LEVELS / 65535).astype(np.float32)),
        Image.fromarray((LEVELS / 257).astype(np.float32)),
        Image.fromarray(LEVELS.astype(np.float32)),
        encoded(Image.fromarray((LEVELS / 65535).astype(np.float32)), "TIFF"),
        encoded(Image.fromarray(LEVELS), "TIFF"),
        io.BytesIO(b"P5 4 1 65535\n" + LEVELS.astype(">u2").tobytes()),
        io.BytesIO(b"P2 4 1 4095 512 4095 0 2048"),
    ],
)
def test_gray_levels_of_more_than_8_bits_are_scaled(image: Image.Image | io.BytesIO) -> None:
    assert np.asarray(load_image(image))[0].tolist() == [[level] * 3 for level in (32, 255, 0, 128)]
    assert open_image(image).mode == "L"


def test_a_dark_16_bit_file_stays_dark() -> None:
    dark = np.array([[3, 255]], dtype=np.uint16)
    for file in (encoded(Image.fromarray(dark), "PNG"), io.BytesIO(b"P5 2 1 65535\n" + dark.astype(">u2").tobytes())):
        assert np.asarray(open_image(file)).tolist() == [[0, 1]]


def test_8_bit_levels_in_a_wide_mode_are_kept() -> None:
    ramp = Image.linear_gradient("L")
    for mode in ("I", "F"):
        assert open_image(ramp.convert(mode)).tobytes() == ramp.tobytes()


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        (np.array([[0, 70_000]], dtype=np.int32), "levels from 0 to 70000: scale them to 0 to 255 or 0 to 65535"),
        (np.array([[-1024, 3000]], dtype=np.int32), "levels from -1024 to 3000"),
        (np.array([[-1, 1]], dtype=np.float32), "levels from -1 to 1: scale them to 0 to 1 or 0 to 255 or"),
        (np.array([[0.5, np.nan]], dtype=np.float32), "NaN or infinite"),
        (np.array([[np.inf, 1]], dtype=np.float32), "NaN or infinite"),
    ],
)
def test_levels_without_a_known_range_are_refused(levels: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_image(Image.fromarray(levels))


def test_a_transparent_palette_is_read_without_a_warning() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((1, 0), 1)
    loaded = load_image(encoded(image, "PNG", transparency=b"\x00\xff"))
    assert np.asarray(loaded).tolist() == [[[255, 0, 0], [0, 0, 255]]]
