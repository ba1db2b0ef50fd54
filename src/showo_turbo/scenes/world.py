"""A world: scenes with everything that training and evaluation need of them."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from showo_turbo.errors import InputError
from showo_turbo.processing.known_world import KnownWorld, words_of
from showo_turbo.scenes.language import Language
from showo_turbo.scenes.scene import Detection, Look, Scene
from showo_turbo.scenes.split import Split

_SCENES_WITH_ALL_WORDS = 5000


@dataclass(frozen=True)
class World:
    """Hold a world.

    Attributes:
        name: in configurations.
        resolution: side of an image in pixels.
        places: where objects can be.
        looks: all (noun, color) of objects.
        backgrounds: all backgrounds.
        random_scene: generates any scene from a random generator.
        render_array: renders a scene as an array, uint8 (resolution, resolution, 3).
        detect: detects the scene of an image, without a neural network.
        language: captions, descriptions, questions and answers.
        split: combinations that are held out of training.
        benchmark: JSONL file of held-out prompts.
        demo: prompts, each with a question about its image.
        limits: what images show, as a phrase.
        allows_other_objects: whether an image may show more objects than its prompt names, as GenEval allows it.
    """

    name: str
    resolution: int
    places: tuple[str, ...]
    looks: Sequence[Look]
    backgrounds: tuple[str, ...]
    random_scene: Callable[[random.Random], Scene]
    render_array: Callable[[Scene], np.ndarray]
    detect: Callable[[Image.Image | np.ndarray], Detection]
    language: Language
    split: Split
    benchmark: Path
    demo: dict[str, str]
    limits: str
    allows_other_objects: bool

    def render(self, scene: Scene) -> Image.Image:
        """Render a scene as an RGB PIL image."""
        return Image.fromarray(self.render_array(scene))

    def training_scene(self, rng: random.Random) -> Scene:
        """Generate a scene without held-out combinations."""
        while not self.split.is_training_scene(scene := self.random_scene(rng)):
            pass
        return scene

    def held_out_scene(self, rng: random.Random, subset: str = "test") -> Scene:
        """Generate a scene of the "test" or "validation" subset: with at least one of its combinations."""
        while self.split.subset_of_scene(scene := self.random_scene(rng)) != subset:
            pass
        return scene

    def known_world(self) -> KnownWorld:
        """Describe this world for models that are trained on its texts; the words are those of many random texts."""
        rng, words, language = random.Random(0), set[str](), self.language
        for _ in range(_SCENES_WITH_ALL_WORDS):
            scene = self.random_scene(rng)
            turns = [language.description_question(scene, rng), *language.questions(scene, rng)]
            texts = [language.caption(scene, rng), *(text for turn in turns for text in (turn.question, turn.answer))]
            words.update(words_of(" ".join(texts)))
        return KnownWorld(self.name, self.limits, frozenset(words), tuple(self.demo), tuple(self.demo.values()))

    def check_resolution(self, resolution: int) -> None:
        """Check that a model generates images of this world's resolution, pixels along a side.

        Raises:
            InputError: if the resolution differs.
        """
        if resolution != self.resolution:
            raise InputError(
                f"the model draws {resolution} x {resolution} pixels, the built-in world has "
                f"{self.resolution} x {self.resolution}"
            )
