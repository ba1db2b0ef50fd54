"""What a command leaves behind: pictures and a list of results in one folder, each file whole or not there."""

import json
import re
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from showo_turbo.cli.files import check_outputs, png_bytes, write_files

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

    def prepare(self) -> None:
        """Make the folder.

        Raises:
            InputError: when it cannot be written to, or holds a file that may not be replaced.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        check_outputs([self.path / name for name in (*self.names, self.results)], self.overwrite, "add overwrite=true")

    def write_pictures(self, pictures: "dict[str, Image]") -> None:
        """Write pictures by name."""
        write_files({self.path / name: png_bytes(picture) for name, picture in pictures.items()})

    def write_results(self, results: list[dict[str, object]]) -> None:
        """Write what each picture shows or each answer says, one JSON object a line."""
        lines = "".join(json.dumps(result, ensure_ascii=False) + "\n" for result in results)
        write_files({self.path / self.results: lines.encode()})


def new_folder(parent: Path, task: str) -> Path:
    """The next folder that is not there yet: `parent/task-001`, `parent/task-002`, ..."""
    return next(folder for number in count(1) if not (folder := parent / f"{task}-{number:03}").exists())


def picture_names(texts: list[str]) -> tuple[str, ...]:
    """File names that sort in the order of the texts and tell what they say: `0001-a-red-circle.png`."""
    slugs = (re.sub(r"[^a-z0-9]+", "-", text.lower())[:60].strip("-") or "picture" for text in texts)
    return tuple(f"{number:04}-{slug}.png" for number, slug in enumerate(slugs, start=1))
