"""Training of a text tokenizer on scene texts: byte-level BPE with one end-of-text token, like Phi-1.5's."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from showo_turbo.processing.prompts import FIRST_TURN
from showo_turbo.scenes.world import World
from showo_turbo.scenes.worlds import find_world
from showo_turbo.validation import check_integer, check_seed

END_OF_TEXT = "<|endoftext|>"


def scene_texts(world: World, count: int, seed: int) -> Iterator[str]:
    """Yield texts in the format of pre-training: a caption and all dialogue turns of each of `count` scenes."""
    rng, language = random.Random(seed), world.language
    for _ in range(count):
        scene = world.training_scene(rng)
        yield language.caption(scene, rng)
        for turn in [language.description_question(scene, rng), *language.questions(scene, rng)]:
            yield f"{FIRST_TURN.format(turn.question)} {turn.answer}"


@dataclass(frozen=True)
class TextTokenizerTrainingConfig:
    """Configure a training of the text tokenizer.

    Attributes:
        world: name of the world whose texts are learned.
        output: folder to write, in the format of transformers.
        vocab_size: maximum number of ids, at least one per byte; training stops earlier when every word is one token.
        normalize: ignore case, repeated white space and final punctuation of all texts; without it, they are encoded
            byte by byte.
        scenes: number of scenes that texts are generated from.
        seed: seed of the scenes.
    """

    world: str = "shapes"
    output: str = "runs/tiny/text_tokenizer"
    vocab_size: int = 512
    normalize: bool = False
    scenes: int = 5000
    seed: int = 0

    def __post_init__(self) -> None:
        check_integer("vocab_size", self.vocab_size, len(pre_tokenizers.ByteLevel.alphabet()) + 1)
        check_integer("scenes", self.scenes, 1)
        check_seed("seed", self.seed)


def _plain_text() -> normalizers.Normalizer:
    """Build the normalizer to lower case and single spaces, without invisible characters and final punctuation."""
    return normalizers.Sequence(
        [
            normalizers.NFKC(),
            normalizers.Replace(Regex(r"[\u00AD\u200B-\u200F\u2060-\u2064\uFEFF]"), ""),
            normalizers.Lowercase(),
            normalizers.Replace(Regex(r"\s*[.?!]+(?=\s|$)"), ""),
            normalizers.Replace(Regex(r"\s+"), " "),
            normalizers.Strip(),
        ]
    )


def train_text_tokenizer(config: TextTokenizerTrainingConfig) -> None:
    """Learn the merges on texts of a world and write a tokenizer folder.

    Every frequent word of the world becomes one token; any other text is encoded byte by byte.
    """
    tokenizer = Tokenizer(models.BPE())
    if config.normalize:
        tokenizer.normalizer = _plain_text()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=config.vocab_size,
        min_frequency=2,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=[END_OF_TEXT],
        show_progress=False,
    )
    tokenizer.train_from_iterator(scene_texts(find_world(config.world), config.scenes, config.seed), trainer)
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=END_OF_TEXT, eos_token=END_OF_TEXT, unk_token=END_OF_TEXT
    )
    wrapped.save_pretrained(config.output)
