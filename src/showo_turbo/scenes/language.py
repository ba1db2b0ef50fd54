"""Texts of the built-in world: captions, descriptions, and questions with their answers.

Captions have GenEval's six categories, and a dense form that names the place of every object. A description is the
dense caption in one fixed wording, so that `described_facts` can parse it.
"""

import random
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from itertools import permutations

from showo_turbo.scenes.scene import BACKGROUNDS, COLORS, PLACES, RELATIONS, SHAPES, Scene, SceneObject

NUMBERS = ("zero", "one", "two", "three", "four")
OPENINGS = ("", "a picture of ", "a photo of ", "a drawing of ")
QUESTION_KINDS = ("count", "color", "shape", "place", "existence", "relation", "content")
DESCRIBE = ("Describe the image.", "What do you see?", "Describe this picture.")


@dataclass(frozen=True)
class QuestionAnswer:
    """Hold a question about a scene with its answer; evaluation groups questions by `kind`."""

    kind: str
    question: str
    answer: str


def article(noun: str) -> str:
    """Return the noun with its indefinite article."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def plural(noun: str) -> str:
    """Return the plural of a noun."""
    return noun + ("es" if noun.endswith("s") else "s")


def join(parts: list[str]) -> str:
    """Join words as `a`, `a and b`, `a, b and c`."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def colored(thing: SceneObject) -> str:
    """Return colour and shape of an object, with article."""
    return article(f"{thing.color} {thing.shape}")


def description(scene: Scene) -> str:
    """Return the full description of a scene: each object with its place in reading order, then the background."""
    things = [f"{colored(thing)} in the {PLACES[thing.place]}" for thing in scene.objects]
    return f"{join(things)} on {article(scene.background)} background"


_OBJECT = re.compile(rf"an? ({'|'.join(COLORS)}) ({'|'.join(SHAPES)}) in the ({'|'.join(PLACES)})")
_BACKGROUND = re.compile(rf"on an? ({'|'.join(BACKGROUNDS)}) background")


def described_facts(text: str) -> tuple[list[SceneObject], str | None]:
    """Parse a description: return its objects, and its background if it names one."""
    objects = [SceneObject(PLACES.index(place), shape, color) for color, shape, place in _OBJECT.findall(text)]
    background = _BACKGROUND.search(text)
    return objects, background.group(1) if background else None


def caption(scene: Scene, rng: random.Random) -> str:
    """Return a random true caption of a scene: a quarter are dense, the others as vague as GenEval's prompts."""
    if rng.random() < 0.25:
        return rng.choice(OPENINGS) + description(scene)
    body = rng.choice(_CAPTIONS_BY_COUNT[len(scene.objects)])(scene, rng)
    return rng.choice(OPENINGS) + body + background_phrase(scene.background if rng.random() < 0.5 else None)


def background_phrase(background: str | None) -> str:
    """Return the words for a background at the end of a caption; nothing for None."""
    return f" on {article(background)} background" if background else ""


def _listing(name: Callable[[SceneObject], str]) -> Callable[[Scene, random.Random], str]:
    def body(scene: Scene, rng: random.Random) -> str:
        groups = _grouped([name(thing) for thing in scene.objects])
        rng.shuffle(groups)
        return join(groups)

    return body


def _grouped(names: list[str]) -> list[str]:
    """Count equal names together: two red circles -> `two red circles`, one -> `a red circle`."""
    counts = {name: names.count(name) for name in names}
    return [article(name) if n == 1 else f"{NUMBERS[n]} {plural(name)}" for name, n in counts.items()]


def _placed(scene: Scene, rng: random.Random) -> str:
    thing = scene.objects[0]
    name = rng.choice((thing.shape, f"{thing.color} {thing.shape}"))
    return f"{article(name)} in the {PLACES[thing.place]}"


def _related(scene: Scene, rng: random.Random) -> str:
    first, second = rng.choice(list(permutations(scene.objects)))
    relation = rng.choice([r for r in RELATIONS if first.is_(r, second)])
    if first.shape == second.shape or rng.random() < 0.5:
        return f"{colored(first)} {relation} {colored(second)}"
    return f"{article(first.shape)} {relation} {article(second.shape)}"


_by_shape = _listing(lambda thing: thing.shape)
_by_color = _listing(lambda thing: f"{thing.color} {thing.shape}")
_CAPTIONS_BY_COUNT = {
    1: (_by_shape, _by_color, _placed),
    2: (_by_shape, _by_color, _related, _related),
    3: (_by_shape, _by_color),
    4: (_by_shape, _by_color),
}


def questions(scene: Scene, rng: random.Random) -> list[QuestionAnswer]:
    """Return a random question of each kind that is possible for the scene, in a fixed order of kinds."""
    candidates = [make(scene, rng) for make in (_how_many, _color, _shape, _where, _is_there, _relation, _what_is_at)]
    return [question for question in candidates if question is not None]


def description_question(scene: Scene, rng: random.Random) -> QuestionAnswer:
    """Return a request to describe the scene, with the description."""
    return QuestionAnswer("describe", rng.choice(DESCRIBE), description(scene))


def scene_turns(
    scene: Scene, rng: random.Random, count: int, described: bool, kinds: Collection[str] = QUESTION_KINDS
) -> list[QuestionAnswer]:
    """Return at most `count` random turns about a scene; the first requests the description if `described` is set.

    Questions have one of the `kinds` if the scene allows it, otherwise any kind. Questions about relations are the
    hardest and rarely possible, so they come first.
    """
    opening = [description_question(scene, rng)] if described else []
    possible = questions(scene, rng)
    chosen = [turn for turn in possible if turn.kind in kinds] or possible
    rng.shuffle(chosen)
    chosen.sort(key=lambda turn: turn.kind != "relation")
    return [*opening, *chosen][:count]


def _how_many(scene: Scene, rng: random.Random) -> QuestionAnswer:
    if rng.random() < 0.25:
        return QuestionAnswer("count", "How many objects are there?", NUMBERS[len(scene.objects)])
    shape = rng.choice(scene.objects).shape if rng.random() < 0.8 else rng.choice(SHAPES)
    return QuestionAnswer("count", f"How many {plural(shape)} are there?", NUMBERS[len(scene.matching(shape))])


def _color(scene: Scene, rng: random.Random) -> QuestionAnswer | None:
    word = rng.choice(("color", "colour"))
    if rng.random() < 0.25:
        return QuestionAnswer("color", f"What {word} is the background?", scene.background)
    unique = [thing for thing in scene.objects if len(scene.matching(thing.shape)) == 1]
    if not unique:
        return None
    thing = rng.choice(unique)
    return QuestionAnswer("color", f"What {word} is the {thing.shape}?", thing.color)


def _shape(scene: Scene, rng: random.Random) -> QuestionAnswer | None:
    unique = [thing for thing in scene.objects if len(scene.matching(color=thing.color)) == 1]
    if not unique:
        return None
    thing = rng.choice(unique)
    return QuestionAnswer("shape", f"What shape is the {thing.color} object?", thing.shape)


def _where(scene: Scene, rng: random.Random) -> QuestionAnswer | None:
    unique = [thing for thing in scene.objects if len(scene.matching(thing.shape, thing.color)) == 1]
    if not unique:
        return None
    thing = rng.choice(unique)
    shape_only = len(scene.matching(thing.shape)) == 1 and rng.random() < 0.5
    name = thing.shape if shape_only else f"{thing.color} {thing.shape}"
    return QuestionAnswer("place", f"Where is the {name}?", PLACES[thing.place])


def _is_there(scene: Scene, rng: random.Random) -> QuestionAnswer:
    """Return an existence question: half of the answers are yes, and wrong objects resemble a present one."""
    thing = rng.choice(scene.objects)
    shape, color = thing.shape, thing.color
    if rng.random() < 0.5:
        while scene.matching(shape, color):
            shape = rng.choice(SHAPES) if rng.random() < 0.6 else shape
            color = rng.choice(COLORS) if rng.random() < 0.6 else color
    answer = "yes" if scene.matching(shape, color) else "no"
    return QuestionAnswer("existence", f"Is there {article(f'{color} {shape}')}?", answer)


def _relation(scene: Scene, rng: random.Random) -> QuestionAnswer | None:
    unique = [thing for thing in scene.objects if len(scene.matching(thing.shape)) == 1]
    if len(unique) < 2:
        return None
    first, second = rng.sample(unique, 2)
    relation = rng.choice(RELATIONS)
    answer = "yes" if first.is_(relation, second) else "no"
    return QuestionAnswer("relation", f"Is the {first.shape} {relation} the {second.shape}?", answer)


def _what_is_at(scene: Scene, rng: random.Random) -> QuestionAnswer:
    place = rng.randrange(len(PLACES))
    thing = scene.at(place)
    return QuestionAnswer("content", f"What is in the {PLACES[place]}?", colored(thing) if thing else "nothing")
