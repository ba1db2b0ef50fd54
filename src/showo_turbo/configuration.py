"""Define the config of a Show-o checkpoint."""

from dataclasses import dataclass, fields
from math import isqrt
from pathlib import Path
from typing import Any

from transformers import PhiConfig

from showo_turbo.errors import InputError
from showo_turbo.files import read_json
from showo_turbo.library_configs import create_config
from showo_turbo.validation import check_integer, shown
from showo_turbo.vocabulary import SPECIAL_TOKENS

_FORMER_PHI_NAMES = {
    "activation_function": "hidden_act",
    "attn_pdrop": "attention_dropout",
    "layer_norm_epsilon": "layer_norm_eps",
    "n_embd": "hidden_size",
    "n_head": "num_attention_heads",
    "n_head_kv": "num_key_value_heads",
    "n_inner": "intermediate_size",
    "n_layer": "num_hidden_layers",
    "n_positions": "max_position_embeddings",
}
"""Names of fields in the first downloads of phi-1_5, and transformers' names of them."""


_MAX_SIZES = {
    "vocab_size": 1 << 24,
    "llm_vocab_size": 1 << 22,
    "codebook_size": 1 << 20,
    "num_vq_tokens": 1 << 16,
    "max_text_length": 1 << 16,
    "clip_feature_size": 1 << 16,
}
"""Largest values of the sizes of a config."""


@dataclass(frozen=True)
class ShowoConfig:
    """Hold a Show-o `config.json`; the sizes of the backbone are in the Phi config at `llm_model_path`.

    Attributes:
        vocab_size: total number of ids: text, special tokens, image codes and the mask token.
        llm_vocab_size: number of ids of the plain text tokenizer.
        codebook_size: number of image codes.
        num_vq_tokens: image codes of one square image at the checkpoint's resolution.
        llm_model_path: folder (relative to the checkpoint) or hub name of the Phi config and text tokenizer.
        w_clip_vit: understanding takes CLIP features in place of image codes.
        max_text_length: longest prompt of text to image, in tokens with `<|sot|>` and `<|eot|>`. Published checkpoints
            do not store it; all of them use 128.
        clip_feature_size: dimension of a CLIP feature, with `w_clip_vit`. Published checkpoints do not store it; all
            of them use 1024.

    Raises:
        InputError: if a size is outside its range, or the sizes contradict each other.
    """

    vocab_size: int = 58498
    llm_vocab_size: int = 50295
    codebook_size: int = 8192
    num_vq_tokens: int = 1024
    llm_model_path: str = "microsoft/phi-1_5"
    w_clip_vit: bool = False
    max_text_length: int = 128
    clip_feature_size: int = 1024

    def __post_init__(self) -> None:
        for name, maximum in _MAX_SIZES.items():
            check_integer(f"config: {name}", getattr(self, name), 1, maximum)
        if isqrt(self.num_vq_tokens) ** 2 != self.num_vq_tokens:
            raise InputError(f"config: num_vq_tokens is {self.num_vq_tokens}: expected the square of a whole number")
        expected = self.llm_vocab_size + len(SPECIAL_TOKENS) + self.codebook_size + 1
        if self.vocab_size != expected:
            raise InputError(
                f"config: vocab_size is {self.vocab_size}, but llm_vocab_size {self.llm_vocab_size} + "
                f"{len(SPECIAL_TOKENS)} special tokens + codebook_size {self.codebook_size} + 1 mask token = {expected}"
            )

    @classmethod
    def from_dict(cls, values: dict) -> "ShowoConfig":
        """Create a config from a parsed `config.json`; other keys of published files are ignored.

        Raises:
            InputError: if a required key is missing, or a value has another type.
        """
        required = ("vocab_size", "llm_vocab_size", "codebook_size", "num_vq_tokens", "llm_model_path")
        missing = [name for name in required if name not in values]
        if missing:
            raise InputError(f"config.json lacks {', '.join(missing)}: is this the config of a Show-o checkpoint?")
        given = {field.name: values[field.name] for field in fields(cls) if field.name in values}
        for field in fields(cls):
            if type(given.get(field.name, field.default)) is not type(field.default):
                raise InputError(
                    f"config.json has {field.name} {shown(given[field.name])}: expected a "
                    f"{type(field.default).__name__}, such as {field.default!r}"
                )
        return cls(**given)


def load_phi_config(folder: str | Path, vocab_size: int) -> PhiConfig:
    """Load the backbone config of a Show-o model from the Phi config of a folder.

    Show-o normalizes queries and keys per head, which the Phi-1.5 config does not set, and its embeddings and head have
    the size of the whole vocabulary.

    Raises:
        InputError: if there is no config, or it is no JSON object.
        Exception: of any type, if transformers refuses a value.
    """
    path = Path(folder) / "config.json"
    try:
        config = create_config(PhiConfig, _with_current_names(read_json(path)))
    except InputError as error:
        raise InputError(f"Phi config {str(path)!r}: {error}") from error
    heads, rope = config.num_attention_heads, dict(config.rope_parameters or {})
    key_value_heads = config.num_key_value_heads or heads
    rotary = int(config.hidden_size // heads * rope.get("partial_rotary_factor", 1.0))
    if config.hidden_size % heads or heads % key_value_heads or rotary < 2 or rotary % 2:
        raise InputError(
            f"Phi config {str(path)!r}: hidden_size {config.hidden_size}, num_attention_heads {heads}, "
            f"num_key_value_heads {key_value_heads} and {rotary} rotary channels: expected an even number of rotary "
            "channels, heads that divide hidden_size, and key-value heads that divide the heads"
        )
    config.qk_layernorm = True
    config.vocab_size = vocab_size
    return config


def _with_current_names(values: dict[str, Any]) -> dict[str, Any]:
    """Rename the fields of Phi configs from before transformers had the model (`phi-msft`)."""
    current = {name: value for name, value in values.items() if name not in _FORMER_PHI_NAMES}
    for former, name in _FORMER_PHI_NAMES.items():
        if values.get(former) is not None:
            current.setdefault(name, values[former])
    if "n_embd" in values:
        current.setdefault("intermediate_size", 4 * values["n_embd"])
    if "n_embd" in values and "n_head" in values and "rotary_dim" in values:
        current.setdefault("partial_rotary_factor", values["rotary_dim"] * values["n_head"] / values["n_embd"])
    return current
