"""Parts to one folder, in the layout that `loading` reads."""

from dataclasses import asdict, replace
from pathlib import Path

from safetensors.torch import save_file
from torch import nn

from showo_turbo.checkpoints.files import write_json
from showo_turbo.checkpoints.loading import IMAGE_TOKENIZER_FOLDER
from showo_turbo.generation.options import SamplingOptions
from showo_turbo.models.magvit_v2 import MagvitV2
from showo_turbo.models.showo import Showo
from showo_turbo.processing.prompts import PromptBuilder

_TEXT_FOLDER = "phi"


def save_checkpoint(
    folder: Path, model: Showo, prompts: PromptBuilder, image_tokenizer: MagvitV2 | None, options: SamplingOptions
) -> None:
    """Write everything that `from_pretrained` needs, weights in the precision they have."""
    save_showo(folder, model, prompts)
    write_json(folder / "generation.json", asdict(options))
    if image_tokenizer is not None:
        save_image_tokenizer(folder / IMAGE_TOKENIZER_FOLDER, image_tokenizer)


def save_showo(folder: Path, model: Showo, prompts: PromptBuilder) -> None:
    """Write the transformer with its text side: config, weights, Phi config and text tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", asdict(replace(model.config, llm_model_path=_TEXT_FOLDER)))
    _write_weights(folder, model)
    model.showo.config.save_pretrained(folder / _TEXT_FOLDER)
    prompts.tokenizer.save_pretrained(folder / _TEXT_FOLDER)


def save_image_tokenizer(folder: Path, image_tokenizer: MagvitV2) -> None:
    """Write config and weights of an image tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", image_tokenizer.config.to_dict())
    _write_weights(folder, image_tokenizer)


def _write_weights(folder: Path, module: nn.Module) -> None:
    state = {name: value.contiguous() for name, value in module.state_dict().items()}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
