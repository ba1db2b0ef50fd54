"""Folders to parts: transformer, prompts, sampling options (the image tokenizer has its own module).

Modules are laid out without memory first (torch's meta device), so weights are read once and a large model is never
held twice.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from huggingface_hub.errors import StrictDataclassError

from showo_turbo.checkpoints.files import read_json
from showo_turbo.checkpoints.names import IMAGE_TOKENIZER, MODEL, TEXT_TOKENIZER, resolve
from showo_turbo.checkpoints.weights import find_weights, fit_weights, read_weights, sha256
from showo_turbo.configuration import ShowoConfig, load_phi_config
from showo_turbo.errors import InputError
from showo_turbo.generation.options import SamplingOptions
from showo_turbo.models.showo import Showo
from showo_turbo.processing.prompts import PromptBuilder

IMAGE_TOKENIZER_FOLDER = "magvitv2"


@dataclass(frozen=True)
class CheckpointFiles:
    """Where the parts of a checkpoint are.

    Attributes:
        config: what its `config.json` says.
        folder: holds config and weights of the transformer.
        backbone: folder of the Phi config.
        text_tokenizer: folder of the text tokenizer.
        image_tokenizer: folder of the image tokenizer, if there is one.
    """

    config: ShowoConfig
    folder: Path
    backbone: Path
    text_tokenizer: Path
    image_tokenizer: Path | None

    def weights_sha256(self) -> dict[str, str]:
        """SHA-256 of the weight files that decide an image: those of the transformer and of the image tokenizer."""
        digests = {"transformer": sha256(find_weights(self.folder))}
        if self.image_tokenizer is not None:
            digests["image_tokenizer"] = sha256(find_weights(self.image_tokenizer))
        return digests


def locate(
    name: str | Path, image_tokenizer: str | Path | None = None, text_tokenizer: str | Path | None = None
) -> CheckpointFiles:
    """Find the parts of a checkpoint.

    Args:
        name: a shipped model, a folder or a hub name.
        image_tokenizer: folder or hub name of another image tokenizer than the checkpoint's own.
        text_tokenizer: folder or hub name of another text tokenizer than the checkpoint's own; also of the Phi config,
            if the checkpoint does not hold it.

    Raises:
        InputError: when something is not there.
    """
    folder = resolve(name, MODEL)
    find_weights(folder)
    config = ShowoConfig.from_dict(read_json(folder / "config.json"))
    own_text = folder / config.llm_model_path
    backbone = own_text if own_text.is_dir() else resolve(text_tokenizer or config.llm_model_path, TEXT_TOKENIZER)
    read_json(backbone / "config.json")  # transformers takes a missing file for the full-size Phi
    own_image = folder / IMAGE_TOKENIZER_FOLDER
    return CheckpointFiles(
        config=config,
        folder=folder,
        backbone=backbone,
        text_tokenizer=resolve(text_tokenizer, TEXT_TOKENIZER) if text_tokenizer else backbone,
        image_tokenizer=(
            resolve(image_tokenizer, IMAGE_TOKENIZER)
            if image_tokenizer
            else (own_image if own_image.is_dir() else None)
        ),
    )


def load_showo(files: CheckpointFiles, dtype: torch.dtype = torch.float32) -> Showo:
    """The transformer of a checkpoint, on the CPU, in evaluation mode.

    Raises:
        InputError: when the Phi config or the weights cannot be read, or do not fit each other.
    """
    try:
        phi_config = load_phi_config(files.backbone, files.config.vocab_size)
    except (OSError, ValueError, StrictDataclassError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"Phi config: none could be read from folder {str(files.backbone)!r} ({reason})") from error
    with torch.device("meta"):
        model = Showo(files.config, phi_config).to(dtype)
    weights = find_weights(files.folder)
    fit_weights(model, read_weights(weights), weights)
    # The rotary frequencies are computed, not stored, so they are the one thing still without memory.
    model.showo.model.rotary_emb = type(model.showo.model.rotary_emb)(phi_config)
    return model.eval()


def load_prompts(files: CheckpointFiles) -> PromptBuilder:
    """The prompt builder of a checkpoint.

    Raises:
        InputError: when there is no text tokenizer, or it does not fit the checkpoint.
    """
    return PromptBuilder.from_pretrained(files.text_tokenizer, files.config)


def load_sampling_options(folder: Path) -> SamplingOptions:
    """What a checkpoint recommends for text to image in its `generation.json`, or the general defaults.

    Raises:
        InputError: when the file cannot be read or says something unknown.
    """
    path = folder / "generation.json"
    return SamplingOptions.from_dict(read_json(path)) if path.exists() else SamplingOptions()
