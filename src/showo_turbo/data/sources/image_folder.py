"""A folder of pictures and a JSONL file of their captions.

{"image": "lake.png", "caption": "a lake at dawn"}          or, as Hugging Face's `metadata.jsonl` has it,
{"file_name": "lake.png", "text": "a lake at dawn"}
"""

from pathlib import Path

from showo_turbo.data.records import JsonRecords
from showo_turbo.data.samples import CaptionSample, reading
from showo_turbo.data.source_files import one_file, one_folder
from showo_turbo.data.sources.source import caption_of
from showo_turbo.errors import InputError
from showo_turbo.processing.images import load_image


class ImageFolder:
    """Captioned pictures, one a line; a line that names no picture is a caption alone."""

    def __init__(self, path: str | Path, images: str | Path | None = None) -> None:
        """Find the lines.

        Args:
            path: JSONL file.
            images: folder of the pictures; the file's own folder if left out.

        Raises:
            InputError: when file or folder is missing.
        """
        self.path = one_file(path)
        self.folder = self.path.parent if images is None else one_folder(images)
        self.lines = JsonRecords.of_lines(self.path)

    def __len__(self) -> int:
        return len(self.lines)

    def __getitem__(self, index: int) -> CaptionSample:
        key = f"{self.path.name}: line {index + 1}"
        with reading(key):
            line = self.lines[index]
            text = caption_of(line, "caption", "text")
            name = line.get("image", line.get("file_name"))
            if not isinstance(name, str | None):
                raise InputError(f"image is {name!r}, not the name of a file")
            return CaptionSample(key, text, None if name is None else load_image(self.folder / name))
