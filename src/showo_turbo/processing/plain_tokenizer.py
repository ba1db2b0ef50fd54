"""A text tokenizer that is opened without transformers, whose import takes a second of CPU time.

Decisions:
- It reads what `save_pretrained` of this package writes: a `tokenizer.json` that holds all special tokens, and a config
  that names no class with rules of its own. Every other tokenizer is left to transformers.
- Ids and texts are those of transformers (`tests/processing/test_plain_tokenizer.py`). All other attributes and options
  are transformers', which is imported when the first of them is used.
"""

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenizers import Tokenizer

from showo_turbo.files import read_json
from showo_turbo.vocabulary import SPECIAL_TOKENS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_PLAIN_CLASSES = ("TokenizersBackend", "PreTrainedTokenizerFast")
_PLAIN_KEYS = {
    "backend",
    "bos_token",
    "eos_token",
    "is_local",
    "local_files_only",
    "model_max_length",
    "pad_token",
    "tokenizer_class",
    "unk_token",
}
_FURTHER_FILES = ("special_tokens_map.json", "added_tokens.json", "chat_template.jinja", "chat_templates")
_MAX_IDS = 100_000
"""Number of ids above which transformers examines a tokenizer for known faults."""


class PlainTokenizer:
    """Hold a tokenizer of the tokenizers library; what else transformers' have is loaded when it is used."""

    def __init__(self, backend: Tokenizer, end_of_text: str, load: "Callable[[], Any]") -> None:
        """Wrap a tokenizer of the tokenizers library.

        Args:
            backend: the tokenizer, all special tokens included.
            end_of_text: the token at both ends of a text.
            load: loads the same tokenizer by transformers.
        """
        self.backend_tokenizer, self.eos_token, self._load = backend, end_of_text, load
        self.eos_token_id = backend.token_to_id(end_of_text)
        self.bos_token_id = self.eos_token_id
        self.clean_up_tokenization_spaces = False

    def __len__(self) -> int:
        """Return the number of ids."""
        return self.backend_tokenizer.get_vocab_size()

    def convert_tokens_to_ids(self, tokens: str | list[str]) -> Any:
        """Return the id of a token, or the ids of several."""
        if isinstance(tokens, str) and (token_id := self.backend_tokenizer.token_to_id(tokens)) is not None:
            return token_id
        return self._complete.convert_tokens_to_ids(tokens)

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Encode as transformers does."""
        return self._complete(*args, **options)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self._complete, name)

    @cached_property
    def _complete(self) -> "PreTrainedTokenizerBase":
        return self._load()


def open_plain_tokenizer(folder: Path, load: "Callable[[], Any]") -> PlainTokenizer | None:
    """Open a tokenizer that needs none of transformers' rules, or return None.

    Args:
        folder: its folder.
        load: see `PlainTokenizer`.

    Raises:
        InputError: if `tokenizer_config.json` cannot be read.
        Exception: of any type, if `tokenizer.json` is damaged.
    """
    files = folder / "tokenizer.json", folder / "tokenizer_config.json"
    if not all(file.is_file() for file in files) or any((folder / name).exists() for name in _FURTHER_FILES):
        return None
    config = read_json(files[1])
    end_of_text = config.get("eos_token")
    special = [config.get(f"{name}_token") for name in ("bos", "eos", "unk", "pad")]
    if config.keys() - _PLAIN_KEYS or config.get("tokenizer_class") not in _PLAIN_CLASSES:
        return None
    if not isinstance(end_of_text, str) or special != [end_of_text] * 3 + [SPECIAL_TOKENS[0]]:
        return None
    backend = Tokenizer.from_file(str(files[0]))
    added = {token.content for token in backend.get_added_tokens_decoder().values()}
    if not added >= {end_of_text, *SPECIAL_TOKENS} or backend.get_vocab_size() > _MAX_IDS:
        return None
    if backend.truncation is not None or backend.padding is not None:
        return None
    return PlainTokenizer(backend, end_of_text, load)
