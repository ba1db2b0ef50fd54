"""Rendered scenes: a pool of encoded scenes, and the language of the built-in world as pre-training draws it.

A scene can be captioned and asked about in many ways. So that a sample is the same whenever it is read, each scene
counts `draws_per_scene` times, and the words of sample i are drawn from i alone.

A sample holds a copy of its codes, since a pickled view would carry the codes of the whole pool.
"""

import random
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from showo_turbo.data.samples import CaptionSample, DialogueSample, TextSample, Turn
from showo_turbo.data.source_files import one_file
from showo_turbo.errors import InputError
from showo_turbo.scenes.language import QUESTION_KINDS, caption, scene_turns
from showo_turbo.scenes.pool import ScenePool, load_scene_pool

_DRAWS_PER_SCENE = 16


class SceneCaptions:
    """Captions from the vague to the dense, each with its scene's codes."""

    def __init__(
        self, path: str | Path, draws_per_scene: int = _DRAWS_PER_SCENE, num_objects: int | None = None
    ) -> None:
        """Read a pool.

        Args:
            path: file that `showo-turbo pretrain scene-pool` wrote.
            draws_per_scene: captions of each scene.
            num_objects: take scenes of so many objects only.

        Raises:
            InputError: when there is no such file, `draws_per_scene` is less than 1, or no scene has `num_objects`.
        """
        self.name, self.pool = Path(path).name, _pool(one_file(path))
        counts = [len(scene.objects) for scene in self.pool.scenes]
        self.rows = [row for row, count in enumerate(counts) if num_objects in (None, count)]
        if not self.rows:
            raise InputError(
                f"num_objects is {num_objects}: scenes of {self.name!r} have {min(counts)} to {max(counts)}"
            )
        self.length = _length(len(self.rows), draws_per_scene)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> CaptionSample:
        draw, place = divmod(index, len(self.rows))
        row = self.rows[place]
        text = caption(self.pool.scenes[row], random.Random(f"caption/{index}"))
        return CaptionSample(f"{self.name}: scene {row}, caption {draw}", text, self.pool.codes[row].clone())


class SceneDialogues:
    """Questions about a scene with their answers, some of them after a request to describe it."""

    def __init__(
        self,
        path: str | Path,
        draws_per_scene: int = _DRAWS_PER_SCENE,
        turns: int = 3,
        description_share: float = 0.5,
        question_kinds: Sequence[str] = QUESTION_KINDS,
    ) -> None:
        """Read a pool. The defaults are what pre-training draws.

        Args:
            path: file that `showo-turbo pretrain scene-pool` wrote.
            draws_per_scene: dialogues about each scene.
            turns: turns of a dialogue; the few scenes that admit fewer questions have fewer.
            description_share: share of the dialogues whose first turn asks for the description.
            question_kinds: what the other turns ask about: some of QUESTION_KINDS. A scene that admits none of these
                is asked about anything.

        Raises:
            InputError: when there is no such file, a number is out of range, or there is no such kind of question.
        """
        if not question_kinds or not set(question_kinds) <= set(QUESTION_KINDS):
            raise InputError(f"question_kinds is {list(question_kinds)}: choose from {', '.join(QUESTION_KINDS)}")
        if turns < 1 or not 0 <= description_share <= 1:
            raise InputError(
                f"turns is {turns} and description_share {description_share}: choose 1 or more, and a share of 0 to 1"
            )
        self.name, self.pool = Path(path).name, _pool(one_file(path))
        self.length = _length(len(self.pool.scenes), draws_per_scene)
        self.turns, self.description_share, self.question_kinds = turns, description_share, question_kinds

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> DialogueSample:
        draw, row = divmod(index, len(self.pool.scenes))
        rng = random.Random(f"dialogue/{index}")
        described = rng.random() < self.description_share
        drawn = scene_turns(self.pool.scenes[row], rng, self.turns, described, self.question_kinds)
        turns = tuple(Turn(one.question, one.answer) for one in drawn)
        return DialogueSample(f"{self.name}: scene {row}, dialogue {draw}", self.pool.codes[row].clone(), turns)


class SceneTexts:
    """Captions as plain texts, for the language-modelling loss."""

    def __init__(self, path: str | Path, draws_per_scene: int = _DRAWS_PER_SCENE) -> None:
        """Read a pool; see `SceneCaptions`."""
        self.captions = SceneCaptions(path, draws_per_scene)

    def __len__(self) -> int:
        return len(self.captions)

    def __getitem__(self, index: int) -> TextSample:
        sample = self.captions[index]
        return TextSample(sample.key, sample.text)


@lru_cache(maxsize=1)
def _pool(path: Path) -> ScenePool:
    """Drawing a pool's scenes takes seconds, and a recipe has several sources of one pool."""
    return load_scene_pool(path)


def _length(scenes: int, draws_per_scene: int) -> int:
    if draws_per_scene < 1:
        raise InputError(f"draws_per_scene is {draws_per_scene}: choose 1 or more")
    return scenes * draws_per_scene
