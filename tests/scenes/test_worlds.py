"""Laws of all built-in worlds: renders are detected again, texts state facts, held-out combinations stay out."""

import random
import runpy
from pathlib import Path

import pytest
from PIL import Image

from showo_turbo.checkpoints.names import SHIPPED_MODELS, resolve
from showo_turbo.errors import InputError
from showo_turbo.evaluation.geneval_rules import matches_prompt
from showo_turbo.processing.known_world import WORLD_FILE, KnownWorld
from showo_turbo.scenes.benchmark import TAGS, benchmark_prompts
from showo_turbo.scenes.scene import RELATIONS, Scene
from showo_turbo.scenes.split import combinations_in
from showo_turbo.scenes.world import World
from showo_turbo.scenes.worlds import WORLDS, find_world


@pytest.fixture(params=WORLDS)
def world(request: pytest.FixtureRequest) -> World:
    return find_world(request.param)


@pytest.fixture
def scenes(world: World) -> list[Scene]:
    rng = random.Random(3)
    return [world.random_scene(rng) for _ in range(600)]


def test_scenes_have_one_to_four_objects(scenes: list[Scene]) -> None:
    assert {len(scene.objects) for scene in scenes} == {1, 2, 3, 4}


def test_the_detector_recognises_renders(world: World, scenes: list[Scene]) -> None:
    found = [world.detect(world.render(scene)) for scene in scenes]
    exact = sum(one.scene == scene and not one.unrecognised for one, scene in zip(found, scenes, strict=True))
    assert exact >= 0.995 * len(scenes)


def test_the_detector_refuses_other_sizes(world: World) -> None:
    with pytest.raises(InputError, match=f"{world.resolution} x {world.resolution}"):
        world.detect(Image.new("RGB", (32, 32)))


def test_descriptions_state_every_fact(world: World, scenes: list[Scene]) -> None:
    for scene in scenes:
        objects, background = world.language.described_facts(world.language.description(scene))
        assert objects == list(scene.objects)
        assert background == (scene.background if len(world.backgrounds) > 1 else None)


def test_yes_is_the_answer_to_about_half_of_the_questions_that_can_be_denied(world: World, scenes: list[Scene]) -> None:
    rng = random.Random(1)
    turns = [turn for scene in scenes for turn in world.language.questions(scene, rng)]
    answers = [turn.answer for turn in turns if turn.kind in ("existence", "relation")]
    assert set(answers) == {"yes", "no"}
    assert answers.count("yes") / len(answers) == pytest.approx(0.5, abs=0.1)


def test_a_single_turn_asks_everything_that_a_scene_allows(world: World, scenes: list[Scene]) -> None:
    scene = next(one for one in scenes if len({thing.noun for thing in one.objects}) == 2 == len(one.objects))
    rng = random.Random(2)
    kinds = {turn.kind for turn in world.language.questions(scene, rng)}
    assert "relation" in kinds
    assert {world.language.turns(scene, rng, 1, described=False)[0].kind for _ in range(200)} == kinds


def test_training_scenes_contain_no_held_out_combination(world: World) -> None:
    rng, split = random.Random(5), world.split
    for _ in range(300):
        assert not any(split.is_held_out(one) for one in combinations_in(world.training_scene(rng)))
        assert any(split.subset_of(one) == "test" for one in combinations_in(world.held_out_scene(rng)))


def test_the_script_reproduces_the_benchmark_file(world: World) -> None:
    script = runpy.run_path(str(Path(__file__).parents[2] / "scripts" / "make_scene_benchmark.py"))
    prompts = benchmark_prompts(world=world)
    assert prompts == script["make_benchmark"](world)
    assert script["lines"](prompts) == world.benchmark.read_text()
    assert len(prompts) >= 500
    assert {prompt.tag for prompt in prompts} == set(TAGS)
    assert len({prompt.prompt for prompt in prompts}) == len(prompts)


def test_no_training_scene_satisfies_a_prompt_for_two_objects_in_relation(world: World) -> None:
    prompts = [prompt for prompt in benchmark_prompts(world=world) if prompt.tag == "position"]
    rng = random.Random(8)
    for scene in (world.training_scene(rng) for _ in range(2000)):
        if len(scene.objects) == 2:
            assert not any(matches_prompt(scene, prompt) for prompt in prompts)
    assert {prompt.include[1]["position"][0] for prompt in prompts} == set(RELATIONS)


def test_the_description_of_a_world_names_unknown_words(world: World, tmp_path: Path) -> None:
    known = world.known_world()
    assert known.note([*world.demo, "A PHOTO of THREE!"], "prompts") is None
    assert known.note(list(world.demo.values()), "questions") is None
    note = known.note(["five wolves", "一只狗"], "prompts")
    assert note is not None
    assert f"never saw 'five', 'wolves', '一只狗': try \"{next(iter(world.demo))}\"" in note
    assert "\n" not in note
    assert all(word in known.words for noun in world.language.nouns for word in noun.split())


@pytest.mark.parametrize("model", SHIPPED_MODELS)
def test_shipped_models_describe_their_world(model: str) -> None:
    known = KnownWorld.from_file(resolve(model) / WORLD_FILE)
    assert known == find_world(known.name).known_world()


def test_a_world_file_of_another_form_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "world.json"
    for text, message in {
        "[]": "world.json",
        "{}": "expected",
        '{"name": 1, "limits": "", "words": [], "prompts": [], "questions": []}': "name .* is 1: expected a text",
        '{"name": "", "limits": "", "words": [1], "prompts": [], "questions": []}': "words .* must be a list of texts",
    }.items():
        file.write_text(text)
        with pytest.raises(InputError, match=message):
            KnownWorld.from_file(file)
