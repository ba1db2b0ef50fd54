"""Pre-training of Show-o on scenes: masked codes for text to image, next tokens for answers, in one model."""

from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from showo_turbo.checkpoints.saving import save_showo
from showo_turbo.checkpoints.weights import fit_weights, weights_of_file
from showo_turbo.models.showo import Showo
from showo_turbo.pretraining.scene_batches import SceneBatches, pair_rows
from showo_turbo.processing.prompts import load_text_tokenizer
from showo_turbo.scenes.pool import load_scene_pool
from showo_turbo.training.architecture import ArchitectureConfig, random_model
from showo_turbo.training.loop import LoopConfig
from showo_turbo.training.optimizers import OptimizerConfig
from showo_turbo.training.supervised_task import SupervisedTask, Term
from showo_turbo.validation import check_fraction, check_integer, check_number


def _muon() -> OptimizerConfig:
    return OptimizerConfig("muon", lr=2e-3, muon_lr=2e-3, betas=(0.9, 0.98), weight_decay=0.0)


@dataclass(frozen=True)
class ShowoPretrainingConfig(ArchitectureConfig):
    """Configure a pre-training of the transformer; see `ArchitectureConfig` for its sizes.

    Attributes:
        loop: training loop.
        text_tokenizer: folder of the text tokenizer.
        scene_pool: file of encoded scenes.
        text_to_image_batch_size: captioned images per step.
        understanding_batch_size: images with questions per step.
        questions_per_picture: turns packed behind one image; in every second batch one of them is a description.
        condition_dropout: fraction of captions replaced by the empty prompt.
        pair_share: fraction of captions that are drawn from scenes with two different nouns only, every second one with
            two different colors: the compositions that are learned last.
        known_share: fraction of captioned images of which only a part is to be predicted, as in inpainting,
            extrapolation and variation; the masks of the others may fall anywhere.
        understanding_weight: weight of the loss on answers.
        optimizer: optimizer of the weights.
        init_from: initial weights (model.safetensors of an earlier run), for another round of training.
    """

    loop: LoopConfig = field(default_factory=LoopConfig)
    text_tokenizer: str = "runs/tiny/text_tokenizer"
    scene_pool: str = "runs/tiny/scene_pool.safetensors"
    text_to_image_batch_size: int = 32
    understanding_batch_size: int = 8
    questions_per_picture: int = 3
    condition_dropout: float = 0.1
    pair_share: float = 0.0
    known_share: float = 0.0
    understanding_weight: float = 0.5
    optimizer: OptimizerConfig = field(default_factory=_muon)
    init_from: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("text_to_image_batch_size", "understanding_batch_size", "questions_per_picture"):
            check_integer(name, getattr(self, name), 1)
        check_fraction("condition_dropout", self.condition_dropout)
        check_fraction("pair_share", self.pair_share)
        check_fraction("known_share", self.known_share)
        check_number("understanding_weight", self.understanding_weight, 0)


class ShowoPretraining(SupervisedTask):
    """Pre-train the transformer from random weights on scenes: the task of `showo-turbo pretrain showo`."""

    def __init__(self, config: ShowoPretrainingConfig) -> None:
        """Load text tokenizer and scene pool, and initialise the model from the seed or from `config.init_from`."""
        self.pool = load_scene_pool(Path(config.scene_pool))
        model, self.prompts = random_model(config, load_text_tokenizer(config.text_tokenizer), config.loop.seed)
        scenes = SceneBatches(self.pool, self.prompts, config.loop.seed)
        captions = partial(
            scenes.captions,
            size=config.text_to_image_batch_size,
            condition_dropout=config.condition_dropout,
            pair_share=config.pair_share,
            pairs=pair_rows(self.pool.scenes) if config.pair_share else (),
            known_share=config.known_share,
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
        if config.init_from is not None:
            fit_weights(model, weights_of_file(Path(config.init_from)))
        super().__init__(model, self.prompts.vocabulary, terms, config.optimizer, self._write)

    def _write(self, model: Showo, folder: Path) -> None:
        """Write transformer and text tokenizer, with float16 weights."""
        save_showo(folder, deepcopy(model).half(), self.prompts)
