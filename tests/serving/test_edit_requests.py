"""Edits and images of other sizes in the engine: the results are those of the pipeline's methods."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from showo_turbo import ImageRequest, InputError, ShowoPipeline, TextRequest
from showo_turbo.serving.requests import EditRequest, ExtrapolateRequest, InpaintRequest, VaryRequest

METHODS = {
    ImageRequest: "text_to_image",
    InpaintRequest: "inpaint",
    ExtrapolateRequest: "extrapolate",
    VaryRequest: "vary",
    EditRequest: "edit",
    TextRequest: "image_to_text",
}
NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8))
LEFT = Image.new("L", (50, 40))
LEFT.paste(255, (0, 0, 25, 40))
WIDE = torch.arange(24).reshape(1, 4, 6) % 8
WIDE_MASK = torch.zeros(1, 4, 6, dtype=torch.bool)
WIDE_MASK[:, :, 1] = WIDE_MASK[:, 2, 5] = True


def alone(pipe: ShowoPipeline, request: object) -> object:
    return getattr(pipe, METHODS[type(request)])(**vars(request))


def assert_results_of_methods(pipe: ShowoPipeline, requests: list, max_sequences: int) -> None:
    engine = pipe.engine(max_sequences=max_sequences)
    outputs = {update.ticket: update.output() for update in engine.run(requests) if update.done}
    assert len(outputs) == len(requests)
    for ticket, request in enumerate(requests):
        output, expected = outputs[ticket], alone(pipe, request)
        assert output.forward_passes == expected.forward_passes
        if isinstance(request, TextRequest):
            assert output == expected
        else:
            assert output.grid == expected.grid
            assert output.codes.equal(expected.codes)
            assert all(np.array_equal(*pair) for pair in zip(output.images, expected.images, strict=True))


def test_edits_run_beside_all_other_requests(random_pipe: ShowoPipeline) -> None:
    requests = [
        InpaintRequest(NOISE, LEFT, "a red circle", seed=0),
        ImageRequest("a red circle", seed=0),
        VaryRequest(NOISE, "a dog", 0.4, guidance_scale=2.0, num_images_per_prompt=2, seed=1),
        ExtrapolateRequest(NOISE, "a cat", ["left", "up"], num_inference_steps=3, seed=2),
        TextRequest(NOISE, "What is it?", max_new_tokens=12, seed=3),
        ImageRequest("a cow", 5, height=48, width=64, seed=4),
        InpaintRequest(prompt="a cow", mask=WIDE_MASK, codes=WIDE, num_inference_steps=3, seed=5),
        ExtrapolateRequest(codes=WIDE, prompt="a cow", direction="down", offset=1, early_exit=0.4, seed=6),
        VaryRequest(codes=torch.arange(16) % 8, prompt="a dog", strength=1.0, output_type="latent", seed=7),
        InpaintRequest(NOISE, LEFT, ["a red circle", "a dog"], guidance_scale=1.0, output_type="np", seed=8),
    ]
    assert_results_of_methods(random_pipe, requests, max_sequences=5)


def test_edits_by_instruction_run_beside_all_other_requests(
    random_pipe: ShowoPipeline, editing_pipe: ShowoPipeline
) -> None:
    codes = torch.arange(16)[None] % 8
    requests = [
        EditRequest(NOISE, "make the car red", seed=0),
        EditRequest(codes=codes, prompt="a", seed=1),
        EditRequest(codes=codes, prompt="make the dog blue", guidance_scale=2.0, num_images_per_prompt=2, seed=2),
        ImageRequest("a red circle", guidance_scale=2.0, num_images_per_prompt=2, seed=3),
        ImageRequest("a red circle", seed=4),
        VaryRequest(NOISE, "a dog", 0.4, seed=5),
        EditRequest([NOISE, NOISE], ["make it red", "make it a dog"], num_inference_steps=3, seed=6),
        TextRequest(NOISE, "What is it?", max_new_tokens=12, seed=7),
        EditRequest(NOISE, "make the car red"),
    ]
    assert_results_of_methods(editing_pipe, requests[:-1], max_sequences=6)
    assert len([update for update in editing_pipe.engine().run(requests) if update.done]) == len(requests)
    with pytest.raises(InputError, match="not trained to edit by instructions"):
        random_pipe.engine().submit(requests[0])


edits = st.builds(
    lambda kind, seed, steps, scale, early: {
        "inpaint": lambda: InpaintRequest(NOISE, LEFT, "a dog", steps, scale, early_exit=early, seed=seed),
        "vary": lambda: VaryRequest(NOISE, "a dog", 0.3, steps, scale, early_exit=early, seed=seed),
        "all": lambda: VaryRequest(NOISE, "a dog", 1.0, steps, scale, early_exit=early, seed=seed),
        "extend": lambda: ExtrapolateRequest(NOISE, "a dog", "right", steps, scale, early_exit=early, seed=seed),
        "draw": lambda: ImageRequest("a dog", steps, scale, early_exit=early, seed=seed),
        "wide": lambda: ImageRequest("a dog", steps, scale, early_exit=early, seed=seed, width=48),
    }[kind](),
    kind=st.sampled_from(["inpaint", "vary", "all", "extend", "draw", "wide"]),
    seed=st.integers(0, 50),
    steps=st.sampled_from([2, 5]),
    scale=st.sampled_from([0.0, 2.0]),
    early=st.sampled_from([None, 0.5]),
)


@settings(max_examples=12, deadline=None, derandomize=True)
@given(requests=st.lists(edits, min_size=2, max_size=6), max_sequences=st.integers(2, 8))
def test_edits_of_equal_options_share_a_decoder(random_pipe: ShowoPipeline, requests: list, max_sequences: int) -> None:
    assert_results_of_methods(random_pipe, requests, max_sequences)


def test_previews_of_a_canvas_are_those_of_the_callback(random_pipe: ShowoPipeline) -> None:
    request = ExtrapolateRequest(NOISE, "a dog", "left", num_inference_steps=3, output_type="latent", seed=0)
    seen = []
    random_pipe.extrapolate(**vars(request), callback_on_step_end=lambda *step: seen.append(step[3]["codes"].tolist()))
    assert [update.output().codes.tolist() for update in random_pipe.engine().run([request])] == seen


@pytest.mark.parametrize(
    ("request_made", "message"),
    [
        (InpaintRequest(NOISE, None, "a dog"), "mask is missing"),
        (InpaintRequest(NOISE, Image.new("L", (50, 40)), "a dog"), "mask is empty"),
        (VaryRequest(NOISE, "a dog", 0.0), "strength is 0"),
        (ExtrapolateRequest(NOISE, "a dog", "north"), "direction is 'north'"),
        (ImageRequest("a dog", width=33), "width is 33"),
    ],
)
def test_invalid_edits_raise_at_once(random_pipe: ShowoPipeline, request_made: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        random_pipe.engine().submit(request_made)
