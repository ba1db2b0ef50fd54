"""Requests to a pipeline's engine: the results are those of the pipeline's methods."""

from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from showo_turbo import ImageRequest, InputError, ShowoPipeline, TextRequest


@pytest.fixture(scope="module")
def image() -> Image.Image:
    noise = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    return Image.fromarray(noise)


def alone(pipe: ShowoPipeline, request: ImageRequest | TextRequest) -> object:
    method = pipe.text_to_image if isinstance(request, ImageRequest) else pipe.image_to_text
    return method(**vars(request))


def test_results_are_those_of_the_methods(random_pipe: ShowoPipeline, image: Image.Image) -> None:
    """Run images and answers with all options in one engine, where some have to wait."""
    codes = torch.arange(16)
    requests = [
        ImageRequest("a red circle", seed=0),
        TextRequest(image, "How many stars are there?", max_new_tokens=20, seed=1),
        ImageRequest(["a blue star", "a cat"], num_inference_steps=7, guidance_scale=1.75, top_k=5, seed=2),
        TextRequest(
            random_pipe.encode_images([image]), ["What is it?", "Where?"], max_new_tokens=9, drafts=False, seed=3
        ),
        ImageRequest("a dog", guidance_scale=3.0, num_images_per_prompt=2, output_type="np", seed=4),
        TextRequest(
            codes=codes, max_new_tokens=12, decoding="autoregressive", do_sample=True, temperature=2.0, top_k=9, seed=5
        ),
        ImageRequest(["a dog", "a cow"], 9, early_exit=0.4, seed=8),
        ImageRequest("a dog", 3, temperature=2.0, schedule="linear", order="halton", output_type="latent", seed=6),
        TextRequest(codes=codes, prompt="What?", max_new_tokens=15, block_length=5, sliding_window=False, seed=7),
    ]
    engine = random_pipe.engine(max_sequences=6)
    outputs = {update.ticket: update.output() for update in engine.run(requests) if update.done}
    assert len(outputs) == len(requests)
    for ticket, request in enumerate(requests):
        output, expected = outputs[ticket], alone(random_pipe, request)
        assert output.forward_passes == expected.forward_passes
        if isinstance(request, TextRequest):
            assert output == expected
        else:
            assert output.codes.equal(expected.codes)
            assert output.grid == expected.grid
            assert type(output.images) is type(expected.images)
            assert all(np.array_equal(*pair) for pair in zip(output.images, expected.images, strict=True))


def test_every_step_has_a_preview(random_pipe: ShowoPipeline, image: Image.Image) -> None:
    """Images show the current guess, answers the settled text."""
    drawing, answering = ImageRequest("a red circle", seed=0), TextRequest(image, "What?", max_new_tokens=8, seed=0)
    updates = list(random_pipe.engine().run([drawing, answering]))
    seen = []
    random_pipe.text_to_image(**vars(drawing), callback_on_step_end=lambda *args: seen.append(args[3]["codes"]))
    shown = [update.output() for update in updates if update.request is drawing]
    assert [output.codes.tolist() for output in shown] == [codes.tolist() for codes in seen]
    assert all(output.images[0].size == (32, 32) for output in shown)

    final = alone(random_pipe, answering).token_ids[0]
    parts = [update.output().token_ids[0] for update in updates if update.request is answering]
    assert all(part == final[: len(part)] for part in parts)
    assert [len(part) for part in parts] == sorted(len(part) for part in parts)
    assert parts[-1] == final


@pytest.mark.parametrize(
    ("request_made", "message"),
    [
        (ImageRequest(""), "prompt"),
        (ImageRequest("a dog", num_inference_steps=17), "num_inference_steps is 17"),
        (ImageRequest("a dog", guidance_scale=-1.0), "guidance_scale is -1"),
        (ImageRequest("a dog", seed=-1), "seed is -1"),
        (ImageRequest("a dog", output_type="jpg"), "output_type is 'jpg'"),
        (ImageRequest("a dog", num_images_per_prompt=9), "takes 9 sequences at a time"),
        (TextRequest(), "give either image or codes"),
        (TextRequest(BytesIO(b"no picture")), "image"),
        (TextRequest(codes=torch.tensor([16])), "codes must be codebook indices"),
        (TextRequest(codes=torch.arange(16), prompt=" "), "question"),
        (TextRequest(codes=torch.arange(16), block_length=0), "block_length is 0"),
        (TextRequest(codes=torch.arange(16), max_new_tokens=300), "max_new_tokens is 300"),
        ("a red circle", "request is 'a red circle': expected an ImageRequest or a TextRequest"),
    ],
)
def test_invalid_requests_raise_at_once(random_pipe: ShowoPipeline, request_made: object, message: str) -> None:
    engine = random_pipe.engine(max_sequences=8)
    with pytest.raises(InputError, match=message):
        engine.submit(request_made)
    assert engine.pending == 0
