"""COCO's caption files, one sample a caption: `{"images": [{id, file_name}], "annotations": [{image_id, caption}]}`."""

from pathlib import Path

from PIL import Image

from showo_turbo.data.records import JsonRecords
from showo_turbo.data.samples import CaptionSample, reading
from showo_turbo.data.source_files import one_file, one_folder
from showo_turbo.data.sources.source import caption_of
from showo_turbo.errors import InputError
from showo_turbo.processing.images import load_image


class CocoCaptions:
    """Captions of one file, with their pictures if a folder of pictures is given."""

    def __init__(self, path: str | Path, images: str | Path | None = None) -> None:
        """Find the annotations, and which picture has which id.

        Args:
            path: JSON file.
            images: folder of the pictures that `images` names; without one, samples are captions alone.

        Raises:
            InputError: when file or folder is missing, or the file is not of this form.
        """
        self.path = one_file(path)
        self.annotations = JsonRecords.of_array(self.path, "annotations")
        self.pictures = None if images is None else _Pictures(self.path, one_folder(images))

    def __len__(self) -> int:
        return len(self.annotations)

    def __getitem__(self, index: int) -> CaptionSample:
        key = f"{self.path.name}: annotations[{index}]"
        with reading(key):
            annotation = self.annotations[index]
            text = caption_of(annotation, "caption")
            image = None if self.pictures is None else self.pictures.open(annotation.get("image_id"))
            return CaptionSample(key, text, image)


class _Pictures:
    """Pictures by their id."""

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
