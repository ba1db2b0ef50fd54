"""Names of models: shipped with the package, a local folder, or on the Hugging Face hub."""

import re
from dataclasses import dataclass
from pathlib import Path

from showo_turbo.errors import InputError

SHIPPED_MODELS = ("tiny", "tiny-turbo")
DEFAULT_MODEL = "tiny-turbo"

_SHIPPED_FOLDER = Path(__file__).parent.parent / "weights"
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


WEIGHT_FILES = ("model.safetensors", "pytorch_model.safetensors", "pytorch_model.bin")
"""Names of a weight file; of several in one folder the first of these is taken."""

INDEX_SUFFIX = ".index.json"
"""What the name of a sharded weight file's index ends with."""

CARD = "README.md"
"""A checkpoint's model card."""

ADAPTER_CONFIG = "adapter_config.json"
"""What makes a folder a LoRA adapter on a base."""

ADAPTER_FILES = ("adapter_model.safetensors", "adapter_model.bin")
"""Names of an adapter's weight file."""


@dataclass(frozen=True)
class Part:
    """One thing a name can stand for.

    Attributes:
        title: what errors call it.
        files: the files that make it up, as patterns.
        option: the argument that names it.
    """

    title: str
    files: tuple[str, ...]
    option: str


_WEIGHTS = (*WEIGHT_FILES, "*-of-*.safetensors", "*-of-*.bin", f"*{INDEX_SUFFIX}")
_TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt", "*_tokens*.json")
_MODEL_FILES = (
    "config.json",
    "generation.json",
    *_WEIGHTS,
    ADAPTER_CONFIG,
    *ADAPTER_FILES,
    "phi/*",
    "magvitv2/*",
    "clip/*",
)
MODEL = Part("model", _MODEL_FILES, "the model")
TEXT_TOKENIZER = Part("text tokenizer", ("config.json", *_TOKENIZER), "text_tokenizer")
IMAGE_TOKENIZER = Part("image tokenizer", ("config.json", *_WEIGHTS), "image_tokenizer")
VISION_TOWER = Part("CLIP picture tower", ("config.json", *_WEIGHTS), "vision_tower")


def resolve(name: str | Path, part: Part = MODEL) -> Path:
    """The folder that holds what a name stands for, fetched from the hub if need be.

    A shipped name wins over a folder of the same name: write `./tiny` for the folder.

    Raises:
        InputError: when there is no such thing, or the hub cannot be reached.
    """
    if str(name) in SHIPPED_MODELS and part is MODEL:
        return _shipped(str(name))
    try:
        path = Path(name).expanduser()
    except RuntimeError as error:
        raise InputError(f"{part.title} {str(name)!r} is unknown: no such user's home ({error})") from error
    if path.is_dir():
        return path
    if path.exists():
        raise InputError(f"{part.title} {str(name)!r} is a file: give the folder that holds it")
    if isinstance(name, str) and _HUB_NAME.fullmatch(name):
        return _fetch(name, part)
    shipped = f"a shipped model ({', '.join(SHIPPED_MODELS)}), " if part is MODEL else ""
    raise InputError(
        f"{part.title} {str(name)!r} is unknown: it is neither {shipped}a folder nor a hub name owner/name"
    )


def _shipped(name: str) -> Path:
    folder = _SHIPPED_FOLDER / name
    if not folder.is_dir():
        raise InputError(f"model {name!r} is missing from this installation ({folder}): install showo-turbo again")
    return folder


def _fetch(name: str, part: Part) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return Path(snapshot_download(name, allow_patterns=list(part.files)))
    except (OSError, HfHubHTTPError, HFValidationError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise InputError(
            f"{part.title} {name!r} is no folder here and could not be fetched from the hub ({reason}): where there is "
            f"network, fetch those of {name}'s files that are there of {', '.join(part.files)}; put them in folder "
            f"{name!r} here, or in another and give its path as {part.option}"
        ) from error
