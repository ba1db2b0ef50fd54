"""Resolve names: of models shipped with the package, of local folders, and on the Hugging Face hub."""

import re
from dataclasses import dataclass
from pathlib import Path

from showo_turbo.errors import InputError
from showo_turbo.files import read_json
from showo_turbo.validation import shown

SHIPPED_MODELS = ("tiny", "tiny-turbo", "clipart", "clipart-turbo")
DEFAULT_MODEL = "clipart-turbo"

_SHIPPED_FOLDER = Path(__file__).parent.parent / "weights"
_HUB_NAME = re.compile(r"(?P<repository>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(@(?P<revision>[\w./-]+))?")


WEIGHT_FILES = ("model.safetensors", "pytorch_model.safetensors", "pytorch_model.bin")
"""Names of a weight file, in order of preference."""

MAX_TENSORS = 20_000
"""Number of tensors in the largest weight file or index that is read, fifty times those of Show-o."""

MAX_HEADER_BYTES = 200 * MAX_TENSORS
"""Size of the largest table of names and shapes in a weight file."""

INDEX_SUFFIX = ".index.json"
"""Ending of the index file of a sharded checkpoint."""

IMAGE_TOKENIZER_FOLDER = "magvitv2"
"""Folder of the image tokenizer in a complete checkpoint."""

SHARED_IMAGE_TOKENIZER = "shipped_image_tokenizer"
"""Key of `config.json` with the shipped model whose image tokenizer a checkpoint without its own uses."""

CARD = "README.md"
"""Name of the model card."""

ADAPTER_CONFIG = "adapter_config.json"
"""Name of the config that marks a folder as a LoRA adapter."""

ADAPTER_BASE = "base.json"
"""Name of the file beside an adapter with a sample of the weights that it was trained on."""

ADAPTER_FILES = ("adapter_model.safetensors", "adapter_model.bin")
"""Names of an adapter's weight file, in order of preference."""


@dataclass(frozen=True)
class ArtifactKind:
    """Describe one kind of artifact that a name can refer to.

    Attributes:
        title: its name in error messages.
        files: patterns of its files on the hub.
        option: the argument that overrides it.
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
    ADAPTER_BASE,
    *ADAPTER_FILES,
    "phi/*",
    "magvitv2/*",
    "clip/*",
)
MODEL = ArtifactKind("model", _MODEL_FILES, "the model")
TEXT_TOKENIZER = ArtifactKind("text tokenizer", ("config.json", *_TOKENIZER), "text_tokenizer")
IMAGE_TOKENIZER = ArtifactKind("image tokenizer", ("config.json", *_WEIGHTS), "image_tokenizer")
VISION_TOWER = ArtifactKind("CLIP vision tower", ("config.json", *_WEIGHTS), "vision_tower")


def resolve(name: str | Path, kind: ArtifactKind = MODEL) -> Path:
    """Return the folder of an artifact; download it from the hub if it is not cached.

    A shipped name takes precedence over a folder of the same name: write `./tiny` for the folder. A hub name may end
    with a revision, `owner/name@REVISION`: a branch, tag or commit.

    Raises:
        InputError: if the name is neither a shipped model, a folder nor a hub name, or the download fails.
    """
    if str(name) in SHIPPED_MODELS and kind is MODEL:
        folder = _SHIPPED_FOLDER / str(name)
        if not folder.is_dir():
            raise InputError(
                f"model {str(name)!r} is missing from this installation ({folder}): install showo-turbo again"
            )
        return folder
    if not isinstance(name, str | Path):
        raise InputError(f"{kind.title} is {shown(name)}: expected the name of a model, folder or hub repository")
    try:
        path = Path(name).expanduser()
    except RuntimeError as error:
        raise InputError(f"{kind.title} {str(name)!r} is unknown: no such user's home ({error})") from error
    if path.is_dir():
        return path
    if path.exists():
        raise InputError(f"{kind.title} {str(name)!r} is a file: give the folder that holds it")
    if isinstance(name, str) and (hub := _HUB_NAME.fullmatch(name)):
        return _fetch(hub["repository"], kind, hub["revision"])
    shipped = f"a shipped model ({', '.join(SHIPPED_MODELS)}), " if kind is MODEL else ""
    raise InputError(
        f"{kind.title} {str(name)!r} is unknown: it is neither {shipped}a folder nor a hub name owner/name"
    )


def with_revision(name: str | Path, revision: str | None) -> str | Path:
    """Return a hub name with a revision, `owner/name@revision`; the name itself if the revision is None.

    Raises:
        InputError: if the name is not that of a repository on the hub without a revision, or the revision is invalid.
    """
    if revision is None:
        return name
    pinned = f"{name}@{revision}"
    found = None if Path(name).is_dir() else _HUB_NAME.fullmatch(pinned)
    if found is None or found["repository"] != str(name):
        raise InputError(
            f"revision is {revision!r} of {str(name)!r}: expected a branch, tag or commit, and a hub name owner/name"
        )
    return pinned


def without_revision(name: object) -> str:
    """Return a hub name without its revision, and any other name as it is."""
    found = _HUB_NAME.fullmatch(str(name))
    return found["repository"] if found else str(name)


def _fetch(name: str, kind: ArtifactKind, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(kind.files)))
    except (OSError, HfHubHTTPError, HFValidationError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise InputError(
            f"{kind.title} {name!r} is not a folder here and could not be fetched from the hub ({reason}): where "
            f"there is network, download those of its files that match {', '.join(kind.files)}; put them in folder "
            f"{name!r} here, or in another and give its path as {kind.option}"
        ) from error


def image_tokenizer_folder(folder: Path) -> Path | None:
    """Return the folder of a checkpoint's image tokenizer: its own, or that of the shipped model that its config names.

    Raises:
        InputError: if the config names anything but a shipped model.
    """
    own, values = folder / IMAGE_TOKENIZER_FOLDER, read_json(folder / "config.json")
    if own.is_dir() or SHARED_IMAGE_TOKENIZER not in values:
        return own if own.is_dir() else None
    shipped = values[SHARED_IMAGE_TOKENIZER]
    if shipped not in SHIPPED_MODELS:
        raise InputError(
            f"config.json of {str(folder)!r} has {SHARED_IMAGE_TOKENIZER} {shown(shipped)}: expected a shipped model, "
            f"{', '.join(SHIPPED_MODELS)}"
        )
    return resolve(shipped) / IMAGE_TOKENIZER_FOLDER
