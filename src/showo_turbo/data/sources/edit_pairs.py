"""Editing pairs in a JSONL file: the image before, an instruction, the image after.

{"source": "before/1.png", "instruction": "make the circle red", "target": "after/1.png"}
"""

from showo_turbo.data.samples import EditSample, bad_sample_errors
from showo_turbo.data.sources.image_lines import ImageLines
from showo_turbo.data.sources.source import read_caption
from showo_turbo.errors import InputError
from showo_turbo.processing.image_files import load_image


class EditPairs(ImageLines):
    """Read editing pairs, one per line."""

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
