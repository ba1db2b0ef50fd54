"""The judge of the demo: right images and answers pass, wrong ones are described."""

import random

import pytest
from PIL import Image

from showo_turbo.evaluation.demo_judge import DemoVerdict, expected_turn, judge_demo
from showo_turbo.evaluation.geneval_rules import matches_prompt
from showo_turbo.scenes.benchmark import ScenePrompt, benchmark_prompts
from showo_turbo.scenes.scene import Scene, SceneObject
from showo_turbo.scenes.world import World
from showo_turbo.scenes.worlds import find_world


@pytest.fixture(params=["shapes", "clipart"])
def world(request: pytest.FixtureRequest) -> World:
    return find_world(request.param)


def prompts_of(world: World) -> list[ScenePrompt]:
    return benchmark_prompts(world.benchmark.with_name("demo.jsonl"), world)


def fitting_scene(world: World, prompt: ScenePrompt) -> Scene:
    """Return a scene that a prompt describes: a random one with its objects in place of its own."""
    rng = random.Random(0)
    while True:
        drawn = world.random_scene(rng)
        if len(drawn.objects) != prompt.total:
            continue
        looks = [(item["class"], item.get("color")) for item in prompt.include for _ in range(item["count"])]
        rng.shuffle(looks)
        things = (
            SceneObject(thing.place, noun, color or next(c for n, c in world.looks if n == noun))
            for thing, (noun, color) in zip(drawn.objects, looks, strict=True)
        )
        scene = Scene(prompt.background or drawn.background, tuple(things))
        if matches_prompt(scene, prompt):
            return scene


def judged(world: World, scenes: list[Scene], answers: list[str] | None = None) -> list[DemoVerdict]:
    turns = [expected_turn(world.language, *pair) for pair in zip(scenes, world.demo.values(), strict=True)]
    given = answers or [turn.answer if turn else "" for turn in turns]
    return judge_demo(world, [world.render(scene) for scene in scenes], given)


def test_prompts_are_those_of_the_demo(world: World) -> None:
    assert [prompt.prompt for prompt in prompts_of(world)] == list(world.demo)


def test_right_images_and_answers_pass(world: World) -> None:
    scenes = [fitting_scene(world, prompt) for prompt in prompts_of(world)]
    assert judged(world, scenes) == [DemoVerdict(None, None)] * len(scenes)
    answered = [expected_turn(world.language, *pair) for pair in zip(scenes, world.demo.values(), strict=True)]
    assert None not in answered


def test_wrong_images_and_answers_are_described(world: World) -> None:
    scenes = [fitting_scene(world, prompt) for prompt in prompts_of(world)]
    turned = [*scenes[1:], scenes[0]]
    for scene, verdict in zip(turned, judged(world, turned), strict=True):
        assert verdict.shown == world.language.description(scene)
    verdicts = judged(world, scenes, ["seven"] * len(scenes))
    assert all(verdict.shown is None and verdict.expected for verdict in verdicts)


def test_one_thing_too_many_is_wrong() -> None:
    world = find_world("shapes")
    scenes = [fitting_scene(world, prompt) for prompt in prompts_of(world)]
    scenes[2] = Scene("white", (*scenes[2].objects, SceneObject(3, "cross", "red")))
    assert [verdict.shown for verdict in judged(world, scenes) if verdict.shown] == [
        "a purple star in the top left and a red cross in the bottom right on a white background"
    ]


def test_what_is_not_recognised_is_wrong_and_its_answer_is_not_judged(world: World) -> None:
    noise = Image.effect_noise((world.resolution, world.resolution), 120).convert("RGB")
    for verdict in judge_demo(world, [noise] * len(world.demo), ["seven"] * len(world.demo)):
        assert verdict.shown is not None
        assert verdict.shown.endswith("something that is not recognised")
        assert verdict.expected is None


def test_an_empty_image_shows_nothing() -> None:
    world = find_world("shapes")
    blank = Image.new("RGB", (world.resolution, world.resolution), "white")
    verdicts = judge_demo(world, [blank] * len(world.demo), ["one"] * len(world.demo))
    assert verdicts == [DemoVerdict("nothing", None)] * len(world.demo)
