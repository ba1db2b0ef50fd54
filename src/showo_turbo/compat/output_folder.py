"""The results of a command: images and a list of results in one folder, written atomically."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from showo_turbo.cli.output_files import check_outputs, png_bytes
from showo_turbo.cli.prompt_files import slug
from showo_turbo.files import atomic_files

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class OutputFolder:
    """Write the results of a command into one folder.

    Attributes:
        path: the folder.
        results: name of the list of results.
        names: names of the image files that will be written.
        overwrite: replace files that exist.
    """

    path: Path
    results: str
    names: tuple[str, ...] = ()
    overwrite: bool = False

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Create the folder for the block that fills it; a created folder is removed if the block writes nothing.

        Raises:
            InputError: if the folder is not writable, or holds a file that may not be replaced.
        """
        created = not self.path.exists()
        self.path.mkdir(parents=True, exist_ok=True)
        files = [self.path / name for name in (*self.names, self.results)]
        try:
            check_outputs(files, self.overwrite, "add overwrite=true")
            yield
        finally:
            if created and not any(self.path.iterdir()):
                self.path.rmdir()

    def write_images(self, images: "dict[str, Image]") -> None:
        """Write images by file name."""
        atomic_files({self.path / name: png_bytes(image) for name, image in images.items()})

    def write_results(self, results: Sequence[Mapping[str, object]]) -> None:
        """Write the list of results, one JSON object per line."""
        lines = "".join(json.dumps(result, ensure_ascii=False) + "\n" for result in results)
        atomic_files({self.path / self.results: lines.encode(errors="backslashreplace")})


def new_folder(parent: Path, task: str) -> Path:
    """Return the first folder that does not exist: `parent/task-001`, `parent/task-002`, ..."""
    return next(folder for number in count(1) if not (folder := parent / f"{task}-{number:03}").exists())


def image_names(texts: list[str]) -> tuple[str, ...]:
    """Return file names that sort in the order of the texts and contain them: `0001-a-red-circle.png`."""
    return tuple(f"{number:04}-{slug(text)}.png" for number, text in enumerate(texts, start=1))
