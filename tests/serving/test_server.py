"""The server over real HTTP, by the official client: results are those of the pipeline alone."""

import asyncio
import base64
import json
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
from PIL import Image
from server_process import KEYS, ServerProcess

from showo_turbo import ShowoPipeline
from showo_turbo.cli.output_files import image_bytes
from showo_turbo.processing.images import make_grid

PROMPT = "a red circle and a blue star"
MASK = Image.new("L", (64, 64))
MASK.paste(255, (32, 0, 64, 64))


def png(image: Image.Image) -> bytes:
    return image_bytes(image, Path("image.png"))


def data_url(image: Image.Image) -> str:
    return f"data:image/png;base64,{base64.b64encode(png(image)).decode()}"


def opened(b64: str) -> Image.Image:
    return Image.open(BytesIO(base64.b64decode(b64)))


def user(text: str, image: Image.Image | None = None) -> dict[str, Any]:
    parts = [{"type": "text", "text": text}]
    if image is not None:
        parts.append({"type": "image_url", "image_url": {"url": data_url(image)}})
    return {"role": "user", "content": parts}


@pytest.fixture(scope="module")
def star(tiny_turbo: ShowoPipeline) -> Image.Image:
    return tiny_turbo.text_to_image(PROMPT, seed=0).images[0]


def test_an_image_has_the_bytes_of_the_command_line(server: ServerProcess, tiny_turbo: ShowoPipeline) -> None:
    for options in ({}, {"num_inference_steps": 3, "guidance_scale": 1.5, "top_k": None, "order": "confidence"}):
        made = server.client().images.generate(prompt=PROMPT, model="tiny-turbo", extra_body={"seed": 7} | options)
        expected = make_grid(tiny_turbo.text_to_image(PROMPT, seed=7, **options).images, 1)
        assert base64.b64decode(made.data[0].b64_json) == png(expected)
        assert made.showo["seed"] == 7
        assert made.showo["forward_passes"] == options.get("num_inference_steps", 4)
        assert made.usage.output_tokens == 64


def test_several_images_and_other_sizes(server: ServerProcess, random_pipe: ShowoPipeline) -> None:
    """Of another model, in another format; n images are those of `num_images_per_prompt`."""
    made = server.client().images.generate(
        prompt="a dog", model="random", n=2, size="48x32", output_format="webp", extra_body={"seed": 3}
    )
    expected = random_pipe.text_to_image("a dog", seed=3, num_images_per_prompt=2, width=48, height=32).images
    files = [base64.b64decode(one.b64_json) for one in made.data]
    assert files == [image_bytes(image, Path("image.webp")) for image in expected]
    assert made.size == "48x32"


def test_previews_come_before_the_image(server: ServerProcess, tiny_turbo: ShowoPipeline) -> None:
    seen = []
    final = tiny_turbo.text_to_image(
        PROMPT, 8, seed=1, callback_on_step_end=lambda pipe, step, left, now: seen.append(now["codes"])
    )
    for previews in (0, 1, 3):
        stream = server.client().images.generate(
            prompt=PROMPT, model="tiny-turbo", stream=True, partial_images=previews,
            extra_body={"seed": 1, "num_inference_steps": 8},
        )  # fmt: skip
        *parts, last = list(stream)
        assert [part.type for part in parts] == ["image_generation.partial_image"] * previews
        assert [part.partial_image_index for part in parts] == list(range(previews))
        assert last.type == "image_generation.completed"
        assert base64.b64decode(last.b64_json) == png(final.images[0])
        assert last.usage.total_tokens == last.usage.input_tokens + 64
    for part, passes in zip(parts, (2, 4, 6), strict=True):
        assert base64.b64decode(part.b64_json) == png(tiny_turbo.decode_codes(seen[passes - 1])[0])


def test_edits_are_those_of_the_pipeline(server: ServerProcess, tiny_turbo: ShowoPipeline, star: Image.Image) -> None:
    transparent = star.convert("RGBA")
    transparent.putalpha(MASK.point(lambda level: 255 - level))
    large, large_mask = star.resize((200, 150)), MASK.resize((200, 150))
    cases = [
        ({"mask": MASK}, tiny_turbo.inpaint(star, MASK, PROMPT, seed=5)),
        ({"image": transparent}, tiny_turbo.inpaint(transparent, transparent, PROMPT, seed=5)),
        ({"image": large, "mask": large_mask}, tiny_turbo.inpaint(large, large_mask, PROMPT, seed=5)),
        ({"strength": 0.6}, tiny_turbo.vary(star, PROMPT, seed=5)),
        ({"strength": 0.3}, tiny_turbo.vary(star, PROMPT, 0.3, seed=5)),
        ({"direction": "left"}, tiny_turbo.extrapolate(star, PROMPT, "left", seed=5)),
        (
            {"direction": ["up", "right"], "offset": 1},
            tiny_turbo.extrapolate(star, PROMPT, ["up", "right"], offset=1, seed=5),
        ),
    ]  # fmt: skip
    for given, expected in cases:
        files = {name: (f"{name}.png", png(given.get(name, star))) for name in ("image", "mask") if name in given}
        image, mask = files.get("image", ("image.png", png(star))), files.get("mask", openai.omit)
        own = {name: value for name, value in given.items() if name not in ("image", "mask")}
        made = server.client().images.edit(image=image, mask=mask, prompt=PROMPT, extra_body={"seed": 5} | own)
        assert base64.b64decode(made.data[0].b64_json) == png(expected.images[0]), given
        assert made.showo["forward_passes"] == expected.forward_passes


def test_a_stream_of_an_edit_has_its_own_events(server: ServerProcess, star: Image.Image) -> None:
    stream = server.client().images.edit(
        image=[("image.png", png(star))],
        prompt=PROMPT,
        stream=True,
        partial_images=1,
        extra_body={"seed": 0, "strength": 0.6},
    )
    assert [event.type for event in stream] == ["image_edit.partial_image", "image_edit.completed"]


def test_a_dialogue_is_that_of_the_pipeline(
    server: ServerProcess, tiny_turbo: ShowoPipeline, star: Image.Image
) -> None:
    """Turn by turn, streamed or not; the second turn finds the first one in the cache."""
    chat, messages, client = tiny_turbo.chat(star), [], server.client()
    for number, question in enumerate(["Where is the star?", "How many stars are there?", "Describe the image."]):
        expected = chat.ask(question).texts[0]
        messages.append(user(question, star if number == 0 else None))
        whole = client.chat.completions.create(model="tiny-turbo", messages=messages)
        assert whole.choices[0].message.content == expected
        assert whole.choices[0].finish_reason == "stop"
        chunks = list(
            client.chat.completions.create(
                model="tiny-turbo", messages=messages, stream=True, stream_options={"include_usage": True}
            )
        )
        deltas = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices]
        assert "".join(delta for delta in deltas if delta) == expected
        assert chunks[-2].choices[0].finish_reason == "stop"
        usage = chunks[-1].usage
        assert usage.completion_tokens == whole.usage.completion_tokens
        assert usage.prompt_tokens_details.cached_tokens > 0
        messages.append({"role": "assistant", "content": expected})


def test_length_stop_and_sampling(server: ServerProcess, random_pipe: ShowoPipeline) -> None:
    """The random model answers at length."""
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8))
    client, messages = server.client(), [user("What?", image)]

    def ask(**options: Any) -> Any:
        return client.chat.completions.create(model="random", messages=messages, **options)

    expected = random_pipe.image_to_text(image, "What?", max_new_tokens=40).texts[0]
    long = ask(max_tokens=40)
    assert long.choices[0].message.content == expected
    assert long.choices[0].finish_reason == "length"
    assert long.usage.completion_tokens == 40
    assert ask(max_completion_tokens=10**6).usage.completion_tokens < 256

    stop = expected[len(expected) // 2 :][:3]
    cut = expected[: expected.index(stop)]
    assert ask(max_tokens=40, stop=[stop, "zzz"]).choices[0].message.content == cut
    deltas = [chunk.choices[0].delta.content or "" for chunk in ask(max_tokens=40, stop=stop, stream=True)]
    assert "".join(deltas) == cut

    sampled = ask(max_tokens=9, temperature=0.8, seed=4).choices[0].message.content
    alone = random_pipe.image_to_text(
        image, "What?", max_new_tokens=9, do_sample=True, decoding="autoregressive", temperature=0.8, seed=4
    )
    assert sampled == alone.texts[0]
    greedy = random_pipe.image_to_text(image, "What?", max_new_tokens=9).texts[0]
    assert ask(max_tokens=9, temperature=0).choices[0].message.content == greedy


def test_a_dialogue_draws(server: ServerProcess, tiny_turbo: ShowoPipeline) -> None:
    made = server.client().chat.completions.create(
        model="tiny-turbo",
        messages=[{"role": "user", "content": PROMPT}],
        modalities=["image"],
        extra_body={"seed": 2, "num_inference_steps": 2},
    )
    url = made.choices[0].message.content[0]["image_url"]["url"]
    assert url.startswith("data:image/png;base64,")
    expected = tiny_turbo.text_to_image(PROMPT, 2, seed=2).images[0]
    assert base64.b64decode(url.partition(",")[2]) == png(expected)


def test_models_and_documentation(server: ServerProcess) -> None:
    client = server.client()
    assert [model.id for model in client.models.list()] == ["tiny-turbo", "random"]
    assert client.models.retrieve("random").showo["resolution"] == 32
    http = server.http(key=None)
    assert http.get("/health").json() == {"status": "ok"}
    assert http.get("/ready").json() == {"status": "ready"}
    assert http.get("/docs").status_code == 200
    assert "/v1/images/edits" in http.get("/openapi.json").json()["paths"]


def test_warnings_name_unknown_words_and_fields(server: ServerProcess) -> None:
    made = server.client().images.generate(
        prompt="a purple dinosaur", extra_body={"seed": 0, "quality": "high", "chat_id": "7"}
    )
    unknown, words = made.showo["warnings"]
    assert unknown == "chat_id is unknown and ignored"
    assert "'dinosaur'" in words


def test_the_asynchronous_client_runs_many_at_once(server: ServerProcess, random_pipe: ShowoPipeline) -> None:
    """Images and answers together; every one is that of the pipeline alone."""
    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (32, 32, 3), dtype=np.uint8))

    async def run() -> list[Any]:
        async with server.async_client() as client:
            drawing = [
                client.images.generate(prompt="a dog", model="random", extra_body={"seed": seed}) for seed in range(6)
            ]
            asking = [
                client.chat.completions.create(model="random", messages=[user(f"What {n}?", image)], max_tokens=n + 1)
                for n in range(6)
            ]
            return await asyncio.gather(*drawing, *asking)

    results = asyncio.run(run())
    for seed, made in enumerate(results[:6]):
        expected = random_pipe.text_to_image("a dog", seed=seed).images[0]
        assert base64.b64decode(made.data[0].b64_json) == png(expected)
    for n, answer in enumerate(results[6:]):
        expected = random_pipe.image_to_text(image, f"What {n}?", max_new_tokens=n + 1).texts[0]
        assert answer.choices[0].message.content == expected


def test_metrics_count_what_happened(server: ServerProcess) -> None:
    names = ("generated_images_total", "generated_tokens_total", "stage_seconds_count", "errors_total")
    before = {name: server.metric(f"showo_turbo_{name}") for name in names}
    client, image = server.client(), Image.new("RGB", (32, 32))
    client.images.generate(prompt="a dog", model="random", n=3)
    client.chat.completions.create(model="random", messages=[user("What?", image)], max_tokens=5)
    with pytest.raises(openai.BadRequestError):
        client.images.generate(prompt="", model="random")
    after = {name: server.metric(f"showo_turbo_{name}") for name in names}
    assert after["generated_images_total"] - before["generated_images_total"] == 3
    assert 0 <= after["generated_tokens_total"] - before["generated_tokens_total"] <= 5
    assert after["errors_total"] - before["errors_total"] == 1
    assert after["stage_seconds_count"] > before["stage_seconds_count"]
    text = server.http().get("/metrics").text
    for name in (
        "requests_waiting",
        "batch_occupancy_bucket",
        "tokens_per_pass_bucket",
        "prefix_cache_hits_total",
        "shared_prefix_hits_total",
    ):
        assert f"showo_turbo_{name}" in text


def test_the_log_has_no_prompts(server: ServerProcess) -> None:
    server.client(KEYS[1]).images.generate(prompt="a secret zebra", model="random")
    log = server.log.read_text()
    assert "POST /v1/images/generations 200" in log
    assert "zebra" not in log
    assert not any(key in log for key in KEYS)
    assert json.loads(server.http(key=None).get("/ready").text)
