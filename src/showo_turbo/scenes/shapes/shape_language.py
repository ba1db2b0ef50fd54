"""Texts of the world of coloured shapes."""

import random
from typing import ClassVar

from showo_turbo.scenes.language import OPENINGS, Language, QuestionAnswer, QuestionMaker, article, join, related_pair
from showo_turbo.scenes.scene import PLACES, Scene


class ShapeLanguage(Language):
    """Write texts about coloured shapes: every object has a color, and one word for its shape."""

    def caption(self, scene: Scene, rng: random.Random) -> str:
        """Return a random true caption of a scene: a quarter are dense, the others as vague as GenEval's prompts."""
        if rng.random() < 0.25:
            return rng.choice(OPENINGS) + self.description(scene)
        body = rng.choice(self._CAPTIONS_BY_COUNT[len(scene.objects)])(self, scene, rng)
        return rng.choice(OPENINGS) + body + self.background_phrase(scene.background if rng.random() < 0.5 else None)

    def _by_shape(self, scene: Scene, rng: random.Random) -> str:
        return join(self.listing(scene, rng, with_colors=False))

    def _by_color(self, scene: Scene, rng: random.Random) -> str:
        return join(self.listing(scene, rng, with_colors=True))

    def _placed(self, scene: Scene, rng: random.Random) -> str:
        thing = scene.objects[0]
        return f"{article(rng.choice((thing.noun, thing.name)))} in the {PLACES[thing.place]}"

    def _related(self, scene: Scene, rng: random.Random) -> str:
        first, second, relation = related_pair(scene, rng)
        if first.noun == second.noun or rng.random() < 0.5:
            return f"{article(first.name)} {relation} {article(second.name)}"
        return f"{article(first.noun)} {relation} {article(second.noun)}"

    _CAPTIONS_BY_COUNT: ClassVar = {
        1: (_by_shape, _by_color, _placed),
        2: (_by_shape, _by_color, _related, _related),
        3: (_by_shape, _by_color),
        4: (_by_shape, _by_color),
    }

    @property
    def question_makers(self) -> dict[str, QuestionMaker]:
        """Functions that make a question, by kind."""
        return {
            "count": self.how_many,
            "color": self.what_color,
            "shape": self.what_shape,
            "place": self.where,
            "existence": self.is_there,
            "relation": self.relation,
            "content": self.what_is_at,
        }

    def what_shape(self, scene: Scene, rng: random.Random) -> QuestionAnswer | None:
        """Ask for the shape of the only object of its color."""
        unique = [thing for thing in scene.objects if len(scene.matching(color=thing.color)) == 1]
        if not unique:
            return None
        thing = rng.choice(unique)
        return QuestionAnswer("shape", f"What shape is the {thing.color} object?", thing.noun)
