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
    folder.mkdir(parents=True, exist_ok=True)
    config = replace(model.config, llm_model_path=_TEXT_FOLDER)
    write_json(folder / "config.json", asdict(config))
    write_json(folder / "generation.json", asdict(options))
    _write_weights(folder, model)
    model.showo.config.save_pretrained(folder / _TEXT_FOLDER)
    prompts.tokenizer.save_pretrained(folder / _TEXT_FOLDER)
    if image_tokenizer is not None:
        image_folder = folder / IMAGE_TOKENIZER_FOLDER
        image_folder.mkdir(exist_ok=True)
        write_json(image_folder / "config.json", image_tokenizer.config.to_dict())
        _write_weights(image_folder, image_tokenizer)


def _write_weights(folder: Path, module: nn.Module) -> None:
    state = {name: value.contiguous() for name, value in module.state_dict().items()}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
