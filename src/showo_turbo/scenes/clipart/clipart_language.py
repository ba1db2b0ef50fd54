"""Texts of the clip-art world.

The text tokenizer of this world drops case, repeated spaces and final punctuation, so these texts hardly vary in them.
"""

import random
import re

from showo_turbo.scenes.clipart.sprites import LOOKS
from showo_turbo.scenes.language import Language, QuestionAnswer, QuestionMaker, article, join, related_pair
from showo_turbo.scenes.scene import MIDDLE, PLACES, Scene

OPENINGS = (
    *[""] * 4, "a picture of ", "a photo of ", "a drawing of ", "an image of ", "clip art of ", "draw ", "show me ",
)  # fmt: skip
SIZES = ("big", "large")
RELATION_WORDS = {
    "left of": ("left of", "left of", "to the left of", "on the left of"),
    "right of": ("right of", "right of", "to the right of", "on the right of"),
    "above": ("above", "above", "over", "on top of"),
    "below": ("below", "below", "under", "beneath"),
}
SIDES = {"left of": ("on the left", "on the right"), "above": ("at the top", "at the bottom")}
"""Phrases for the first and the second object of a relation."""

SYNONYMS = {
    "airplane": ("plane", "aeroplane"),
    "backpack": ("rucksack",),
    "basketball": ("ball", "sports ball"),
    "bicycle": ("bike",),
    "boat": ("sailboat",),
    "cake": ("cake slice",),
    "car": ("automobile",),
    "cell phone": ("phone", "mobile phone", "smartphone"),
    "clock": ("alarm clock",),
    "cup": ("coffee cup", "mug"),
    "donut": ("doughnut",),
    "flower": ("tulip",),
    "handbag": ("purse", "bag"),
    "laptop": ("laptop computer", "computer"),
    "motorcycle": ("motorbike",),
    "potted plant": ("plant", "pot plant"),
    "rocket": ("space rocket",),
    "shirt": ("t-shirt",),
    "suitcase": ("luggage case",),
    "teddy bear": ("teddy",),
    "tennis racket": ("racket",),
    "train": ("locomotive", "steam train"),
    "truck": ("lorry",),
    "tv": ("television", "tv set"),
}


class ClipartLanguage(Language):
    """Write texts about sprites."""

    def __init__(self, background: str) -> None:
        super().__init__(LOOKS, (background,), SYNONYMS)

    def caption(self, scene: Scene, rng: random.Random) -> str:
        """Return a random true caption of a scene: a fifth are dense, the others as vague as GenEval's prompts."""
        text = self.description(scene) if rng.random() < 0.2 else self._brief_caption(scene, rng)
        if rng.random() < 0.08:
            text = re.sub(r"\ban? ", "", text)
        return rng.choice(OPENINGS) + text + rng.choice(("", "", "", "."))

    def _brief_caption(self, scene: Scene, rng: random.Random) -> str:
        with_colors = rng.random() < 0.65
        if len(scene.objects) == 1 and rng.random() < 0.4:
            return self._single_caption(scene, rng, with_colors)
        if len(scene.objects) == 2 and rng.random() < 0.6:
            return self._relation_caption(scene, rng, with_colors)
        groups = self.listing(scene, rng, with_colors)
        if len(groups) == 2:
            return rng.choice((" and ", " and ", " and ", " with ", ", ")).join(groups)
        return join(groups) if rng.random() < 0.7 else rng.choice((", ", " and ")).join(groups)

    def _single_caption(self, scene: Scene, rng: random.Random, with_color: bool) -> str:
        thing = scene.objects[0]
        word = self.word(thing, rng, with_color)
        if thing.place == MIDDLE and rng.random() < 0.7:
            return article(f"{rng.choice(SIZES)} {word}")
        corner = "" if thing.place == MIDDLE else rng.choice(("", "", " corner"))
        return f"{article(word)} in the {PLACES[thing.place]}{corner}"

    def _relation_caption(self, scene: Scene, rng: random.Random, with_colors: bool) -> str:
        first, second, relation = related_pair(scene, rng)
        words = [article(self.word(thing, rng, with_colors or first.noun == second.noun)) for thing in (first, second)]
        if relation in SIDES and rng.random() < 0.2:
            return " and ".join(f"{word} {side}" for word, side in zip(words, SIDES[relation], strict=True))
        return f"{words[0]} {rng.choice(RELATION_WORDS[relation])} {words[1]}"

    @property
    def question_makers(self) -> dict[str, QuestionMaker]:
        """Functions that make a question, by kind."""
        return {
            "count": self.how_many,
            "color": self.what_color,
            "place": self.where,
            "existence": self.is_there,
            "relation": self.relation,
            "content": self.what_is_at,
        }

    def what_is_at(self, scene: Scene, rng: random.Random) -> QuestionAnswer:
        """Ask for the only object, for the one on a side of another one, or for the one in a quarter."""
        if len(scene.objects) == 1 and (scene.objects[0].place == MIDDLE or rng.random() < 0.4):
            question = rng.choice(("What is this?", "What is in the picture?", "What is shown?"))
            return QuestionAnswer("content", question, article(scene.objects[0].name))
        if len(scene.objects) == 2 and rng.random() < 0.3:
            first, second, relation = related_pair(scene, rng)
            if first.noun != second.noun:
                question = f"What is {relation} the {self.noun(second.noun, rng)}?"
                return QuestionAnswer("content", question, article(first.name))
        return super().what_is_at(scene, rng)

    def what_color(self, scene: Scene, rng: random.Random) -> QuestionAnswer | None:
        """Ask for the color of the only object of its noun, or of the only object."""
        turn = super().what_color(scene, rng)
        if turn is not None and len(scene.objects) == 1 and rng.random() < 0.2:
            return QuestionAnswer("color", "What color is it?", turn.answer)
        return turn
