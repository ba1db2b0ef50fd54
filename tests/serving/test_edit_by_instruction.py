"""Editing by instruction over HTTP: the results are those of `pipe.edit`, and a model that cannot says so."""

import base64
import signal
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from PIL import Image, ImageDraw
from server_process import ServerProcess, start_server
from test_server import png

from showo_turbo import ShowoPipeline

INSTRUCTION = "make the circle red"


@pytest.fixture(scope="module")
def editing_server(
    tmp_path_factory: pytest.TempPathFactory, editing_checkpoint: Path, random_checkpoint: Path
) -> Iterator[ServerProcess]:
    models = ["--model", str(editing_checkpoint), "--model", str(random_checkpoint)]
    one = start_server(tmp_path_factory.mktemp("editing_server"), *models)
    yield one
    one.stop(signal.SIGKILL)


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    image = Image.new("RGB", (32, 32), "white")
    ImageDraw.Draw(image).ellipse((6, 6, 26, 26), "blue")
    return image


def test_an_image_and_an_instruction_are_an_edit(
    editing_server: ServerProcess, editing_checkpoint: Path, picture: Image.Image
) -> None:
    client, pipe = editing_server.client(), ShowoPipeline.from_pretrained(editing_checkpoint)
    expected = pipe.edit(picture, INSTRUCTION, seed=3, num_images_per_prompt=2)
    file = ("picture.png", png(picture))
    made = client.images.edit(model="editing", image=file, prompt=INSTRUCTION, n=2, extra_body={"seed": 3})
    assert [base64.b64decode(one.b64_json) for one in made.data] == [png(image) for image in expected.images]
    assert made.showo["forward_passes"] == expected.forward_passes
    assert made.usage.input_tokens_details.image_tokens == 16

    large = picture.resize((100, 80))
    expected = pipe.edit(large, INSTRUCTION, seed=4)
    stream = client.images.edit(
        model="editing", image=("a.png", png(large)), prompt=INSTRUCTION, stream=True, extra_body={"seed": 4}
    )
    (completed,) = stream
    assert completed.type == "image_edit.completed"
    assert base64.b64decode(completed.b64_json) == png(expected.images[0])


def test_a_dialogue_edits_its_image(
    editing_server: ServerProcess, editing_checkpoint: Path, picture: Image.Image
) -> None:
    pipe = ShowoPipeline.from_pretrained(editing_checkpoint)
    url = f"data:image/png;base64,{base64.b64encode(png(picture)).decode()}"
    content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": INSTRUCTION}]
    cases = [
        ({}, pipe.edit(picture, INSTRUCTION, seed=5)),
        ({"strength": 0.6}, pipe.vary(picture, INSTRUCTION, seed=5)),
    ]
    for given, expected in cases:
        body = {"model": "editing", "messages": [{"role": "user", "content": content}], "modalities": ["image"]}
        response = editing_server.http().post("/v1/chat/completions", json=body | {"seed": 5} | given)
        (part,) = response.json()["choices"][0]["message"]["content"]
        assert base64.b64decode(part["image_url"]["url"].partition(",")[2]) == png(expected.images[0])


def test_other_edits_of_the_model_are_as_before(
    editing_server: ServerProcess, editing_checkpoint: Path, picture: Image.Image
) -> None:
    expected = ShowoPipeline.from_pretrained(editing_checkpoint).vary(picture, "a dog", 0.3, seed=6)
    made = editing_server.client().images.edit(
        model="editing", image=("a.png", png(picture)), prompt="a dog", extra_body={"seed": 6, "strength": 0.3}
    )
    assert base64.b64decode(made.data[0].b64_json) == png(expected.images[0])


def test_models_say_whether_they_edit_and_others_refuse(editing_server: ServerProcess, picture: Image.Image) -> None:
    client = editing_server.client()
    assert {model.id: model.showo["edits_images"] for model in client.models.list()} == {
        "editing": True,
        "random": False,
    }
    with pytest.raises(openai.BadRequestError) as refused:
        client.images.edit(model="random", image=("a.png", png(picture)), prompt=INSTRUCTION)
    assert refused.value.body == {
        "message": "without a mask the prompt is an instruction, and model 'random' was not trained to follow one: "
        "give a mask to redraw a part of the image, strength to vary it, or direction to extend it",
        "type": "invalid_request_error",
        "param": "mask",
        "code": "invalid_value",
    }
