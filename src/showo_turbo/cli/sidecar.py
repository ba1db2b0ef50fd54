"""Sidecar files: the JSON file beside an image, with all settings that it takes to draw the image again."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

from showo_turbo.errors import InputError, errors_in
from showo_turbo.files import json_bytes, parse_json, read_text, sha256_of_files
from showo_turbo.generation.options import MAX_DIRECTIONS, MAX_IMAGES, MAX_PIXELS_ALONG, SamplingOptions
from showo_turbo.validation import check_integer, check_number, check_seed, shown

TASKS = {
    "text_to_image": ("height", "width"),
    "inpaint": ("image", "mask"),
    "extrapolate": ("image", "direction", "offset"),
    "vary": ("image", "strength"),
    "edit": ("image",),
}
"""Methods of the pipeline that draw, each with its own arguments besides the prompt."""

FILE_ARGUMENTS = ("image", "mask")
"""Arguments of tasks that name files."""


@dataclass(frozen=True)
class Sidecar:
    """Hold all settings of one image file.

    Attributes:
        task: one of `TASKS`.
        arguments: of the task; files by their full paths.
        inputs_sha256: hashes of these files, by argument.
        prompt: the text.
        seed: of the one random generator for all images in the file.
        num_images: images in the file, a grid if more than one.
        sampling: the sampling options; their names are keys of the file.
        model: as given to `--model`; a folder by its full path.
        weights_sha256: hashes of the weight files of transformer and image tokenizer.
        device: device that the transformer computed on.
        dtype: dtype of its weights.
        quantization: quantization of its weights, or None.
        showo_turbo: version of this package.
        torch: version of torch.
        base: base of the adapter that `model` is, if it is not the one that the adapter names; as `model`.
    """

    task: str
    arguments: dict[str, Any]
    inputs_sha256: dict[str, str]
    prompt: str
    seed: int
    num_images: int
    sampling: SamplingOptions
    model: str
    weights_sha256: dict[str, str]
    device: str
    dtype: str
    quantization: str | None
    showo_turbo: str
    torch: str
    base: str | None = None

    def to_bytes(self) -> bytes:
        """Return the content of the file; a base that the adapter names is left out."""
        values: dict[str, Any] = {}
        for name, value in vars(self).items():
            if name == "base" and value is None:
                continue
            values |= vars(value) if name == "sampling" else {name: value}
        return json_bytes(values)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a sidecar file; a sampling option that was introduced after it was written takes its default.

        Raises:
            InputError: if the file cannot be read, is not a sidecar file, or a sampling option is invalid.
        """
        try:
            values = parse_json(read_text(path))
        except OSError as error:
            raise InputError(f"sidecar {str(path)!r} cannot be read ({error.strerror})") from error
        except ValueError as error:
            raise InputError(f"sidecar {str(path)!r} is not JSON ({error}): give the .json file of an image") from error
        sampling_keys = {field.name for field in fields(SamplingOptions)}
        keys = {field.name for field in fields(cls)} - {"sampling"}
        required = keys - {"base"}  # which older files do not have
        if not isinstance(values, dict) or not required <= values.keys() <= keys | sampling_keys:
            expected = ", ".join(sorted(keys | sampling_keys))
            raise InputError(f"sidecar {str(path)!r} is not one that showo-turbo wrote: expected the keys {expected}")
        if not isinstance(values["arguments"], dict) or not isinstance(values["task"], str):
            raise InputError(
                f"sidecar {str(path)!r} is not one that showo-turbo wrote: arguments must be an object, task a text"
            )
        if values["task"] not in TASKS or not set(values["arguments"]) <= set(TASKS[values["task"]]):
            raise InputError(
                f"sidecar {str(path)!r} has task {values['task']!r} with {', '.join(values['arguments'])}: expected "
                f"one of {', '.join(TASKS)} with its own arguments"
            )
        with errors_in(path):
            _check_values(values)
            sampling = SamplingOptions(**{name: values.pop(name) for name in sampling_keys & values.keys()})
        return cls(**values, sampling=sampling)

    def check_inputs(self, path: Path) -> None:
        """Check that the files among the arguments are those that the image was drawn from.

        Args:
            path: the sidecar file, for error messages.

        Raises:
            InputError: if one has changed.
        """
        for name, file in files_in(self.arguments).items():
            if sha256_of_files(file) != self.inputs_sha256.get(name):
                raise InputError(f"{name} {str(file)!r} is not the one that {str(path)!r} was made with")


def _check_values(values: dict[str, Any]) -> None:
    """Raise `InputError` if a value has another type than those that `Sidecar.to_bytes` writes."""
    given: list[tuple[str, Any, type]] = [
        *((name, values[name], str) for name in ("prompt", "model", "device", "dtype")),
        *((name, values[name], dict) for name in ("inputs_sha256", "weights_sha256")),
        *((name, value, str) for name, value in values["arguments"].items() if name in FILE_ARGUMENTS),
    ]
    for name, value, expected in given:
        if not isinstance(value, expected):
            raise InputError(f"{name} is {shown(value)}: expected {'a text' if expected is str else 'an object'}")
    check_seed("seed", values["seed"])
    check_integer("num_images", values["num_images"], 1, MAX_IMAGES)
    for name in ("quantization", "base"):
        if not isinstance(values.get(name), str | None):
            raise InputError(f"{name} is {shown(values[name])}: expected a text or null")
    if "strength" in values["arguments"]:
        check_number("strength", values["arguments"]["strength"], 0, 1)
    for name in {"height", "width"} & values["arguments"].keys():
        check_integer(name, values["arguments"][name], 1, MAX_PIXELS_ALONG)
    direction = values["arguments"].get("direction", "left")
    directions = direction if isinstance(direction, list) else [direction]
    if len(directions) > MAX_DIRECTIONS or not all(isinstance(one, str) for one in directions):
        raise InputError(f"direction is {shown(direction)}: expected a text, or at most {MAX_DIRECTIONS} texts")


def files_in(arguments: dict[str, Any]) -> dict[str, Path]:
    """Return the files among the arguments of a task, by name."""
    return {name: Path(arguments[name]) for name in FILE_ARGUMENTS if name in arguments}


def sidecar_path(image: Path) -> Path:
    """Return the path of the sidecar of an image file."""
    return image.with_suffix(".json")
