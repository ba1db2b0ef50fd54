"""Define the configs of a Show-o checkpoint and of the language model under it. No torch is imported here."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from dataclasses import field as declare
from math import isqrt
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any

from showo_turbo.errors import InputError, errors_in
from showo_turbo.files import read_json
from showo_turbo.library_configs import check_config_numbers, create_config
from showo_turbo.validation import check_integer, shown
from showo_turbo.vocabulary import OPENING_TOKENS, SPECIAL_TOKENS

if TYPE_CHECKING:
    from transformers import PhiConfig

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
    "num_latents": len(OPENING_TOKENS),
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
        edits_images: the model was trained on editing pairs, so it edits images by instructions. No published
            checkpoint was.
        num_latents: number of latents of a student, see `distillation.latents`; 1 is none, as published.

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
    edits_images: bool = False
    num_latents: int = 1

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
    def from_file(cls, path: Path) -> "ShowoConfig":
        """Read a `config.json`.

        Raises:
            InputError: if it cannot be read, or as `from_dict`.
        """
        values = read_json(path)
        with errors_in(path):
            return cls.from_dict(values)

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


@dataclass
class BackboneConfig:
    """Hold the fields of a Phi config, with their defaults; see `transformers.PhiConfig`."""

    vocab_size: int = 51200
    hidden_size: int = 2048
    intermediate_size: int = 8192
    num_hidden_layers: int = 24
    num_attention_heads: int = 32
    num_key_value_heads: int | None = None
    resid_pdrop: float = 0.0
    embd_pdrop: float = 0.0
    attention_dropout: float = 0.0
    hidden_act: str = "gelu_new"
    max_position_embeddings: int = 2048
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-5
    use_cache: bool = True
    tie_word_embeddings: bool = False
    rope_parameters: dict[str, Any] = declare(default_factory=dict)
    qk_layernorm: bool = False
    bos_token_id: int | None = 1
    eos_token_id: int | None = 2
    pad_token_id: int | None = None

    def __post_init__(self) -> None:
        if self.num_key_value_heads is None:
            self.num_key_value_heads = self.num_attention_heads
        default = {"rope_theta": 10000.0, "partial_rotary_factor": 0.5, "rope_type": "default"}
        self.rope_parameters = default | self.rope_parameters

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> "BackboneConfig | None":
        """Create a config from parsed JSON, or return None if a value needs transformers to convert or refuse it."""
        given = {one.name: values[one.name] for one in fields(cls) if one.name in values}
        rotary = given.pop("rope_parameters", None) or {}
        if values.get("rope_scaling") is not None or not isinstance(rotary, dict):
            return None
        rotary = {name: values[name] for name in ("rope_theta", "partial_rotary_factor") if name in values} | rotary
        known = {"rope_theta": float, "partial_rotary_factor": float, "rope_type": str}
        if any(name not in known or type(value) is not known[name] for name, value in rotary.items()):
            return None
        if rotary.get("rope_type", "default") != "default":
            return None
        plain, reference = cls(**given, rope_parameters=rotary), cls()
        for one in fields(cls):
            value, usual = getattr(plain, one.name), getattr(reference, one.name)
            kinds = (int, NoneType) if one.name.endswith("_token_id") else (type(usual),)
            if type(value) not in kinds:
                return None
        return plain

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name."""
        return asdict(self)


def load_phi_config(folder: str | Path, vocab_size: int) -> "PhiConfig | BackboneConfig":
    """Load the backbone config of a Show-o model from the Phi config of a folder.

    Show-o normalizes queries and keys per head, which the Phi-1.5 config does not set, and its embeddings and head have
    the size of the whole vocabulary.

    Raises:
        InputError: if there is no config, or it is no JSON object.
        Exception: of any type, if transformers refuses a value.
    """
    path = Path(folder) / "config.json"
    values = _with_current_names(read_json(path))
    try:
        check_config_numbers(values)
        config: PhiConfig | BackboneConfig | None = BackboneConfig.from_plain(values)
        if config is None:
            from transformers import PhiConfig as LibraryConfig

            config = create_config(LibraryConfig, values)
    except InputError as error:
        raise InputError(f"Phi config {str(path)!r}: {error}") from error
    heads, key_value_heads = config.num_attention_heads, config.num_key_value_heads or config.num_attention_heads
    rotary_fraction = dict(config.rope_parameters or {}).get("partial_rotary_factor", 1.0)
    rotary = int(config.hidden_size // heads * rotary_fraction)
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
