"""Score images by GenEval's rules (arXiv 2310.11513) with the exact detector."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from PIL import Image

from showo_turbo.evaluation.statistics import Estimate, mean_of_estimates, mean_of_groups
from showo_turbo.scenes.benchmark import TAGS, ScenePrompt
from showo_turbo.scenes.scene import PLACES, Detection, Scene, SceneObject
from showo_turbo.scenes.shapes.shape_world import SHAPES
from showo_turbo.scenes.world import World


def matches_prompt(scene: Scene, prompt: ScenePrompt) -> bool:
    """Return whether a scene has all that the prompt includes, nothing that it excludes, and its background.

    As in GenEval, objects that the prompt does not mention are allowed, unless it has a `total`. If there are more
    objects than a relation needs, GenEval takes those of the highest detection confidence; this detector is exact, so
    any pair may satisfy it.
    """
    if prompt.background not in (None, scene.background):
        return False
    if any(len(scene.matching(item["class"])) >= item["count"] for item in prompt.exclude):
        return False
    found = [_matching(scene, item) for item in prompt.include]
    if any(len(things) < item["count"] for things, item in zip(found, prompt.include, strict=True)):
        return False
    return all(
        any(thing.is_(item["position"][0], other) for thing in things for other in found[item["position"][1]])
        for things, item in zip(found, prompt.include, strict=True)
        if "position" in item
    )


def shows_prompt(detection: Detection, prompt: ScenePrompt) -> bool:
    """Return whether a detected scene matches the prompt; with a `total`, nothing may be unrecognised or extra."""
    if prompt.total is not None and (detection.unrecognised or len(detection.scene.objects) != prompt.total):
        return False
    return matches_prompt(detection.scene, prompt)


def _matching(scene: Scene, item: dict) -> list[SceneObject]:
    things = scene.matching(item["class"], item.get("color"))
    return [thing for thing in things if "place" not in item or PLACES[thing.place] == item["place"]]


@dataclass(frozen=True)
class TextToImageScores:
    """Hold accuracies with 95 % intervals.

    Attributes:
        by_tag: per GenEval category.
        overall: mean of the categories.
        unrecognised: fraction of all images in which a place shows something that is not an object of the world.
    """

    by_tag: dict[str, Estimate]
    overall: Estimate
    unrecognised: Estimate


def score_images(
    prompts: Sequence[ScenePrompt], images: Sequence[Sequence[Image.Image]], world: World = SHAPES
) -> TextToImageScores:
    """Score the images of each prompt. Prompts that differ in wording only are one group of dependent cases.

    Args:
        prompts: the prompts.
        images: the images of each prompt, in the resolution of the world.
        world: the world of the prompts.
    """
    groups: dict[str, dict[str, list[float]]] = {tag: {} for tag in TAGS}
    unrecognised: dict[str, list[float]] = {}
    for prompt, of_prompt in zip(prompts, images, strict=True):
        content = replace(prompt, prompt="").to_json()
        detections = [world.detect(image) for image in of_prompt]
        groups[prompt.tag].setdefault(content, []).extend(float(shows_prompt(one, prompt)) for one in detections)
        unrecognised.setdefault(content, []).extend(float(bool(one.unrecognised)) for one in detections)
    by_tag = {tag: mean_of_groups(list(group.values())) for tag, group in groups.items() if group}
    overall = mean_of_estimates(list(by_tag.values()))
    return TextToImageScores(by_tag, overall, mean_of_groups(list(unrecognised.values())))
