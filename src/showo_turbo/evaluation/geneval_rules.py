"""Does a picture show what its prompt asked for? GenEval's rules (arXiv 2310.11513) over the exact detector."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from PIL import Image

from showo_turbo.evaluation.statistics import Estimate, mean_of_estimates, mean_of_groups
from showo_turbo.scenes.benchmark import TAGS, ScenePrompt
from showo_turbo.scenes.detector import detect
from showo_turbo.scenes.scene import PLACES, Scene, SceneObject


def fulfils(scene: Scene, prompt: ScenePrompt) -> bool:
    """Whether a scene has everything the prompt includes, nothing it excludes, and its background.

    As in GenEval, objects that the prompt does not speak of are no fault. Of more objects than a position asks for,
    GenEval looks at those that its detector is surest of; ours is sure of all, so any pair of them may be so related.
    """
    if prompt.background not in (None, scene.background):
        return False
    if any(len(scene.matching(item["class"])) >= item["count"] for item in prompt.exclude):
        return False
    found = [_matching(scene, item) for item in prompt.include]
    if any(len(things) < item["count"] for things, item in zip(found, prompt.include, strict=True)):
        return False
    return all(
        _related(things, item["position"][0], found[item["position"][1]])
        for things, item in zip(found, prompt.include, strict=True)
        if "position" in item
    )


def _matching(scene: Scene, item: dict) -> list[SceneObject]:
    things = scene.matching(item["class"], item.get("color"))
    return [thing for thing in things if "place" not in item or PLACES[thing.place] == item["place"]]


def _related(things: list[SceneObject], relation: str, others: list[SceneObject]) -> bool:
    return any(thing.is_(relation, other) for thing in things for other in others)


@dataclass(frozen=True)
class TextToImageScores:
    """Accuracy with 95 % intervals.

    Attributes:
        by_tag: per GenEval category.
        overall: mean of the categories.
    """

    by_tag: dict[str, Estimate]
    overall: Estimate


def score_pictures(prompts: Sequence[ScenePrompt], pictures: Sequence[Sequence[Image.Image]]) -> TextToImageScores:
    """Judge the pictures of each prompt. Prompts that ask for the same in other words are no independent cases.

    Args:
        prompts: what was asked.
        pictures: for each prompt its pictures, 64 x 64.
    """
    groups: dict[str, dict[str, list[float]]] = {tag: {} for tag in TAGS}
    for prompt, drawn in zip(prompts, pictures, strict=True):
        asked = replace(prompt, prompt="").to_json()
        fulfilled = [float(fulfils(detect(picture).scene, prompt)) for picture in drawn]
        groups[prompt.tag].setdefault(asked, []).extend(fulfilled)
    by_tag = {tag: mean_of_groups(list(group.values())) for tag, group in groups.items() if group}
    return TextToImageScores(by_tag, mean_of_estimates(list(by_tag.values())))
