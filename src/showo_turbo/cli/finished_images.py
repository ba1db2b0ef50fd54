"""Tell finished images from those that an interrupted run has left, for `--skip-existing`.

Decisions:
- The sidecar of a new image is written first. So an image without a sidecar is not of `showo-turbo`, and is replaced
  with `--overwrite` only; a sidecar without a whole image is what a kill leaves, and both are written again.
"""

from pathlib import Path

from showo_turbo.cli.output_files import check_outputs
from showo_turbo.cli.sidecar import Sidecar, sidecar_path
from showo_turbo.errors import InputError

_NOT_COMPARED = ("device", "model", "showo_turbo", "torch")
"""Fields of a sidecar that do not say what was requested; another model has other weights."""


def unfinished(images: dict[Path, Sidecar], overwrite: bool, seed_is_given: bool) -> dict[Path, Sidecar]:
    """Return the images that are not finished, after checking that they can and may be written.

    Args:
        images: the requested images.
        overwrite: draw images again that were drawn with other settings.
        seed_is_given: images of another seed count as such.

    Raises:
        InputError: if an image was drawn with other settings, or as `check_outputs`.
    """
    not_compared = _NOT_COMPARED if seed_is_given else (*_NOT_COMPARED, "seed")
    remaining, to_check = {}, []
    for path, sidecar in images.items():
        stored = _read(sidecar_path(path))
        differing = [] if stored is None else _differences(stored, sidecar, not_compared)
        if differing and not overwrite:
            raise InputError(
                f"output {str(path)!r} exists, drawn with another {' and '.join(differing)}: choose another name, or "
                "pass --overwrite to draw it again"
            )
        if stored is not None and not differing and _is_whole(path):
            continue
        remaining[path] = sidecar
        is_left_by_a_kill = stored is not None and not path.is_symlink()
        to_check += [] if is_left_by_a_kill else [path, sidecar_path(path)]
    check_outputs(to_check, overwrite)
    return remaining


def _read(file: Path) -> Sidecar | None:
    try:
        return Sidecar.read(file)
    except InputError:
        return None


def _differences(stored: Sidecar, requested: Sidecar, not_compared: tuple[str, ...]) -> list[str]:
    """Return the names of the settings that differ."""
    names = []
    for name, value in vars(requested).items():
        if name == "sampling":
            names += [option for option, wanted in vars(value).items() if vars(stored.sampling)[option] != wanted]
        elif name not in not_compared and getattr(stored, name) != value:
            names.append("model" if name == "weights_sha256" else name)
    return names


def _is_whole(path: Path) -> bool:
    """Return whether a file is an image that can be decoded to its end."""
    from PIL import Image

    from showo_turbo.processing.image_files import readable_formats

    formats = readable_formats()
    try:
        with Image.open(path, formats=formats) as image:
            image.verify()  # the end of the file and checksums, not the pixels
        with Image.open(path, formats=formats) as image:
            image.load()
    except Exception:  # a damaged file raises exceptions of any type
        return False
    return True
