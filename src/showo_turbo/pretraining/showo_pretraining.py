"""Pre-training of Show-o on scenes: masked codes for text to image, next tokens for answers, in one model."""

import random
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field, fields
from pathlib import Path

import torch
from torch import Tensor
from torch.optim import Optimizer
from transformers import PhiConfig

from showo_turbo.checkpoints.saving import save_showo
from showo_turbo.checkpoints.weights import fit_weights, weights_of_file
from showo_turbo.configuration import ShowoConfig
from showo_turbo.errors import InputError
from showo_turbo.models.showo import Showo
from showo_turbo.processing.prompts import PromptBuilder, build_vocabulary, load_text_tokenizer
from showo_turbo.scenes.pool import load_scene_pool
from showo_turbo.scenes.scene import Scene
from showo_turbo.scenes.split import differ_in_noun_and_color
from showo_turbo.training.loop import LoopConfig
from showo_turbo.training.optimizers import OptimizerConfig, build_optimizers
from showo_turbo.training.supervised_batches import (
    SupervisedBatch,
    random_masking,
    supervised_loss,
    text_to_image_batch,
    understanding_batch,
)
from showo_turbo.training.task import StepLosses, Task
from showo_turbo.validation import check_fraction, check_integer, check_number
from showo_turbo.vocabulary import SPECIAL_TOKENS

_STEPS_PER_LENGTH_GROUP = 8
"""Steps whose captions are generated together and sorted by length, so that a batch has little padding."""


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


class ShowoPretraining(Task[Showo, tuple[SupervisedBatch, SupervisedBatch]]):
    """Pre-train the transformer: the task of `showo-turbo pretrain showo`."""

    def __init__(self, config: ShowoPretrainingConfig) -> None:
        """Load text tokenizer and scene pool, and initialise the model from the seed or from `config.init_from`."""
        self.config, self.pool = config, load_scene_pool(Path(config.scene_pool))
        self._pairs = pair_rows(self.pool.scenes) if config.pair_share else ()
        tokenizer = load_text_tokenizer(config.text_tokenizer)
        showo_config = config.model_config(len(tokenizer) - len(SPECIAL_TOKENS))
        self.prompts = PromptBuilder(tokenizer, build_vocabulary(tokenizer, showo_config), config.max_text_length)
        torch.manual_seed(config.loop.seed)
        self.model = Showo(showo_config, config.phi_config(showo_config.vocab_size))
        if config.init_from is not None:
            fit_weights(self.model, weights_of_file(Path(config.init_from)))

    def optimizers(self) -> list[Optimizer]:
        """Build the configured optimizers."""
        return build_optimizers(self.model, self.config.optimizer)

    def batch(self, number: int) -> tuple[SupervisedBatch, SupervisedBatch]:
        """Build a text-to-image batch and an understanding batch."""
        device = self.model.device
        return self._text_to_image(number).to(device), self._understanding(number).to(device)

    def losses(self, ema_model: Showo, batch: tuple[SupervisedBatch, SupervisedBatch]) -> StepLosses:
        """Compute the mean cross entropy of masked codes and of answer tokens."""
        vocabulary = self.prompts.vocabulary
        image = supervised_loss(self.model, batch[0], vocabulary.image_offset, vocabulary.mask_id)
        answers = supervised_loss(self.model, batch[1])
        total = image + self.config.understanding_weight * answers
        count = self.config.text_to_image_batch_size + self.config.understanding_batch_size
        return StepLosses(total, {"image": image, "answers": answers}, count)

    def export(self, model: Showo, folder: Path) -> None:
        """Write transformer and text tokenizer, with float16 weights."""
        save_showo(folder, deepcopy(model).half(), self.prompts)

    def _sample_scenes(self, rng: random.Random, count: int, pair_share: float = 0.0) -> tuple[list[Scene], Tensor]:
        rows = [
            rng.choice(rng.choice(self._pairs)) if pair_share and rng.random() < pair_share
            else rng.randrange(len(self.pool.scenes))
            for _ in range(count)
        ]  # fmt: skip
        return [self.pool.scenes[row] for row in rows], self.pool.codes[rows]

    def _text_to_image(self, step: int) -> SupervisedBatch:
        """Build a batch of captions of similar length, from the scenes of several steps sorted by caption length."""
        group, member = divmod(step, _STEPS_PER_LENGTH_GROUP)
        rng = random.Random(f"{self.config.loop.seed}/captions/{group}")
        size = self.config.text_to_image_batch_size
        scenes, codes = self._sample_scenes(rng, size * _STEPS_PER_LENGTH_GROUP, self.config.pair_share)
        caption = self.pool.world.language.caption
        texts = ["" if rng.random() < self.config.condition_dropout else caption(scene, rng) for scene in scenes]
        by_length = sorted(range(len(texts)), key=lambda row: len(texts[row]))
        first = size * rng.sample(range(_STEPS_PER_LENGTH_GROUP), _STEPS_PER_LENGTH_GROUP)[member]
        chosen = by_length[first : first + size]
        generator = torch.Generator().manual_seed(rng.getrandbits(48) + member)
        masked = random_masking(size, codes.shape[1], generator)
        return text_to_image_batch(self.prompts, [texts[row] for row in chosen], codes[chosen], masked)

    def _understanding(self, step: int) -> SupervisedBatch:
        """Build a batch of questions. Descriptions are long, so either all rows of a batch have one or none has."""
        rng = random.Random(f"{self.config.loop.seed}/questions/{step}")
        scenes, codes = self._sample_scenes(rng, self.config.understanding_batch_size)
        turns = [
            self.pool.world.language.turns(scene, rng, self.config.questions_per_picture, described=step % 2 == 1)
            for scene in scenes
        ]
        return understanding_batch(self.prompts, turns, codes)


def pair_rows(scenes: Sequence[Scene]) -> tuple[list[int], list[int]]:
    """Return the indices of the scenes with two objects of different nouns, and of those that differ in color as well.

    Raises:
        InputError: if there is none of either.
    """
    pairs = [
        row
        for row, scene in enumerate(scenes)
        if len({thing.noun for thing in scene.objects}) == 2 == len(scene.objects)
    ]
    colored = [row for row in pairs if differ_in_noun_and_color(*scenes[row].objects)]
    if not colored:
        raise InputError("pair_share: the scene pool has no scene with two objects that differ in noun and color")
    return pairs, colored
