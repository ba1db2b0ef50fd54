"""Editing pairs in a JSONL file: the image before, an instruction, the image after.

{"source": "before/1.png", "instruction": "make the circle red", "target": "after/1.png"}
"""

from pathlib import Path

from showo_turbo.data.records import JsonRecords
from showo_turbo.data.samples import EditSample, bad_sample_errors
from showo_turbo.data.source_files import existing_file, existing_folder
from showo_turbo.data.sources.source import read_caption
from showo_turbo.errors import InputError
from showo_turbo.processing.image_files import load_image


class EditPairs:
    """Read editing pairs, one per line."""

    def __init__(self, path: str | Path, images: str | Path | None = None) -> None:
        """Index the lines.

        Args:
            path: JSONL file.
            images: folder of the images; the folder of the JSONL file if left out.

        Raises:
            InputError: if file or folder is missing.
        """
        self.path = existing_file(path)
        self.folder = self.path.parent if images is None else existing_folder(images)
        self.lines = JsonRecords.of_lines(self.path)

    def __len__(self) -> int:
        return len(self.lines)

    def __getitem__(self, index: int) -> EditSample:
        key = f"{self.path.name}: line {index + 1}"
        with bad_sample_errors(key):
            line = self.lines[index]
            images = []
            for name in ("source", "target"):
                if not isinstance(line.get(name), str):
                    raise InputError(f"{name} is {line.get(name)!r}, not the name of a file")
                images.append(load_image(self.folder / line[name]))
            return EditSample(key, images[0], read_caption(line, "instruction", "text"), images[1])
