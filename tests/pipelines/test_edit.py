"""Editing by instruction: the sequence of training is that of drawing, and bad input is refused."""

from typing import Any

import pytest
import torch

from showo_turbo.errors import InputError
from showo_turbo.generation.image_denoiser import ImageDenoiser
from showo_turbo.generation.scheduler import UnmaskingScheduler
from showo_turbo.generation.trajectory import State
from showo_turbo.models.omni_attention import editing_mask, text_to_image_mask
from showo_turbo.pipelines.pipeline import ShowoPipeline
from showo_turbo.training.supervised_batches import editing_batch


@pytest.mark.parametrize("with_short", [False, True])
@torch.no_grad()
def test_the_logits_of_training_are_those_of_drawing(random_pipe: ShowoPipeline, with_short: bool) -> None:
    prompts, model = random_pipe.prompts, random_pipe.model
    vocabulary, generator = prompts.vocabulary, torch.Generator().manual_seed(0)
    sources, targets = torch.randint(vocabulary.codebook_size, (2, 2, 16), generator=generator)
    masked = torch.rand(2, 16, generator=generator) < 0.5
    texts = ["make the car red", "a" if with_short else "make the car blue and the dog green"]
    batch = editing_batch(prompts, texts, sources, targets, masked)
    hidden = model(batch.ids, batch.attention_mask, batch.position_ids)[batch.labelled]
    expected = model.logits(hidden, vocabulary.image_offset, vocabulary.mask_id)

    rows = [prompts.editing(source, text) for source, text in zip(sources.tolist(), texts, strict=True)]
    scheduler = UnmaskingScheduler.from_options(random_pipe.recommended, vocabulary.codebook_size, 16)
    denoiser = ImageDenoiser(model, vocabulary, scheduler, rows, 16)
    state = State(torch.where(masked, vocabulary.mask_id, vocabulary.codes_to_ids(targets)), ~masked)
    torch.testing.assert_close(denoiser.masked_logits(state), expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_a_dropped_condition_is_the_unconditional_prompt(random_pipe: ShowoPipeline) -> None:
    prompts = random_pipe.prompts
    codes = torch.arange(16)[None]
    batch = editing_batch(prompts, [None], codes, codes, torch.ones(1, 16, dtype=torch.bool))
    assert batch.ids[0, : -16 - 2].tolist() == prompts.unconditional()
    assert batch.attention_mask.equal(text_to_image_mask(batch.ids, prompts.vocabulary))


def test_the_source_is_seen_by_all_rows_and_the_target_by_its_own(random_pipe: ShowoPipeline) -> None:
    prompts = random_pipe.prompts
    codes = torch.arange(16)[None].repeat(2, 1)
    masked = torch.ones(2, 16, dtype=torch.bool)
    batch = editing_batch(prompts, ["make the car red", "a"], codes, codes, masked)
    mask = editing_mask(batch.ids, prompts.vocabulary)[:, 0]
    for row, visible in zip(batch.ids.tolist(), mask, strict=True):
        start = row.index(prompts.vocabulary.t2i_id)  # after the padding
        end = row.index(prompts.vocabulary.eoi_id) + 1
        target = len(row) - 18
        assert visible[start:, start:end].all()
        assert visible[target:, start:].all()
        assert not visible[:target, target:].any()
        assert not visible[start:, :start].any()
        text = visible[end:target, end:target]
        assert text.equal(torch.ones_like(text).tril())


def test_an_edit_depends_on_image_and_instruction(editing_pipe: ShowoPipeline) -> None:
    codes = torch.randint(16, (2, 16), generator=torch.Generator().manual_seed(0))
    draw = {"seed": 0, "num_inference_steps": 2, "output_type": "latent", "top_k": 1}
    one, other = editing_pipe.edit(codes=codes, prompt="make the car red", **draw).codes
    assert not one.equal(other)
    changed = editing_pipe.edit(codes=codes[:1], prompt="make the dog blue", **draw).codes[0]
    assert not one.equal(changed)
    image = editing_pipe.decode_codes(codes, 4, 4, output_type="pil")[0]
    drawn = editing_pipe.edit(image, "make the car red", seed=0, num_inference_steps=2, num_images_per_prompt=2)
    assert [one.size for one in drawn.images] == [(32, 32)] * 2


def test_several_edits_are_those_of_single_calls(editing_pipe: ShowoPipeline) -> None:
    codes = torch.randint(16, (3, 16), generator=torch.Generator().manual_seed(0))
    texts = ["make the car red", "a", "make the dog and the car blue"]
    options: Any = {"num_inference_steps": 3, "guidance_scale": 1.0, "output_type": "latent"}
    generators = [torch.Generator().manual_seed(number) for number in range(3)]
    together = editing_pipe.edit(codes=codes, prompt=texts, generator=generators, **options).codes
    for number, text in enumerate(texts):
        alone = editing_pipe.edit(codes=codes[number : number + 1], prompt=text, seed=number, **options).codes
        assert alone[0].equal(together[number])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prompt": "a"}, "give either image or codes"),
        ({"codes": torch.zeros(1, 16, dtype=torch.long)}, "prompt is empty"),
        (
            {"codes": torch.zeros(1, 4, dtype=torch.long), "prompt": "a"},
            "codes are 2 x 2: the model edits images of 4 x 4",
        ),
        ({"codes": torch.full((1, 16), 9999), "prompt": "a"}, "codes must be codebook indices"),
        ({"codes": torch.zeros(1, 16, dtype=torch.long), "prompt": "a <|soi|>"}, "reserved token"),
        ({"image": "missing.png", "prompt": "a"}, "missing.png"),
    ],
)
def test_invalid_edits_are_refused(editing_pipe: ShowoPipeline, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        editing_pipe.edit(**arguments)


def test_a_model_that_was_not_trained_to_edit_refuses(random_pipe: ShowoPipeline) -> None:
    with pytest.raises(
        InputError, match=r"not trained to edit by instructions .*: fine-tune it on editing pairs, redr"
    ):
        random_pipe.edit(codes=torch.zeros(1, 16, dtype=torch.long), prompt="make the car red")
