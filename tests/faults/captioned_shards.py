"""Tar files of captioned images."""

import io
import tarfile
from pathlib import Path

from PIL import Image

COLORS = {"red": (220, 30, 30), "green": (30, 160, 60), "blue": (40, 90, 240), "grey": (90, 90, 90)}


def write_shard(path: Path, colors: list[str]) -> None:
    """Write a tar file of captioned images."""
    with tarfile.open(path, "w") as tar:
        for color in colors:
            image = io.BytesIO()
            Image.new("RGB", (40, 40), COLORS[color]).save(image, "PNG")
            for ending, content in (("png", image.getvalue()), ("txt", f"a {color} car".encode())):
                member = tarfile.TarInfo(f"{color}.{ending}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
