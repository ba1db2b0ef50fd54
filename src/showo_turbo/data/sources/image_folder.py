"""A folder of images and a JSONL file with their captions.

{"image": "lake.png", "caption": "a lake at dawn"}          or, in the format of Hugging Face's `metadata.jsonl`,
{"file_name": "lake.png", "text": "a lake at dawn"}
"""

from showo_turbo.data.samples import CaptionSample, bad_sample_errors
from showo_turbo.data.sources.image_lines import ImageLines
from showo_turbo.data.sources.source import read_caption
from showo_turbo.errors import InputError
from showo_turbo.processing.image_files import load_image


class ImageFolder(ImageLines):
    """Read captioned images, one per line; a line without an image is a caption alone."""

    def __getitem__(self, index: int) -> CaptionSample:
        key = f"{self.path.name}: line {index + 1}"
        with bad_sample_errors(key):
            line = self.lines[index]
            text = read_caption(line, "caption", "text")
            name = line.get("image", line.get("file_name"))
            if not isinstance(name, str | None):
                raise InputError(f"image is {name!r}, not the name of a file")
            return CaptionSample(key, text, None if name is None else load_image(self.folder / name))
