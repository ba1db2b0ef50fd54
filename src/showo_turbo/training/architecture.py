"""Sizes of a transformer that is trained from random weights."""

from dataclasses import dataclass, fields

import torch
from transformers import PhiConfig

from showo_turbo.configuration import ShowoConfig
from showo_turbo.errors import InputError
from showo_turbo.models.showo import Showo
from showo_turbo.processing.prompts import PromptBuilder, TextTokenizer, build_vocabulary
from showo_turbo.validation import check_integer
from showo_turbo.vocabulary import SPECIAL_TOKENS

_BORDERS = 2  # of an image


@dataclass(frozen=True, kw_only=True)
class ArchitectureConfig:
    """Configure the sizes of a transformer; the defaults are those of `tiny`.

    Attributes:
        num_vq_tokens: codes per image.
        codebook_size: number of different codes.
        hidden_size, intermediate_size, num_hidden_layers, num_attention_heads: sizes of the Phi backbone.
        max_position_embeddings: maximum sequence length.
        max_text_length: maximum length of a prompt in tokens.

    Raises:
        InputError: if a size is not at least 1, the heads do not divide the hidden size, or prompt and image exceed the
            positions.
    """

    num_vq_tokens: int = 64
    codebook_size: int = 1024
    hidden_size: int = 128
    intermediate_size: int = 512
    num_hidden_layers: int = 6
    num_attention_heads: int = 4
    max_position_embeddings: int = 512
    max_text_length: int = 96

    def __post_init__(self) -> None:
        for one in fields(ArchitectureConfig):
            check_integer(one.name, getattr(self, one.name), 1)
        if self.hidden_size % self.num_attention_heads:
            raise InputError(
                f"hidden_size is {self.hidden_size}: choose a multiple of "
                f"num_attention_heads, {self.num_attention_heads}"
            )
        needed = self.num_vq_tokens + _BORDERS + self.max_text_length
        if self.max_position_embeddings < needed:
            raise InputError(
                f"max_position_embeddings is {self.max_position_embeddings}: choose at least {needed}, for "
                f"{self.num_vq_tokens} codes and a prompt of {self.max_text_length} tokens"
            )

    def model_config(self, llm_vocab_size: int) -> ShowoConfig:
        """Return the config of the checkpoint for a text tokenizer with `llm_vocab_size` ids."""
        return ShowoConfig(
            vocab_size=llm_vocab_size + len(SPECIAL_TOKENS) + self.codebook_size + 1,
            llm_vocab_size=llm_vocab_size,
            codebook_size=self.codebook_size,
            num_vq_tokens=self.num_vq_tokens,
            llm_model_path="phi",
            max_text_length=self.max_text_length,
        )

    def phi_config(self, vocab_size: int) -> PhiConfig:
        """Return the config of the backbone."""
        return PhiConfig(
            vocab_size=vocab_size,
            hidden_size=self.hidden_size,
            intermediate_size=self.intermediate_size,
            num_hidden_layers=self.num_hidden_layers,
            num_attention_heads=self.num_attention_heads,
            max_position_embeddings=self.max_position_embeddings,
            hidden_act="gelu_pytorch_tanh",  # the same function as Phi's gelu_new, in one kernel
            qk_layernorm=True,
            bos_token_id=None,
            eos_token_id=None,
        )


def random_model(architecture: ArchitectureConfig, tokenizer: TextTokenizer, seed: int) -> tuple[Showo, PromptBuilder]:
    """Build a transformer with weights from a seed, and the prompts of a text tokenizer.

    Raises:
        InputError: if the sizes do not fit each other or the text tokenizer.
    """
    config = architecture.model_config(len(tokenizer) - len(SPECIAL_TOKENS))
    prompts = PromptBuilder(tokenizer, build_vocabulary(tokenizer, config), architecture.max_text_length)
    torch.manual_seed(seed)
    return Showo(config, architecture.phi_config(config.vocab_size)), prompts
