"""A JSONL file whose lines name image files."""

from pathlib import Path

from showo_turbo.data.records import JsonRecords
from showo_turbo.data.source_files import existing_file, existing_folder


class ImageLines:
    """Index a JSONL file and locate the folder of its images; subclasses read the lines."""

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
