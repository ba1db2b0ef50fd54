"""Texts of all worlds: descriptions and their facts, questions and answers, parts of captions.

A world has a subclass of `Language` with its captions and its own questions. Captions have GenEval's six categories,
and a dense form that names the place of every object. A description is the dense caption in one fixed wording, so that
`described_facts` can parse it.
"""

import random
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import permutations

from showo_turbo.scenes.scene import PLACES, QUARTERS, RELATIONS, Look, Scene, SceneObject

NUMBERS = ("zero", "one", "two", "three", "four")
OPENINGS = ("", "a picture of ", "a photo of ", "a drawing of ")
DESCRIBE = ("Describe the image.", "What do you see?", "Describe this picture.")

IRREGULAR_ARTICLES = {"scissors": "a pair of scissors"}
IRREGULAR_PLURALS = {
    "broccoli": "broccoli",
    "fish": "fish",
    "knife": "knives",
    "scissors": "scissors",
    "sheep": "sheep",
    "teddy": "teddies",
}


@dataclass(frozen=True)
class QuestionAnswer:
    """Hold a question about a scene with its answer; evaluation groups questions by `kind`."""

    kind: str
    question: str
    answer: str


QuestionMaker = Callable[[Scene, random.Random], QuestionAnswer | None]


def article(noun: str) -> str:
    """Return the noun with its indefinite article."""
    return IRREGULAR_ARTICLES.get(noun) or f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def plural(noun: str) -> str:
    """Return the plural of a noun, which may have adjectives before it."""
    *adjectives, last = noun.split(" ")
    if last.endswith("y") and last[-2] not in "aeiou":
        regular = f"{last[:-1]}ies"
    else:
        regular = last + ("es" if last.endswith(("s", "ch", "sh")) else "s")
    return " ".join([*adjectives, IRREGULAR_PLURALS.get(last, regular)])


def join(parts: list[str]) -> str:
    """Join words as `a`, `a and b`, `a, b and c`."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def group_equal(names: list[str]) -> list[str]:
    """Count equal names together: two red circles -> `two red circles`, one -> `a red circle`."""
    counts = {name: names.count(name) for name in names}
    return [article(name) if n == 1 else f"{NUMBERS[n]} {plural(name)}" for name, n in counts.items()]


def related_pair(scene: Scene, rng: random.Random) -> tuple[SceneObject, SceneObject, str]:
    """Return the two objects of a scene in random order, and a relation that holds between them."""
    first, second = rng.choice(list(permutations(scene.objects)))
    return first, second, rng.choice([relation for relation in RELATIONS if first.is_(relation, second)])


def _named(thing: SceneObject, noun: str, with_color: bool) -> str:
    return replace(thing, noun=noun, color=thing.color if with_color else None).name


class Language(ABC):
    """Write texts about the scenes of a world."""

    def __init__(
        self, looks: Sequence[Look], backgrounds: Sequence[str], synonyms: Mapping[str, Sequence[str]] | None = None
    ) -> None:
        """Set the words.

        Args:
            looks: all (noun, color) of objects.
            backgrounds: all backgrounds; texts do not mention the only one.
            synonyms: other words for a noun, in captions and questions; answers and descriptions use the noun.
        """
        self.nouns = tuple(dict.fromkeys(noun for noun, _ in looks))
        self.colors = tuple(dict.fromkeys(color for _, color in looks if color))
        self.looks, self.backgrounds, self.synonyms = looks, backgrounds, synonyms or {}
        names = {SceneObject(0, *look).name: look for look in looks}
        articles = "|".join(sorted(map(article, names), key=len, reverse=True))
        self._look_of = {article(name): look for name, look in names.items()}
        self._object = re.compile(rf"\b({articles}) in the ({'|'.join(PLACES)})")
        self._background = re.compile(rf"\bon an? ({'|'.join(backgrounds)}) background")

    @abstractmethod
    def caption(self, scene: Scene, rng: random.Random) -> str:
        """Return a random true caption of a scene."""

    @property
    @abstractmethod
    def question_makers(self) -> dict[str, QuestionMaker]:
        """Functions that make a question about a scene, None where it has no answer, by the kind of question."""

    @property
    def question_kinds(self) -> tuple[str, ...]:
        """Kinds of questions."""
        return tuple(self.question_makers)

    def description(self, scene: Scene) -> str:
        """Return the full description of a scene: each object with its place in reading order, then the background."""
        things = [f"{article(thing.name)} in the {PLACES[thing.place]}" for thing in scene.objects]
        return join(things) + self.background_phrase(scene.background)

    def background_phrase(self, background: str | None) -> str:
        """Return the words for a background at the end of a caption; nothing for None, or if the world has only one."""
        return f" on {article(background)} background" if background and len(self.backgrounds) > 1 else ""

    def described_facts(self, text: str) -> tuple[list[SceneObject], str | None]:
        """Parse a description: return its objects, and its background if it names one."""
        objects = [SceneObject(PLACES.index(place), *self._look_of[name]) for name, place in self._object.findall(text)]
        background = self._background.search(text)
        return objects, background.group(1) if background else None

    def listing(self, scene: Scene, rng: random.Random, with_colors: bool) -> list[str]:
        """Return the objects of a scene in random order, equal ones counted together: `a star`, `two red circles`."""
        words = {noun: self.noun(noun, rng) for noun in dict.fromkeys(thing.noun for thing in scene.objects)}
        groups = group_equal([_named(thing, words[thing.noun], with_colors) for thing in scene.objects])
        rng.shuffle(groups)
        return groups

    def word(self, thing: SceneObject, rng: random.Random, with_color: bool) -> str:
        """Return the noun of an object or a synonym, with its color if it has one and `with_color` is set."""
        return _named(thing, self.noun(thing.noun, rng), with_color)

    def noun(self, noun: str, rng: random.Random) -> str:
        """Return a noun or, in a quarter of all cases, one of its synonyms."""
        synonyms = self.synonyms.get(noun)
        return rng.choice(synonyms) if synonyms and rng.random() < 0.25 else noun

    def questions(self, scene: Scene, rng: random.Random) -> list[QuestionAnswer]:
        """Return a random question of each kind that is possible for the scene, in a fixed order of kinds."""
        candidates = [make(scene, rng) for make in self.question_makers.values()]
        return [question for question in candidates if question is not None]

    def description_question(self, scene: Scene, rng: random.Random) -> QuestionAnswer:
        """Return a request to describe the scene, with the description."""
        return QuestionAnswer("describe", rng.choice(DESCRIBE), self.description(scene))

    def turns(
        self,
        scene: Scene,
        rng: random.Random,
        count: int,
        described: bool,
        kinds: Collection[str] | None = None,
    ) -> list[QuestionAnswer]:
        """Return at most `count` random turns about a scene; the first requests the description if `described` is set.

        Questions have one of the `kinds` if the scene allows it, otherwise any kind; None allows all. Questions about
        relations are the hardest and rarely possible, so every second list of turns begins with them. If all did, a
        single turn would ask nothing else about the scenes that allow them.
        """
        opening = [self.description_question(scene, rng)] if described else []
        possible = self.questions(scene, rng)
        chosen = [turn for turn in possible if kinds is None or turn.kind in kinds] or possible
        rng.shuffle(chosen)
        if rng.random() < 0.5:
            chosen.sort(key=lambda turn: turn.kind != "relation")
        return [*opening, *chosen][:count]

    def how_many(self, scene: Scene, rng: random.Random) -> QuestionAnswer:
        """Ask for the number of objects, of all or of one noun."""
        if rng.random() < 0.25:
            return QuestionAnswer("count", "How many objects are there?", NUMBERS[len(scene.objects)])
        noun = rng.choice(scene.objects).noun if rng.random() < 0.8 else rng.choice(self.nouns)
        question = f"How many {plural(self.noun(noun, rng))} are there?"
        return QuestionAnswer("count", question, NUMBERS[len(scene.matching(noun))])

    def what_color(self, scene: Scene, rng: random.Random) -> QuestionAnswer | None:
        """Ask for the color of the background, or of the only object of its noun."""
        word = rng.choice(("color", "colour"))
        if len(self.backgrounds) > 1 and rng.random() < 0.25:
            return QuestionAnswer("color", f"What {word} is the background?", scene.background)
        unique = [thing for thing in scene.objects if thing.color and len(scene.matching(thing.noun)) == 1]
        if not unique:
            return None
        thing = rng.choice(unique)
        return QuestionAnswer("color", f"What {word} is the {self.noun(thing.noun, rng)}?", str(thing.color))

    def where(self, scene: Scene, rng: random.Random) -> QuestionAnswer | None:
        """Ask for the place of an object that is the only one of its look."""
        unique = [thing for thing in scene.objects if len(scene.matching(thing.noun, thing.color)) == 1]
        if not unique:
            return None
        thing = rng.choice(unique)
        noun_only = len(scene.matching(thing.noun)) == 1 and rng.random() < 0.5
        return QuestionAnswer("place", f"Where is the {self.word(thing, rng, not noun_only)}?", PLACES[thing.place])

    def is_there(self, scene: Scene, rng: random.Random) -> QuestionAnswer:
        """Ask whether there is an object: half of the answers are yes, and wrong objects resemble a present one."""
        thing = rng.choice(scene.objects)
        if rng.random() < 0.5:
            while scene.matching(thing.noun, thing.color):
                thing = self.similar_object(thing, rng)
        answer = "yes" if scene.matching(thing.noun, thing.color) else "no"
        return QuestionAnswer("existence", f"Is there {article(self.word(thing, rng, True))}?", answer)

    def similar_object(self, thing: SceneObject, rng: random.Random) -> SceneObject:
        """Return an object that may differ from another one in noun and color, independently where both have colors."""
        noun = rng.choice(self.nouns) if rng.random() < 0.6 else thing.noun
        color = rng.choice(self.colors) if rng.random() < 0.6 else thing.color
        if (noun, color) not in self.looks:
            color = rng.choice([color for other, color in self.looks if other == noun])
        return SceneObject(thing.place, noun, color)

    def relation(self, scene: Scene, rng: random.Random) -> QuestionAnswer | None:
        """Ask whether a relation holds between two objects that are the only ones of their nouns."""
        unique = [thing for thing in scene.objects if len(scene.matching(thing.noun)) == 1]
        if len(unique) < 2:
            return None
        first, second = rng.sample(unique, 2)
        relation = rng.choice(RELATIONS)
        answer = "yes" if first.is_(relation, second) else "no"
        question = f"Is the {self.noun(first.noun, rng)} {relation} the {self.noun(second.noun, rng)}?"
        return QuestionAnswer("relation", question, answer)

    def what_is_at(self, scene: Scene, rng: random.Random) -> QuestionAnswer:
        """Ask for the object in a quarter."""
        place = rng.randrange(len(QUARTERS))
        thing = scene.at(place)
        return QuestionAnswer(
            "content", f"What is in the {PLACES[place]}?", article(thing.name) if thing else "nothing"
        )
