"""The text tokenizer of the embedded default: byte-level BPE with one end-of-text token, as Phi-1.5's is."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from showo_turbo.processing.prompts import FIRST_TURN
from showo_turbo.scenes.language import caption, description_question, questions
from showo_turbo.scenes.split import training_scene
from showo_turbo.validation import check_integer, check_seed

END_OF_TEXT = "<|endoftext|>"


def scene_texts(count: int, seed: int) -> Iterator[str]:
    """Texts of the world as the model will read them: a caption and all dialogue turns of each of `count` scenes."""
    rng = random.Random(seed)
    for _ in range(count):
        scene = training_scene(rng)
        yield caption(scene, rng)
        for turn in [description_question(scene, rng), *questions(scene, rng)]:
            yield f"{FIRST_TURN.format(turn.question)} {turn.answer}"


@dataclass(frozen=True)
class TextTokenizerTrainingConfig:
    """One training of the text tokenizer.

    Attributes:
        output: folder to write; transformers loads it.
        vocab_size: most ids to have, one a byte at least; learning stops earlier when every word is one token.
        scenes: scenes whose texts are read.
        seed: of the scenes.
    """

    output: str = "runs/tiny/text_tokenizer"
    vocab_size: int = 512
    scenes: int = 5000
    seed: int = 0

    def __post_init__(self) -> None:
        check_integer("vocab_size", self.vocab_size, len(pre_tokenizers.ByteLevel.alphabet()) + 1)
        check_integer("scenes", self.scenes, 1)
        check_seed("seed", self.seed)


def train_text_tokenizer(config: TextTokenizerTrainingConfig) -> None:
    """Learn the merges on the world's texts and write a tokenizer folder.

    Every word of the world ends up as one token; any other text still has an encoding, byte by byte.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=config.vocab_size,
        min_frequency=2,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=[END_OF_TEXT],
        show_progress=False,
    )
    tokenizer.train_from_iterator(scene_texts(config.scenes, config.seed), trainer)
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=END_OF_TEXT, eos_token=END_OF_TEXT, unk_token=END_OF_TEXT
    )
    wrapped.save_pretrained(config.output)
