"""COCO caption files, one sample per caption: `{"images": [{id, file_name}], "annotations": [{image_id, caption}]}`."""

from pathlib import Path

from PIL import Image

from showo_turbo.data.records import JsonRecords
from showo_turbo.data.samples import CaptionSample, bad_sample_errors
from showo_turbo.data.source_files import existing_file, existing_folder
from showo_turbo.data.sources.source import read_caption
from showo_turbo.errors import InputError
from showo_turbo.processing.image_files import load_image


class CocoCaptions:
    """Read the captions of one file, with their images if a folder of images is given."""

    def __init__(self, path: str | Path, images: str | Path | None = None) -> None:
        """Index the annotations, and the images by id.

        Args:
            path: JSON file.
            images: folder of the files in the JSON file's `images`; samples have no image if left out.

        Raises:
            InputError: if file or folder is missing, or the file does not have this format.
        """
        self.path = existing_file(path)
        self.annotations = JsonRecords.of_array(self.path, "annotations")
        self.images = None if images is None else _Images(self.path, existing_folder(images))

    def __len__(self) -> int:
        return len(self.annotations)

    def __getitem__(self, index: int) -> CaptionSample:
        key = f"{self.path.name}: annotations[{index}]"
        with bad_sample_errors(key):
            annotation = self.annotations[index]
            text = read_caption(annotation, "caption")
            image = None if self.images is None else self.images.open(annotation.get("image_id"))
            return CaptionSample(key, text, image)


class _Images:
    """Open images by id."""

    def __init__(self, path: Path, folder: Path) -> None:
        self.folder, self.records = folder, JsonRecords.of_array(path, "images")
        ids = ((record or {}).get("id") for record in self.records.each())
        self.index_of = {image_id: index for index, image_id in enumerate(ids) if isinstance(image_id, int | str)}

    def open(self, image_id: object) -> Image.Image:
        if not isinstance(image_id, int | str) or image_id not in self.index_of:
            raise InputError(f"image_id {image_id!r} is not among the file's images")
        name = self.records[self.index_of[image_id]].get("file_name")
        if not isinstance(name, str):
            raise InputError(f"image {image_id!r} has no file_name")
        return load_image(self.folder / name)
