"""Rendered scenes: a pool of encoded scenes, with the captions and questions that pre-training generates,
and pairs of scenes with an instruction that leads from one to the other.

A scene has many possible captions and questions. Each scene counts `draws_per_scene` times, and the text of sample i is
generated from a random generator seeded with i, so that the same index always gives the same sample.

A sample holds a copy of its codes, since a pickled view would carry the codes of the whole pool.
"""

import random
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from showo_turbo.data.samples import CaptionSample, DialogueSample, EditSample, TextSample, Turn
from showo_turbo.data.source_files import existing_file
from showo_turbo.errors import InputError
from showo_turbo.scenes.edits import SceneEdit, scene_edits
from showo_turbo.scenes.pool import ScenePool, load_scene_pool
from showo_turbo.scenes.split import differ_in_noun_and_color
from showo_turbo.validation import check_integer

_DRAWS_PER_SCENE = 16
_MAX_DRAWS = 10**6
_MAX_TURNS = 1000


class SceneCaptions:
    """Give captions, from vague to dense, each with the codes of its scene."""

    def __init__(
        self,
        path: str | Path,
        draws_per_scene: int = _DRAWS_PER_SCENE,
        num_objects: int | None = None,
        two_colors: bool = False,
    ) -> None:
        """Read a pool.

        Args:
            path: file written by `showo-turbo pretrain scene-pool`.
            draws_per_scene: captions of each scene.
            num_objects: use only scenes with this number of objects; all if left out.
            two_colors: use only scenes of two objects that differ in noun and color.

        Raises:
            InputError: if there is no such file, `draws_per_scene` is less than 1, or no scene is left.
        """
        self.name, self.pool = Path(path).name, _cached_pool(existing_file(path))
        scenes = self.pool.scenes
        counts = [len(scene.objects) for scene in scenes]
        self.rows = [row for row, count in enumerate(counts) if num_objects in (None, count)]
        if not self.rows:
            raise InputError(
                f"num_objects is {num_objects}: scenes of {self.name!r} have {min(counts)} to {max(counts)}"
            )
        if two_colors:
            pairs = [row for row in self.rows if counts[row] == 2]
            self.rows = [row for row in pairs if differ_in_noun_and_color(*scenes[row].objects)]
            if not self.rows:
                raise InputError(f"two_colors: {self.name!r} has no scene of two objects that differ in noun and color")
        self.length = _num_samples(len(self.rows), draws_per_scene)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> CaptionSample:
        draw, scene = divmod(index, len(self.rows))
        row = self.rows[scene]
        text = self.pool.world.language.caption(self.pool.scenes[row], random.Random(f"caption/{index}"))
        return CaptionSample(f"{self.name}: scene {row}, caption {draw}", text, self.pool.codes[row].clone())


class SceneDialogues:
    """Give questions about a scene with their answers; some dialogues begin with a request to describe it."""

    def __init__(
        self,
        path: str | Path,
        draws_per_scene: int = _DRAWS_PER_SCENE,
        turns: int = 3,
        description_share: float = 0.5,
        question_kinds: Sequence[str] | None = None,
    ) -> None:
        """Read a pool. The defaults are those of pre-training.

        Args:
            path: file written by `showo-turbo pretrain scene-pool`.
            draws_per_scene: dialogues about each scene.
            turns: number of turns of a dialogue; fewer for the few scenes with fewer possible questions.
            description_share: fraction of the dialogues whose first turn requests the description.
            question_kinds: kinds of the other questions, all if left out. A scene without a possible question of
                these kinds gets questions of all kinds.

        Raises:
            InputError: if there is no such file, a number is out of range, or a kind of question is unknown.
        """
        check_integer("turns", turns, maximum=_MAX_TURNS)
        if turns < 1 or not 0 <= description_share <= 1:
            raise InputError(
                f"turns is {turns} and description_share {description_share}: "
                "choose 1 or more, and a fraction between 0 and 1"
            )
        self.name, self.pool = Path(path).name, _cached_pool(existing_file(path))
        known = self.pool.world.language.question_kinds
        if question_kinds is not None and (not question_kinds or not set(question_kinds) <= set(known)):
            raise InputError(f"question_kinds is {list(question_kinds)}: choose from {', '.join(known)}")
        self.length = _num_samples(len(self.pool.scenes), draws_per_scene)
        self.turns, self.description_share, self.question_kinds = turns, description_share, question_kinds

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> DialogueSample:
        draw, row = divmod(index, len(self.pool.scenes))
        rng = random.Random(f"dialogue/{index}")
        described = rng.random() < self.description_share
        drawn = self.pool.world.language.turns(self.pool.scenes[row], rng, self.turns, described, self.question_kinds)
        turns = tuple(Turn(turn.question, turn.answer) for turn in drawn)
        return DialogueSample(f"{self.name}: scene {row}, dialogue {draw}", self.pool.codes[row].clone(), turns)


class SceneTexts:
    """Give captions as plain texts, for the language-modelling loss."""

    def __init__(self, path: str | Path, draws_per_scene: int = _DRAWS_PER_SCENE) -> None:
        """Read a pool; see `SceneCaptions`."""
        self.captions = SceneCaptions(path, draws_per_scene)

    def __len__(self) -> int:
        return len(self.captions)

    def __getitem__(self, index: int) -> TextSample:
        sample = self.captions[index]
        return TextSample(sample.key, sample.text)


class SceneEdits:
    """Give editing pairs of two scenes of a pool that differ in one thing, with an instruction.

    Instructions that the world holds out are never given.
    """

    def __init__(self, path: str | Path, draws_per_scene: int = _DRAWS_PER_SCENE) -> None:
        """Read a pool, and find the scenes that lead to another one of it.

        Args:
            path: file written by `showo-turbo pretrain scene-pool`.
            draws_per_scene: pairs of each of these scenes.

        Raises:
            InputError: if there is no such file, `draws_per_scene` is less than 1, or no two scenes make a pair.
        """
        self.name, self.pool = Path(path).name, _cached_pool(existing_file(path))
        self.row_of_scene = {scene: row for row, scene in enumerate(self.pool.scenes)}
        order = random.Random(0)
        self.rows = [row for row in range(len(self.pool.scenes)) if self._edit(row, order) is not None]
        if not self.rows:
            raise InputError(f"no two scenes of {self.name!r} differ in one thing: encode a larger pool")
        self.length = _num_samples(len(self.rows), draws_per_scene)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> EditSample:
        draw, number = divmod(index, len(self.rows))
        row, rng = self.rows[number], random.Random(f"edit/{index}")
        edit = self._edit(row, rng)
        assert edit is not None  # there is one, in any order
        codes = self.pool.codes
        source, target = codes[row].clone(), codes[self.row_of_scene[edit.target]].clone()
        return EditSample(f"{self.name}: scene {row}, edit {draw}", source, rng.choice(edit.instructions), target)

    def _edit(self, row: int, rng: random.Random) -> SceneEdit | None:
        """Return the first edit, in a random order, that leads to a scene of the pool and is not held out."""
        world = self.pool.world
        edits = scene_edits(self.pool.scenes[row], world, rng)
        usable = (one for one in edits if one.target in self.row_of_scene)
        return next((one for one in usable if not world.split.is_held_out(one.combination)), None)


@lru_cache(maxsize=1)
def _cached_pool(path: Path) -> ScenePool:
    """Load a pool once for several sources, since generating its scenes takes seconds."""
    return load_scene_pool(path)


def _num_samples(scenes: int, draws_per_scene: int) -> int:
    check_integer("draws_per_scene", draws_per_scene, 1, _MAX_DRAWS)
    return scenes * draws_per_scene
