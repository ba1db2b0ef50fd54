"""What a command leaves behind: pictures and a list of results in one folder, each file whole or not there."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from showo_turbo.cli.files import check_outputs, png_bytes
from showo_turbo.cli.prompt_files import slug
from showo_turbo.files import atomic_files

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class OutputFolder:
    """A folder that a command writes into.

    Attributes:
        path: where it is.
        results: the name of the list.
        names: those of the pictures that will be written.
        overwrite: whether files that exist may be replaced.
    """

    path: Path
    results: str
    names: tuple[str, ...] = ()
    overwrite: bool = False

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Work that fills the folder; if it fails before the first file, a folder that was made for it is gone again.

        Raises:
            InputError: when it cannot be written to, or holds a file that may not be replaced.
        """
        made = not self.path.exists()
        self.path.mkdir(parents=True, exist_ok=True)
        files = [self.path / name for name in (*self.names, self.results)]
        try:
            check_outputs(files, self.overwrite, "add overwrite=true")
            yield
        finally:
            if made and not any(self.path.iterdir()):
                self.path.rmdir()

    def write_pictures(self, pictures: "dict[str, Image]") -> None:
        """Write pictures by name."""
        atomic_files({self.path / name: png_bytes(picture) for name, picture in pictures.items()})

    def write_results(self, results: list[dict[str, object]]) -> None:
        """Write what each picture shows or each answer says, one JSON object a line."""
        lines = "".join(json.dumps(result, ensure_ascii=False) + "\n" for result in results)
        atomic_files({self.path / self.results: lines.encode()})


def new_folder(parent: Path, task: str) -> Path:
    """The next folder that is not there yet: `parent/task-001`, `parent/task-002`, ..."""
    return next(folder for number in count(1) if not (folder := parent / f"{task}-{number:03}").exists())


def picture_names(texts: list[str]) -> tuple[str, ...]:
    """File names that sort in the order of the texts and tell what they say: `0001-a-red-circle.png`."""
    return tuple(f"{number:04}-{slug(text)}.png" for number, text in enumerate(texts, start=1))
