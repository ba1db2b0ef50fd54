"""Pictures below a folder, without texts."""

from pathlib import Path

from PIL import Image

from showo_turbo.data.samples import CaptionSample, bad_sample_errors
from showo_turbo.data.source_files import existing_folder
from showo_turbo.errors import InputError
from showo_turbo.processing.image_files import check_aspect_ratio, load_image, readable_formats


class PictureFolder:
    """Read all pictures below a folder, in the order of their names."""

    def __init__(self, path: str | Path) -> None:
        """List the files with the ending of a format that is read.

        Raises:
            InputError: if there is no such folder, or it has no picture.
        """
        self.folder = existing_folder(path)
        formats = set(readable_formats())
        endings = {ending for ending, name in Image.registered_extensions().items() if name in formats}
        found = (file for file in self.folder.rglob("*") if file.suffix.lower() in endings and file.is_file())
        self.files = sorted(str(file.relative_to(self.folder)) for file in found)
        if not self.files:
            raise InputError(
                f"folder {str(path)!r} has no picture: expected files such as {', '.join(sorted(formats))}"
            )

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> CaptionSample:
        name = self.files[index]
        with bad_sample_errors(name):
            image = load_image(self.folder / name)
            check_aspect_ratio(image)
            return CaptionSample(name, "", image)
