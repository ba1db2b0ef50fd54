"""Locate and load the components of a checkpoint.

Modules are built on torch's meta device and weights are read one tensor at a time, so a large model is never in memory
twice.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from showo_turbo.backends.quantization import quantized_layers, use_quantized_linear
from showo_turbo.checkpoints.adapter_base import teaches_edits
from showo_turbo.checkpoints.adapter_config import read_adapter_config
from showo_turbo.checkpoints.image_tokenizer import load_image_tokenizer
from showo_turbo.checkpoints.lora import merge_adapter
from showo_turbo.checkpoints.names import (
    ADAPTER_CONFIG,
    ADAPTER_FILES,
    IMAGE_TOKENIZER,
    INDEX_SUFFIX,
    MODEL,
    SHIPPED_MODELS,
    TEXT_TOKENIZER,
    VISION_TOWER,
    WEIGHT_FILES,
    image_tokenizer_folder,
    resolve,
)
from showo_turbo.checkpoints.published import published_checkpoint
from showo_turbo.checkpoints.vision_tower import load_vision_tower
from showo_turbo.checkpoints.weights import Weights, check_layers, find_weights, fit_weights, open_weights
from showo_turbo.components import Components
from showo_turbo.configuration import ShowoConfig, load_phi_config
from showo_turbo.device import DTYPES
from showo_turbo.errors import InputError, errors_in, one_line
from showo_turbo.files import read_json, sha256_of_files
from showo_turbo.generation.options import SamplingOptions
from showo_turbo.models.showo import Showo
from showo_turbo.processing.clip_prompts import ClipPromptBuilder
from showo_turbo.processing.known_world import WORLD_FILE, KnownWorld
from showo_turbo.processing.prompts import PromptBuilder

TEXT_FOLDER = "phi"
VISION_FOLDER = "clip"

_LAYERS = "showo.model.layers."
_OTHER_POSITIONS = 6
"""Positions of the shortest prompt beside its image: task, `<|soi|>`, `<|eoi|>`, `<|sot|>`, a token and `<|eot|>`."""


@dataclass(frozen=True)
class CheckpointFiles:
    """Hold the folders that a checkpoint's components are loaded from.

    Attributes:
        config: the checkpoint's config.
        folder: holds config and weights of the transformer.
        backbone: folder of the Phi config.
        text_tokenizer: folder of the text tokenizer.
        image_tokenizer: folder of the image tokenizer, if there is one.
        vision_tower: folder of the CLIP vision tower, if the transformer takes its features and there is one.
        adapter: folder of a LoRA adapter on the transformer, if there is one.
        sampling: recommended sampling options if there is no `generation.json`.
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
        """Describe the transformer's weights, with the adapter merged in.

        Raises:
            InputError: if they cannot be read, or the adapter was made for another base.
        """
        weights = open_weights(self.folder)
        return weights if self.adapter is None else merge_adapter(weights, self.adapter)

    def stored_dtype(self) -> torch.dtype:
        """Return the dtype of all stored weights of the transformer; float32 if it is mixed or not in `DTYPES`."""
        stored = {tensor.dtype for tensor in self.weights().layout.values()}
        return stored.pop() if len(stored) == 1 and stored <= set(DTYPES.values()) else torch.float32

    def weights_sha256(self) -> dict[str, str]:
        """Return the SHA-256 of the weight files that an image depends on: transformer, adapter and image tokenizer."""
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
    """Find the files of a checkpoint. A published name implies its tokenizers, resolution and sampling options.

    Args:
        name: a shipped model, a folder or a hub name; of a checkpoint, or of a LoRA adapter.
        image_tokenizer: folder or hub name of another image tokenizer than the checkpoint's own.
        text_tokenizer: folder or hub name of another text tokenizer than the checkpoint's own; also of the Phi config,
            if the checkpoint does not hold it.
        base: shipped model, folder or hub name of the model that an adapter was trained on, if not the one it names.
        vision_tower: folder or hub name of another CLIP vision tower than the checkpoint's own.

    Raises:
        InputError: if a component is missing, or a vision tower is named for a checkpoint that takes image codes.
    """
    folder = resolve(name, MODEL)
    if _is_adapter(folder):
        find_weights(folder, ADAPTER_FILES)
        named = _base_of(folder, base)
        if _is_adapter(resolve(named, MODEL)):
            raise InputError(
                f"adapter {str(folder)!r} changes {str(named)!r}, which is an adapter itself: merge that into a model "
                "first (showo-turbo convert), and name the result as base"
            )
        base_files = locate(named, image_tokenizer, text_tokenizer, vision_tower=vision_tower)
        own = published_checkpoint(name)
        config = replace(base_files.config, edits_images=base_files.config.edits_images or teaches_edits(folder))
        sampling = own.sampling if own else base_files.sampling
        return replace(base_files, config=config, adapter=folder, sampling=sampling)
    if base is not None:
        raise InputError(
            f"base is {str(base)!r}, but model {str(name)!r} is not an adapter: it has no {ADAPTER_CONFIG}, or is whole"
        )
    find_weights(folder)
    config = ShowoConfig.from_file(folder / "config.json")
    image_tokenizer = image_tokenizer or image_tokenizer_folder(folder)
    sampling = SamplingOptions()
    if published := published_checkpoint(name):
        config = replace(config, num_vq_tokens=published.num_vq_tokens, llm_model_path=published.text_tokenizer)
        image_tokenizer, sampling = image_tokenizer or published.image_tokenizer, published.sampling
    own_text = [own for own in (folder / config.llm_model_path, folder / TEXT_FOLDER) if own.is_dir()]
    backbone = own_text[0] if own_text else resolve(text_tokenizer or config.llm_model_path, TEXT_TOKENIZER)
    read_json(backbone / "config.json")  # transformers uses the full-size Phi's config if the file is missing
    return CheckpointFiles(
        config=config,
        folder=folder,
        backbone=backbone,
        text_tokenizer=resolve(text_tokenizer, TEXT_TOKENIZER) if text_tokenizer else backbone,
        image_tokenizer=resolve(image_tokenizer, IMAGE_TOKENIZER) if image_tokenizer else None,
        vision_tower=_vision_tower_of(str(name), folder, config, vision_tower),
        sampling=sampling,
    )


def locate_image_tokenizer(name: str) -> Path:
    """Return the folder of an image tokenizer, given as a shipped model, a folder or a hub name.

    Raises:
        InputError: if it is none of these.
    """
    shipped = locate(name).image_tokenizer if name in SHIPPED_MODELS else None
    return shipped or resolve(name, IMAGE_TOKENIZER)


def _is_adapter(folder: Path) -> bool:
    """Return whether a folder holds an adapter; the `adapter_config.json` of one that was merged may lie in a model.

    Raises:
        InputError: if it holds both the weights of an adapter and a whole model.
    """
    if not (folder / ADAPTER_CONFIG).is_file():
        return False
    is_adapter, is_model = (
        any((folder / (name + ending)).is_file() for name in names for ending in ("", INDEX_SUFFIX))
        for names in (ADAPTER_FILES, WEIGHT_FILES)
    )
    if is_adapter and is_model:
        raise InputError(
            f"folder {str(folder)!r} holds a whole model and an adapter: move {ADAPTER_CONFIG} and the weights of the "
            "adapter to a folder of their own, and name that with this folder as its base"
        )
    return is_adapter or not is_model


def _vision_tower_of(name: str, folder: Path, config: ShowoConfig, other: str | Path | None) -> Path | None:
    """Return the folder of a checkpoint's CLIP vision tower, if it needs and has one."""
    if not config.w_clip_vit:
        if other is not None:
            raise InputError(f"vision_tower is {str(other)!r}, but model {name!r} takes image codes: leave it out")
        return None
    own = folder / VISION_FOLDER
    published = published_checkpoint(name)
    tower = other or (own if own.is_dir() else published and published.vision_tower)
    return resolve(tower, VISION_TOWER) if tower else None


def _base_of(adapter: Path, base: str | Path | None) -> str | Path:
    """Return the base of an adapter; a relative path in its config is relative to the adapter's folder."""
    named = base or read_adapter_config(adapter).base
    if not named:
        raise InputError(f"adapter {str(adapter)!r} does not name its base: name it as base, or by `convert --base`")
    beside = adapter / str(named)
    return beside if base is None and beside.is_dir() else named


def load_components(
    files: CheckpointFiles, *, dtype: torch.dtype = torch.float32, quantization: str | None = None
) -> Components:
    """Load the components of a checkpoint on the CPU.

    Args:
        files: where they are.
        dtype: of the transformer and the CLIP vision tower; the image tokenizer stays in float32.
        quantization: of the matrices of the transformer's layers, "int8" or "float8"; None stores them in `dtype`.

    Raises:
        InputError: if a file is missing or damaged, or components do not fit each other.
    """
    recommended = load_sampling_options(files)
    prompt_builder = ClipPromptBuilder if files.config.w_clip_vit else PromptBuilder
    return Components(
        prompts=prompt_builder.from_pretrained(files.text_tokenizer, files.config),
        image_tokenizer=load_image_tokenizer(files.image_tokenizer) if files.image_tokenizer else None,
        vision_tower=load_vision_tower(files.vision_tower, dtype) if files.vision_tower else None,
        model=load_showo(files, dtype, quantization),
        recommended=recommended,
        known_world=load_known_world(files),
    )


def load_showo(files: CheckpointFiles, dtype: torch.dtype = torch.float32, quantization: str | None = None) -> Showo:
    """Load the transformer of a checkpoint on the CPU, in evaluation mode.

    Raises:
        InputError: if the Phi config or the weights cannot be read, or do not fit each other.
    """
    weights = files.weights()
    try:
        phi_config = load_phi_config(files.backbone, files.config.vocab_size)
        check_layers(weights, _LAYERS, phi_config.num_hidden_layers)
        if files.config.num_vq_tokens + _OTHER_POSITIONS > phi_config.max_position_embeddings:
            raise InputError(
                f"config: num_vq_tokens is {files.config.num_vq_tokens}: that many do not fit in the "
                f"{phi_config.max_position_embeddings} positions of the Phi config"
            )
        with torch.device("meta"):
            model = Showo(files.config, phi_config).to(dtype)
    except InputError:
        raise
    except Exception as error:  # invalid sizes raise exceptions of any type
        reason = one_line(f"{type(error).__name__}: {error}")
        raise InputError(f"Phi config: none that fits in folder {str(files.backbone)!r} ({reason})") from error
    if quantization is not None:
        use_quantized_linear(model.showo.model.layers, quantization)
    layers = quantized_layers(model)
    fit_weights(model, weights, lambda name, tensor: layers[name].quantize(tensor) if name in layers else tensor)
    # The rotary frequencies are computed, not stored, so they are still on the meta device.
    model.showo.model.rotary_emb = type(model.showo.model.rotary_emb)(phi_config)
    return model.eval()


def load_sampling_options(files: CheckpointFiles) -> SamplingOptions:
    """Load the recommended sampling options from `generation.json`; without the file they are `files.sampling`.

    Raises:
        InputError: if the file cannot be read, or holds an unknown option or an invalid value.
    """
    for folder in (files.adapter, files.folder):
        if folder is not None and (folder / "generation.json").exists():
            values = read_json(folder / "generation.json")
            with errors_in(folder / "generation.json"):
                return SamplingOptions.from_dict(values)
    return files.sampling


def load_known_world(files: CheckpointFiles) -> KnownWorld | None:
    """Load the description of the texts that the model was trained on from `world.json`, if there is one.

    An adapter was trained on other texts than its base, so the description of the base is not that of the model.

    Raises:
        InputError: if the file cannot be read or holds something else.
    """
    file = files.folder / WORLD_FILE
    return KnownWorld.from_file(file) if file.exists() and files.adapter is None else None
