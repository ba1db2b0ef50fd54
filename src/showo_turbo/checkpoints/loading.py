"""Folders to parts: transformer, prompts, sampling options (the image tokenizer has its own module).

Modules are laid out without memory first (torch's meta device) and weights come one tensor at a time, so a large model
is never held twice.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from showo_turbo.backends.int8 import int8_weight_names, quantize, use_int8_linear
from showo_turbo.checkpoints.lora import merge_adapter, read_adapter_config
from showo_turbo.checkpoints.names import (
    ADAPTER_CONFIG,
    ADAPTER_FILES,
    IMAGE_TOKENIZER,
    MODEL,
    TEXT_TOKENIZER,
    VISION_TOWER,
    resolve,
)
from showo_turbo.checkpoints.published import published_checkpoint
from showo_turbo.checkpoints.weights import Weights, find_weights, fit_weights, open_weights
from showo_turbo.configuration import ShowoConfig, load_phi_config
from showo_turbo.device import DTYPES
from showo_turbo.errors import InputError
from showo_turbo.files import read_json, sha256_of_files
from showo_turbo.generation.options import SamplingOptions
from showo_turbo.models.showo import Showo
from showo_turbo.processing.clip_prompts import ClipPromptBuilder
from showo_turbo.processing.prompts import PromptBuilder

IMAGE_TOKENIZER_FOLDER = "magvitv2"
TEXT_FOLDER = "phi"
VISION_FOLDER = "clip"


@dataclass(frozen=True)
class CheckpointFiles:
    """Where the parts of a checkpoint are.

    Attributes:
        config: what its `config.json` says.
        folder: holds config and weights of the transformer.
        backbone: folder of the Phi config.
        text_tokenizer: folder of the text tokenizer.
        image_tokenizer: folder of the image tokenizer, if there is one.
        vision_tower: folder of the CLIP picture tower, if the transformer takes its features and there is one.
        adapter: folder of a LoRA adapter on the transformer, if there is one.
        sampling: what to draw with, where no `generation.json` says otherwise.
    """

    config: ShowoConfig
    folder: Path
    backbone: Path
    text_tokenizer: Path
    image_tokenizer: Path | None
    vision_tower: Path | None = None
    adapter: Path | None = None
    sampling: SamplingOptions = field(default_factory=SamplingOptions)

    def weights(self) -> Weights:
        """The transformer's weights, adapter included.

        Raises:
            InputError: when they cannot be read, or the adapter was made for another base.
        """
        weights = open_weights(self.folder)
        return weights if self.adapter is None else merge_adapter(weights, self.adapter)

    def stored_dtype(self) -> torch.dtype:
        """The precision that all of the transformer's weights are stored in; float32 if it is none of ours."""
        stored = {tensor.dtype for tensor in self.weights().layout.values()}
        return stored.pop() if len(stored) == 1 and stored <= set(DTYPES.values()) else torch.float32

    def weights_sha256(self) -> dict[str, str]:
        """SHA-256 of the weight files that decide an image: transformer, adapter and image tokenizer."""
        digests = {"transformer": sha256_of_files(*find_weights(self.folder))}
        if self.adapter is not None:
            digests["adapter"] = sha256_of_files(*find_weights(self.adapter, ADAPTER_FILES))
        if self.image_tokenizer is not None:
            digests["image_tokenizer"] = sha256_of_files(*find_weights(self.image_tokenizer))
        return digests


def locate(
    name: str | Path,
    image_tokenizer: str | Path | None = None,
    text_tokenizer: str | Path | None = None,
    base: str | Path | None = None,
    vision_tower: str | Path | None = None,
) -> CheckpointFiles:
    """Find the parts of a checkpoint. A published name brings its tokenizers, resolution and sampling settings along.

    Args:
        name: a shipped model, a folder or a hub name; of a checkpoint, or of a LoRA adapter.
        image_tokenizer: folder or hub name of another image tokenizer than the checkpoint's own.
        text_tokenizer: folder or hub name of another text tokenizer than the checkpoint's own; also of the Phi config,
            if the checkpoint does not hold it.
        base: shipped model, folder or hub name of what an adapter changes; the one that it names itself if left out.
        vision_tower: folder or hub name of another CLIP picture tower than the checkpoint's own.

    Raises:
        InputError: when something is not there, or a picture tower is named for a checkpoint that takes image codes.
    """
    folder = resolve(name, MODEL)
    if (folder / ADAPTER_CONFIG).is_file():
        find_weights(folder, ADAPTER_FILES)
        named = _base_of(folder, base)
        if (resolve(named, MODEL) / ADAPTER_CONFIG).is_file():
            raise InputError(
                f"adapter {str(folder)!r} changes {str(named)!r}, which is an adapter itself: write that as a whole "
                "model first (showo-turbo convert), and name this as base"
            )
        changed = locate(named, image_tokenizer, text_tokenizer, vision_tower=vision_tower)
        own = published_checkpoint(name)
        return replace(changed, adapter=folder, sampling=own.sampling if own else changed.sampling)
    if base is not None:
        raise InputError(f"base is {str(base)!r}, but model {str(name)!r} is no adapter: it has no {ADAPTER_CONFIG}")
    find_weights(folder)
    config = ShowoConfig.from_dict(read_json(folder / "config.json"))
    own_image = folder / IMAGE_TOKENIZER_FOLDER
    if own_image.is_dir():
        image_tokenizer = image_tokenizer or own_image
    sampling = SamplingOptions()
    if published := published_checkpoint(name):
        config = replace(config, num_vq_tokens=published.num_vq_tokens, llm_model_path=published.text_tokenizer)
        image_tokenizer, sampling = image_tokenizer or published.image_tokenizer, published.sampling
    own_text = [own for own in (folder / config.llm_model_path, folder / TEXT_FOLDER) if own.is_dir()]
    backbone = own_text[0] if own_text else resolve(text_tokenizer or config.llm_model_path, TEXT_TOKENIZER)
    read_json(backbone / "config.json")  # transformers takes a missing file for the full-size Phi
    return CheckpointFiles(
        config=config,
        folder=folder,
        backbone=backbone,
        text_tokenizer=resolve(text_tokenizer, TEXT_TOKENIZER) if text_tokenizer else backbone,
        image_tokenizer=resolve(image_tokenizer, IMAGE_TOKENIZER) if image_tokenizer else None,
        vision_tower=_vision_tower_of(str(name), folder, config, vision_tower),
        sampling=sampling,
    )


def _vision_tower_of(name: str, folder: Path, config: ShowoConfig, other: str | Path | None) -> Path | None:
    """Where the CLIP picture tower of a checkpoint is, if it needs and has one."""
    if not config.w_clip_vit:
        if other is not None:
            raise InputError(f"vision_tower is {str(other)!r}, but model {name!r} takes image codes: leave it out")
        return None
    own = folder / VISION_FOLDER
    published = published_checkpoint(name)
    tower = other or (own if own.is_dir() else published and published.vision_tower)
    return resolve(tower, VISION_TOWER) if tower else None


def _base_of(adapter: Path, base: str | Path | None) -> str | Path:
    """What an adapter changes: a folder beside it is found from wherever the adapter is used."""
    named = base or read_adapter_config(adapter).get("base_model_name_or_path")
    if not named:
        raise InputError(f"adapter {str(adapter)!r} does not name its base: name it as base, or by `convert --base`")
    beside = adapter / str(named)
    return beside if base is None and beside.is_dir() else named


def load_showo(files: CheckpointFiles, dtype: torch.dtype = torch.float32, quantization: str | None = None) -> Showo:
    """The transformer of a checkpoint, on the CPU, in evaluation mode; its layers in int8 if `quantization` says so.

    Raises:
        InputError: when the Phi config or the weights cannot be read, or do not fit each other.
    """
    try:
        phi_config = load_phi_config(files.backbone, files.config.vocab_size)
        with torch.device("meta"):
            model = Showo(files.config, phi_config).to(dtype)
    except Exception as error:  # of numbers that cannot be, libraries raise whatever they stumble over
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise InputError(f"Phi config: none that fits in folder {str(files.backbone)!r} ({reason})") from error
    if quantization == "int8":
        use_int8_linear(model.showo.model.layers)
    quantized = int8_weight_names(model)
    fit_weights(model, files.weights(), lambda name, tensor: quantize(tensor) if name in quantized else tensor)
    # The rotary frequencies are computed, not stored, so they are the one thing still without memory.
    model.showo.model.rotary_emb = type(model.showo.model.rotary_emb)(phi_config)
    return model.eval()


def load_prompts(files: CheckpointFiles) -> PromptBuilder:
    """The prompt builder of a checkpoint.

    Raises:
        InputError: when there is no text tokenizer, or it does not fit the checkpoint.
    """
    builder = ClipPromptBuilder if files.config.w_clip_vit else PromptBuilder
    return builder.from_pretrained(files.text_tokenizer, files.config)


def load_sampling_options(files: CheckpointFiles) -> SamplingOptions:
    """What a checkpoint recommends for text to image in its `generation.json`, or else `files.sampling`.

    Raises:
        InputError: when the file cannot be read or says something unknown.
    """
    for folder in (files.adapter, files.folder):
        if folder is not None and (folder / "generation.json").exists():
            return SamplingOptions.from_dict(read_json(folder / "generation.json"))
    return files.sampling
