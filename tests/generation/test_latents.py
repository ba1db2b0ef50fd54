"""Latents: how they are drawn, and that they change nothing but the token that opens an image."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from denoising import NUM_CODES, make_denoiser, seeded, uncached_logits

from showo_turbo.distillation.latents import add_latents
from showo_turbo.errors import InputError
from showo_turbo.generation.image_denoiser import ImageDenoiser, masked_state
from showo_turbo.generation.scheduler import draw_latents
from showo_turbo.generation.trajectory import last_state
from showo_turbo.models.showo import Showo
from showo_turbo.pipelines.pipeline import ShowoPipeline
from showo_turbo.vocabulary import Vocabulary

MakeModel = Callable[[int], Showo]


@pytest.fixture
def model(make_random_model: MakeModel, random_vocabulary: Vocabulary) -> Showo:
    model = make_random_model(0)
    add_latents(model, 3, random_vocabulary, seed=0)
    return model


def test_all_latents_are_equally_probable() -> None:
    counts = Counter(draw_latents(4, 4000, seeded(0)[0]))
    assert set(counts) == set(range(4))
    assert all(900 < count < 1100 for count in counts.values())


def test_each_generator_draws_the_latents_of_its_own_images() -> None:
    together = draw_latents(4, 12, seeded(1, 2))
    assert together == [latent for one in seeded(1, 2) for latent in draw_latents(4, 6, one)]


def test_a_model_without_latents_draws_no_number() -> None:
    generator = seeded(0)[0]
    assert draw_latents(1, 3, generator) == [0] * 3
    assert generator.get_state().equal(seeded(0)[0].get_state())
    with pytest.raises(InputError, match="list of 2 for 3 images"):
        draw_latents(1, 3, seeded(0, 1))


@pytest.mark.parametrize("guidance", [0.0, 1.75])
def test_logits_are_those_behind_the_opening_of_each_image(
    model: Showo, random_vocabulary: Vocabulary, guidance: float
) -> None:
    openings, start = random_vocabulary.opening_ids[:3], masked_state(3, NUM_CODES, random_vocabulary)
    denoiser = make_denoiser(model, random_vocabulary, [[1, 2]] * 3, guidance_scale=guidance, openings=openings)
    logits = denoiser.logits(start)
    conditional, unconditional = (
        uncached_logits(model, random_vocabulary, [text] * 3, start.ids, openings) for text in ([1, 2], [])
    )
    expected = (1 + guidance) * conditional - guidance * unconditional
    torch.testing.assert_close(logits, expected, atol=1e-3, rtol=1e-4)
    assert not logits[0].allclose(logits[1], atol=1e-2)


@pytest.mark.parametrize("guidance", [0.0, 1.75])
def test_an_image_is_the_same_by_itself_and_in_a_batch(
    model: Showo, random_vocabulary: Vocabulary, guidance: float
) -> None:
    """Six images of two prompts, joined and taken apart again after a step as the engine does."""
    seeds, rows = range(6), [[1, 2], [3]] * 3
    start = masked_state(1, NUM_CODES, random_vocabulary)

    def alone(row: int) -> ImageDenoiser:
        return make_denoiser(model, random_vocabulary, [rows[row]], guidance_scale=guidance, generator=seeded(row)[0])

    expected = [last_state(alone(row).run(start)).ids[0] for row in seeds]
    assert len({alone(row).openings.item() for row in seeds}) > 1
    joined = ImageDenoiser.batch([alone(row) for row in seeds])
    state = joined.advance(masked_state(6, NUM_CODES, random_vocabulary))
    kept = [1, 4, 5]
    rest = last_state(joined.select(kept).run(state.select(kept)))
    assert [ids.tolist() for ids in rest.ids] == [expected[row].tolist() for row in kept]


def test_new_latents_are_near_the_first_and_nothing_else_changes(
    make_random_model: MakeModel, random_vocabulary: Vocabulary
) -> None:
    model, before = make_random_model(0), make_random_model(0).state_dict()
    add_latents(model, 3, random_vocabulary, seed=0)
    new = list(random_vocabulary.opening_ids[1:3])
    changed = model.state_dict()
    table = changed.pop("showo.model.embed_tokens.weight")
    first = before["showo.model.embed_tokens.weight"][random_vocabulary.soi_id]
    for row in table[new]:
        assert 0 < (row - first).norm() < first.norm()
    table[new] = before.pop("showo.model.embed_tokens.weight")[new]
    assert all(changed[name].equal(value) for name, value in before.items())
    assert model.config.num_latents == 3
    add_latents(model, 2, random_vocabulary, seed=1)
    assert model.config.num_latents == 3
    assert model.showo.model.embed_tokens.weight.equal(table)


def test_the_number_of_latents_is_saved_and_images_of_a_prompt_differ_by_them(
    random_checkpoint: Path, tmp_path: Path
) -> None:
    pipe = ShowoPipeline.from_pretrained(random_checkpoint, device="cpu")
    greedy = {"num_images_per_prompt": 8, "top_k": 1, "temperature": 0.0, "guidance_scale": 0.0, "seed": 0}
    assert len(pipe.text_to_image("a red car", **greedy).codes.unique(dim=0)) == 1
    add_latents(pipe.model, 4, pipe.prompts.vocabulary, seed=0)
    drawn = pipe.text_to_image("a red car", **greedy).codes
    assert len(drawn.unique(dim=0)) > 1
    pipe.save_pretrained(tmp_path / "latents")
    loaded = ShowoPipeline.from_pretrained(tmp_path / "latents", device="cpu")
    assert loaded.model.config.num_latents == 4
    assert loaded.text_to_image("a red car", **greedy).codes.equal(drawn)
