"""The JSON file beside a picture, which holds all it takes to make the picture again, by whatever task."""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from showo_turbo.errors import InputError
from showo_turbo.files import json_bytes

TASKS = {
    "text_to_image": ("height", "width"),
    "inpaint": ("image", "mask"),
    "extrapolate": ("image", "direction", "offset"),
    "vary": ("image", "strength"),
}
"""Methods of the pipeline that draw, each with its own arguments besides the prompt."""

FILE_ARGUMENTS = ("image", "mask")
SAMPLING_KEYS = (
    "num_inference_steps",
    "guidance_scale",
    "top_k",
    "temperature",
    "schedule",
    "order",
    "sampled_steps",
    "early_exit",
)


@dataclass(frozen=True)
class Sidecar:
    """Every setting of one picture.

    Attributes:
        task: one of `TASKS`.
        arguments: of the task; files by their full paths.
        inputs_sha256: of these files, by argument.
        prompt: the text.
        seed: of the one random generator that drew all images of the picture.
        num_images: images in the picture, a grid if more than one.
        num_inference_steps, guidance_scale, top_k, temperature, schedule, order, sampled_steps, early_exit: see
            `SamplingOptions`.
        model: as given to `--model`; a folder as its full path.
        weights_sha256: of the weight files of transformer and image tokenizer.
        device, dtype, quantization: where and how precisely the transformer computed.
        showo_turbo, torch: versions.
    """

    task: str
    arguments: dict[str, Any]
    inputs_sha256: dict[str, str]
    prompt: str
    seed: int
    num_images: int
    num_inference_steps: int
    guidance_scale: float
    top_k: int | None
    temperature: float
    schedule: str
    order: str
    sampled_steps: int | None
    early_exit: float | None
    model: str
    weights_sha256: dict[str, str]
    device: str
    dtype: str
    quantization: str | None
    showo_turbo: str
    torch: str

    def to_bytes(self) -> bytes:
        """The content of the file."""
        return json_bytes(asdict(self))

    def files(self) -> dict[str, Path]:
        """The files among the arguments."""
        return {name: Path(self.arguments[name]) for name in FILE_ARGUMENTS if name in self.arguments}

    def sampling(self) -> dict[str, Any]:
        """The sampling options by name."""
        return {name: getattr(self, name) for name in SAMPLING_KEYS}

    @classmethod
    def read(cls, path: Path) -> "Sidecar":
        """Read a file that a command wrote.

        Raises:
            InputError: when it cannot be read or is not such a file.
        """
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(f"sidecar {str(path)!r} cannot be read ({error.strerror})") from error
        except ValueError as error:
            raise InputError(
                f"sidecar {str(path)!r} is not JSON ({error}): give the .json file of a picture"
            ) from error
        names = {field.name for field in fields(cls)}
        if not isinstance(values, dict) or values.keys() != names:
            raise InputError(
                f"sidecar {str(path)!r} is not one that showo-turbo wrote: expected the keys {', '.join(sorted(names))}"
            )
        if not isinstance(values["arguments"], dict) or not isinstance(values["task"], str):
            raise InputError(f"sidecar {str(path)!r} is not one that showo-turbo wrote: arguments and task are no such")
        if values["task"] not in TASKS or not set(values["arguments"]) <= set(TASKS[values["task"]]):
            raise InputError(
                f"sidecar {str(path)!r} has task {values['task']!r} with {', '.join(values['arguments'])}: expected "
                f"one of {', '.join(TASKS)} with its own arguments"
            )
        return cls(**values)


def sidecar_path(picture: Path) -> Path:
    """Where the sidecar of a picture belongs."""
    return picture.with_suffix(".json")
