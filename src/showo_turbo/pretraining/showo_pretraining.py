"""Pre-training of Show-o on scenes: masked codes for text to image, next tokens for answers, in one model."""

from copy import deepcopy
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path

import torch
from transformers import PhiConfig

from showo_turbo.checkpoints.saving import save_showo
from showo_turbo.checkpoints.weights import fit_weights, weights_of_file
from showo_turbo.configuration import ShowoConfig
from showo_turbo.errors import InputError
from showo_turbo.models.showo import Showo
from showo_turbo.pretraining.scene_batches import SceneBatches, pair_rows
from showo_turbo.processing.prompts import PromptBuilder, build_vocabulary, load_text_tokenizer
from showo_turbo.scenes.pool import load_scene_pool
from showo_turbo.training.loop import LoopConfig
from showo_turbo.training.optimizers import OptimizerConfig
from showo_turbo.training.supervised_task import SupervisedTask, Term
from showo_turbo.validation import check_fraction, check_integer, check_number
from showo_turbo.vocabulary import SPECIAL_TOKENS


def _muon() -> OptimizerConfig:
    return OptimizerConfig("muon", lr=2e-3, muon_lr=2e-3, betas=(0.9, 0.98), weight_decay=0.0)


@dataclass(frozen=True)
class ShowoPretrainingConfig:
    """Configure a pre-training of the transformer.

    Attributes:
        loop: training loop.
        text_tokenizer: folder of the text tokenizer.
        scene_pool: file of encoded scenes.
        num_vq_tokens: codes per image.
        codebook_size: number of different codes.
        hidden_size, intermediate_size, num_hidden_layers, num_attention_heads: sizes of the Phi backbone.
        max_position_embeddings: maximum sequence length.
        max_text_length: maximum length of a prompt in tokens.
        text_to_image_batch_size: captioned images per step.
        understanding_batch_size: images with questions per step.
        questions_per_picture: turns packed behind one image; in every second batch one of them is a description.
        condition_dropout: fraction of captions replaced by the empty prompt.
        pair_share: fraction of captions that are drawn from scenes with two different nouns only, every second one with
            two different colors: the compositions that are learned last.
        understanding_weight: weight of the loss on answers.
        optimizer: optimizer of the weights.
        init_from: initial weights (model.safetensors of an earlier run), for another round of training.
    """

    loop: LoopConfig = field(default_factory=LoopConfig)
    text_tokenizer: str = "runs/tiny/text_tokenizer"
    scene_pool: str = "runs/tiny/scene_pool.safetensors"
    num_vq_tokens: int = 64
    codebook_size: int = 1024
    hidden_size: int = 128
    intermediate_size: int = 512
    num_hidden_layers: int = 6
    num_attention_heads: int = 4
    max_position_embeddings: int = 512
    max_text_length: int = 96
    text_to_image_batch_size: int = 32
    understanding_batch_size: int = 8
    questions_per_picture: int = 3
    condition_dropout: float = 0.1
    pair_share: float = 0.0
    understanding_weight: float = 0.5
    optimizer: OptimizerConfig = field(default_factory=_muon)
    init_from: str | None = None

    def __post_init__(self) -> None:
        sizes = [field.name for field in fields(self) if field.type is int]
        for name in sizes:
            check_integer(name, getattr(self, name), 1)
        if self.hidden_size % self.num_attention_heads:
            raise InputError(
                f"hidden_size is {self.hidden_size}: choose a multiple of "
                f"num_attention_heads, {self.num_attention_heads}"
            )
        check_fraction("condition_dropout", self.condition_dropout)
        check_fraction("pair_share", self.pair_share)
        check_number("understanding_weight", self.understanding_weight, 0)

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


class ShowoPretraining(SupervisedTask):
    """Pre-train the transformer from random weights on scenes: the task of `showo-turbo pretrain showo`."""

    def __init__(self, config: ShowoPretrainingConfig) -> None:
        """Load text tokenizer and scene pool, and initialise the model from the seed or from `config.init_from`."""
        self.pool = load_scene_pool(Path(config.scene_pool))
        tokenizer = load_text_tokenizer(config.text_tokenizer)
        showo_config = config.model_config(len(tokenizer) - len(SPECIAL_TOKENS))
        self.prompts = PromptBuilder(tokenizer, build_vocabulary(tokenizer, showo_config), config.max_text_length)
        scenes = SceneBatches(self.pool, self.prompts, config.loop.seed)
        captions = partial(
            scenes.captions,
            size=config.text_to_image_batch_size,
            condition_dropout=config.condition_dropout,
            pair_share=config.pair_share,
            pairs=pair_rows(self.pool.scenes) if config.pair_share else (),
        )
        questions = partial(
            scenes.questions,
            size=config.understanding_batch_size,
            questions_per_picture=config.questions_per_picture,
        )
        terms = {
            "image": Term(1.0, captions, predicts_codes=True),
            "answers": Term(config.understanding_weight, questions),
        }
        torch.manual_seed(config.loop.seed)
        model = Showo(showo_config, config.phi_config(showo_config.vocab_size))
        if config.init_from is not None:
            fit_weights(model, weights_of_file(Path(config.init_from)))
        super().__init__(model, self.prompts.vocabulary, terms, config.optimizer, self._write)

    def _write(self, model: Showo, folder: Path) -> None:
        """Write transformer and text tokenizer, with float16 weights."""
        save_showo(folder, deepcopy(model).half(), self.prompts)
