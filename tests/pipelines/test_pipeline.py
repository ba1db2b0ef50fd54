"""The pipeline: published results, batches that change no result, and invalid arguments."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from showo_turbo import ShowoPipeline
from showo_turbo.errors import InputError

PROMPTS = ["a red car", "two dogs in the snow", "a blue star"]


def seeded(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


@pytest.fixture(scope="session")
def image(random_pipe: ShowoPipeline) -> Image.Image:
    return random_pipe.text_to_image("a red car", seed=0).images[0]


@pytest.fixture(scope="session")
def tiny_pipe(tiny_folder: Path) -> ShowoPipeline:
    return ShowoPipeline.from_pretrained(tiny_folder, device="cpu", dtype="float32")


class Recorder:
    """Record what a streamer receives."""

    def __init__(self) -> None:
        self.prompt: list[int] | None = None
        self.pieces: list[list[int]] = []
        self.ended = 0

    def put(self, value: torch.Tensor) -> None:
        assert not self.ended
        assert value.device.type == "cpu"
        assert value.dtype == torch.long
        if self.prompt is None:
            assert value.shape == (1, value.numel())
            self.prompt = value[0].tolist()
        else:
            assert value.ndim == 1
            self.pieces.append(value.tolist())

    def end(self) -> None:
        self.ended += 1


def test_images_are_the_published_ones(tiny_pipe: ShowoPipeline, golden: Path) -> None:
    recorded = np.load(golden / "t2i_turbo_s4.npz")["g1.75_k20_seed1/final_ids"]
    output = tiny_pipe.text_to_image(
        ["two dogs in the snow", "a red car"], 4, 1.75, top_k=20, seed=1, output_type="latent"
    )
    assert output.codes.numpy().tolist() == recorded.tolist()
    assert output.forward_passes == 4


@pytest.mark.parametrize("decoding", ["jacobi", "autoregressive"])
def test_answers_are_the_published_ones(tiny_pipe: ShowoPipeline, golden: Path, decoding: str) -> None:
    recorded = np.load(golden / "mmu.npz")
    question = "What scene does this image depict"
    output = tiny_pipe.image_to_text(
        codes=torch.from_numpy(recorded["c0/codes"]).long(), prompt=question, max_new_tokens=48, decoding=decoding
    )
    end = tiny_pipe.prompts.vocabulary.end_of_text_id
    assert [*output.token_ids[0], end] == recorded["c0/greedy48_stop_at_eos"].tolist()
    assert output.texts == [tiny_pipe.prompts.decode(output.token_ids[0]).strip()]


def test_sampled_answers_are_the_published_ones(tiny_pipe: ShowoPipeline, golden: Path) -> None:
    recorded = np.load(golden / "mmu.npz")
    output = tiny_pipe.image_to_text(
        codes=torch.from_numpy(recorded["c0/codes"]).long(),
        prompt="What scene does this image depict",
        max_new_tokens=16,
        decoding="autoregressive",
        do_sample=True,
        temperature=0.7,
        top_k=5,
        seed=9,
    )
    assert output.token_ids[0] == recorded["c0/sample_topk5_temp0.7_seed9"].tolist()


def test_a_seed_is_a_generator_and_a_generator_takes_precedence(random_pipe: ShowoPipeline) -> None:
    by_seed = random_pipe.text_to_image(PROMPTS, seed=5).codes
    assert by_seed.equal(random_pipe.text_to_image(PROMPTS, generator=seeded(5)[0]).codes)
    assert by_seed.equal(random_pipe.text_to_image(PROMPTS, generator=seeded(5)[0], seed=6).codes)
    assert not by_seed.equal(random_pipe.text_to_image(PROMPTS, seed=6).codes)


@pytest.mark.parametrize("guidance_scale", [0.0, 1.75])
def test_a_prompt_in_a_batch_gives_the_images_of_a_single_one(
    random_pipe: ShowoPipeline, guidance_scale: float
) -> None:
    options = {"guidance_scale": guidance_scale, "num_images_per_prompt": 2}
    together = random_pipe.text_to_image(PROMPTS, generator=seeded(1, 2, 3), **options)
    alone = [random_pipe.text_to_image(one, seed=seed, **options).codes for seed, one in enumerate(PROMPTS, start=1)]
    assert together.codes.equal(torch.cat(alone))
    assert len(together.images) == 6
    assert together.forward_passes == random_pipe.recommended.num_inference_steps


def test_options_left_out_are_the_recommended_ones(random_pipe: ShowoPipeline) -> None:
    assert random_pipe.text_to_image("a red car", seed=0).forward_passes == 4
    assert random_pipe.text_to_image("a red car", num_inference_steps=7, seed=0).forward_passes == 7


def test_output_types_show_the_same_image(random_pipe: ShowoPipeline) -> None:
    outputs = {kind: random_pipe.text_to_image("a red car", seed=0, output_type=kind) for kind in ("pil", "np", "pt")}
    array, tensor = outputs["np"].images, outputs["pt"].images
    assert outputs["pil"].images[0].size == (random_pipe.resolution, random_pipe.resolution) == (32, 32)
    assert array.shape == (1, 32, 32, 3)
    assert tensor.shape == (1, 3, 32, 32)
    assert array.dtype == np.float32
    assert tensor.min() >= 0
    assert tensor.max() <= 1
    assert (array[0] == tensor[0].permute(1, 2, 0).numpy()).all()
    assert (np.asarray(outputs["pil"].images[0]) == (array[0] * 255).astype(np.uint8)).all()


def test_the_callback_sees_every_step(random_pipe: ShowoPipeline) -> None:
    seen = []
    output = random_pipe.text_to_image("a red car", seed=0, callback_on_step_end=lambda *args: seen.append(args))
    assert [(pipe, step, timestep) for pipe, step, timestep, _ in seen] == [
        (random_pipe, step, 3 - step) for step in range(4)
    ]
    masked = [int(kwargs["masked"].sum()) for *_, kwargs in seen]
    assert masked == sorted(masked, reverse=True)
    assert masked[-1] == 0
    assert seen[-1][3]["codes"].equal(output.codes)


def test_codes_and_images_convert(random_pipe: ShowoPipeline, image: Image.Image) -> None:
    codes = random_pipe.encode_image([image, image.resize((90, 64))])
    assert codes.shape == (2, 16)
    assert codes.dtype == torch.long
    assert random_pipe.encode_image(image).equal(codes[:1])
    wide = random_pipe.decode_codes(codes, height=2, width=8)
    assert [one.size for one in wide] == [(64, 16)] * 2


@pytest.mark.parametrize(("images", "questions"), [(1, 3), (3, 1), (3, 3), (1, 1)])
def test_images_and_questions_pair_up(
    random_pipe: ShowoPipeline, image: Image.Image, images: int, questions: int
) -> None:
    rotated = [image.rotate(90 * number) for number in range(images)]
    texts = ["How many stars are there?", "What is it?", "Describe the image."][:questions]
    batch = random_pipe.image_to_text(rotated, texts, max_new_tokens=12)
    pairs = [(rotated[row % images], texts[row % questions]) for row in range(max(images, questions))]
    alone = [random_pipe.image_to_text(one_image, text, max_new_tokens=12) for one_image, text in pairs]
    assert batch.token_ids == [one.token_ids[0] for one in alone]
    assert batch.texts == [one.texts[0] for one in alone]
    assert (
        random_pipe.image_to_text(random_pipe.encode_images(rotated), texts, max_new_tokens=12).token_ids
        == batch.token_ids
    )


@pytest.mark.parametrize("block_length", [1, 5, 16])
def test_both_decodings_agree(random_pipe: ShowoPipeline, image: Image.Image, block_length: int) -> None:
    jacobi = random_pipe.image_to_text(image, "What?", max_new_tokens=20, block_length=block_length, seed=0)
    plain = random_pipe.image_to_text(image, "What?", max_new_tokens=20, decoding="autoregressive")
    assert jacobi.token_ids == plain.token_ids
    assert jacobi.forward_passes <= plain.forward_passes


@pytest.mark.parametrize("decoding", ["jacobi", "autoregressive"])
def test_a_streamer_gets_every_settled_id_once(
    random_pipe: ShowoPipeline, tiny_pipe: ShowoPipeline, golden: Path, decoding: str
) -> None:
    codes = torch.from_numpy(np.load(golden / "mmu.npz")["c0/codes"]).long()
    for pipe in (tiny_pipe, random_pipe):
        recorder = Recorder()
        known = codes % pipe.model.config.codebook_size
        output = pipe.image_to_text(
            codes=known, prompt="What?", max_new_tokens=40, decoding=decoding, seed=0, streamer=recorder
        )
        assert [token for piece in recorder.pieces for token in piece] == output.token_ids[0]
        assert recorder.prompt == pipe.prompts.understanding(known.flatten().tolist(), "What?")
        assert all(recorder.pieces)
        assert recorder.ended == 1


def test_transformers_streamers_fit(
    random_pipe: ShowoPipeline, image: Image.Image, capsys: pytest.CaptureFixture[str]
) -> None:
    from transformers import TextStreamer

    output = random_pipe.image_to_text(
        image, "What?", max_new_tokens=8, streamer=TextStreamer(random_pipe.prompts.tokenizer, skip_prompt=True)
    )
    answer = random_pipe.prompts.tokenizer.decode(output.token_ids[0]).strip()
    assert capsys.readouterr().out.strip() == answer
    random_pipe.image_to_text(image, "What?", max_new_tokens=8, streamer=TextStreamer(random_pipe.prompts.tokenizer))
    printed = capsys.readouterr().out.strip()
    assert "USER: \nWhat? ASSISTANT:" in printed
    assert printed.endswith(answer)


@pytest.mark.parametrize("decoding", ["jacobi", "autoregressive"])
def test_a_text_iterator_streamer_gets_the_whole_answer(
    random_pipe: ShowoPipeline, image: Image.Image, decoding: str
) -> None:
    """Also of a chat's later turns, through one streamer."""
    from transformers import TextIteratorStreamer

    tokenizer = random_pipe.prompts.tokenizer
    streamer, chat = TextIteratorStreamer(tokenizer, skip_prompt=True, timeout=60), random_pipe.chat(image)
    options = {"max_new_tokens": 9, "decoding": decoding, "streamer": streamer}
    with ThreadPoolExecutor(1) as pool:
        for ask in (random_pipe.image_to_text, lambda image, question, **more: chat.ask(question, **more)) * 2:
            call = pool.submit(ask, image, "What?", **options)
            streamed = "".join(streamer)
            assert streamed == tokenizer.decode(call.result().token_ids[0])


@pytest.mark.parametrize(
    ("question", "options", "message"),
    [
        ("", {}, "question is empty"),
        (["a?", "b?"], {}, "one answer at a time"),
        ("What?", {"max_new_tokens": 0}, "max_new_tokens is 0"),
    ],
)
def test_a_streamer_ends_if_the_call_fails(
    random_pipe: ShowoPipeline, image: Image.Image, question: object, options: dict, message: str
) -> None:
    """So that a consumer in another thread does not wait for ever, and then gets the error."""
    from transformers import TextIteratorStreamer

    streamer = TextIteratorStreamer(random_pipe.prompts.tokenizer, skip_prompt=True, timeout=60)
    chat = random_pipe.chat(image)
    asks = [lambda: random_pipe.image_to_text(image, question, streamer=streamer, **options)]
    if isinstance(question, str):
        asks.append(lambda: chat.ask(question, streamer=streamer, **options))
    with ThreadPoolExecutor(1) as pool:
        for ask in asks:
            call = pool.submit(ask)
            assert "".join(streamer) == ""
            with pytest.raises(InputError, match=message):
                call.result()


@pytest.mark.parametrize("streamer", [3, print, "text", SimpleNamespace(put=print), SimpleNamespace(put=1, end=1)])
def test_what_is_no_streamer_is_refused(random_pipe: ShowoPipeline, image: Image.Image, streamer: Any) -> None:
    for ask in (partial(random_pipe.image_to_text, image), random_pipe.chat(image).ask):
        with pytest.raises(InputError, match=r"^streamer is .*: expected an object with put and end"):
            ask("What?", streamer=streamer)


@pytest.mark.parametrize("callback", [3, [print], "text"])
def test_a_callback_that_is_no_function_is_refused(random_pipe: ShowoPipeline, callback: Any) -> None:
    with pytest.raises(InputError, match=r"^callback_on_step_end is .*: expected a function"):
        random_pipe.text_to_image("a red car", callback_on_step_end=callback)


def test_a_streamer_ends_if_a_pass_or_the_streamer_fails(
    random_pipe: ShowoPipeline, image: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing(Recorder):
        def put(self, value: torch.Tensor) -> None:
            super().put(value)
            if self.pieces:
                raise BrokenPipeError

    failing, recorder = Failing(), Recorder()
    with pytest.raises(BrokenPipeError):
        random_pipe.image_to_text(image, "What?", max_new_tokens=8, streamer=failing)
    monkeypatch.setattr(random_pipe.model, "packed_forward", None)
    with pytest.raises(TypeError):
        random_pipe.image_to_text(image, "What?", max_new_tokens=8, streamer=recorder)
    assert failing.ended == recorder.ended == 1


@pytest.mark.parametrize("stop", [0, 1, 3])
def test_an_interrupted_call_returns_the_images_so_far(random_pipe: ShowoPipeline, stop: int) -> None:
    """As with diffusers' pipelines; the next call runs to its end."""
    codes = []

    def callback(pipe: ShowoPipeline, step: int, timestep: int, kwargs: dict) -> dict:
        codes.append(kwargs["codes"])
        pipe._interrupt = step == stop
        return kwargs

    stopped = random_pipe.text_to_image("a red car", 4, seed=0, callback_on_step_end=callback)
    assert stopped.forward_passes == len(codes) == stop + 1
    assert stopped.codes.equal(codes[-1])
    assert stopped.images[0].size == (32, 32)
    whole = random_pipe.text_to_image("a red car", 4, seed=0)
    assert whole.forward_passes == 4


def test_larger_images_and_edits_can_be_interrupted(random_pipe: ShowoPipeline, image: Image.Image) -> None:
    def callback(pipe: ShowoPipeline, step: int, timestep: int, kwargs: dict) -> None:
        pipe._interrupt = True

    options = {"num_inference_steps": 4, "seed": 0, "callback_on_step_end": callback}
    for output, size in (
        (random_pipe.text_to_image("a red car", width=64, **options), (64, 32)),
        (random_pipe.extrapolate(image, "a red car", "up", **options), (32, 48)),
        (random_pipe.vary(image, "a red car", **options), (32, 32)),
    ):
        assert output.forward_passes == 1
        assert output.images[0].size == size


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompt": ""}, "prompt is empty"),
        ({"prompt": " \n"}, "prompt is empty"),
        ({"prompt": []}, "prompt is an empty list"),
        ({"prompt": ["a", 3]}, "prompt is 3: expected a text"),
        ({"prompt": "a <|soi|>"}, "reserved token"),
        ({"prompt": "a red car " * 60}, r"prompt is too long: the model takes 128 tokens, and its end, '.*red car'"),
        ({"num_inference_steps": 0}, "num_inference_steps is 0: choose 1 to 16"),
        ({"num_inference_steps": 17}, "num_inference_steps is 17: choose 1 to 16"),
        ({"num_inference_steps": 2.5}, "num_inference_steps is 2.5: choose a whole number"),
        ({"top_k": 0}, "top_k is 0: choose 1 to 16"),
        ({"top_k": 17}, "top_k is 17: choose 1 to 16"),
        ({"guidance_scale": -0.5}, "guidance_scale is -0.5: choose 0"),
        ({"guidance_scale": float("inf")}, "guidance_scale is inf: choose a finite"),
        ({"temperature": -1.0}, "temperature is -1.0"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"early_exit": 1.5}, "early_exit is 1.5: choose 0"),
        ({"early_exit": True}, "early_exit is True: choose a finite"),
        ({"schedule": "cubist"}, "schedule 'cubist' is unknown"),
        ({"schedule": 3}, "schedule 3 is unknown"),
        ({"num_images_per_prompt": 0}, "num_images_per_prompt is 0"),
        ({"generator": seeded(1, 2)}, "generator is a list of 2 for 1 prompts"),
        ({"generator": 42}, "generator is 42: give a torch.Generator"),
        ({"generator": [42]}, r"generator is \[42\]: give a torch.Generator"),
        ({"seed": -1}, "seed is -1"),
        ({"output_type": "gif"}, "output_type is 'gif': choose pil, np, pt, latent"),
    ],
)
def test_invalid_arguments_of_text_to_image_raise(
    random_pipe: ShowoPipeline, options: dict[str, object], message: str
) -> None:
    steps = []
    with pytest.raises(InputError, match=message):
        random_pipe.text_to_image(**{"prompt": "a red car", **options}, callback_on_step_end=lambda *a: steps.append(a))
    assert not steps


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image": None}, "either image or codes"),
        ({"codes": torch.zeros(16, dtype=torch.long)}, "either image or codes"),
        ({"image": "nowhere.png"}, r"'nowhere.png' does not exist"),
        ({"image": None, "codes": torch.zeros(16)}, "codes must be a torch.long tensor"),
        ({"image": None, "codes": torch.full((16,), 16)}, r"codebook indices, 0\.\.15"),
        ({"prompt": ""}, "question is empty"),
        ({"prompt": 7}, "question is 7: expected a text"),
        ({"prompt": "why " * 400}, "question has 1599 characters"),
        ({"prompt": "why? " * 60}, "but the model has 256 positions: shorten the question"),
        ({"prompt": ["a?", "b?", "c?"], "image": ["x.png", "y.png"]}, "2 images and 3 questions"),
        ({"prompt": []}, "1 images and 0 questions"),
        ({"max_new_tokens": 0}, "max_new_tokens is 0"),
        ({"max_new_tokens": 500}, "max_new_tokens is 500, but the model has 256 positions"),
        ({"block_length": 0}, "block_length is 0"),
        ({"decoding": "guess"}, "decoding is 'guess': choose jacobi or autoregressive"),
        ({"do_sample": True}, "do_sample needs decoding='autoregressive'"),
        ({"temperature": 0.5}, "temperature 0.5 and top_k None are for sampling"),
        ({"top_k": 5, "decoding": "autoregressive"}, "set do_sample=True"),
        ({"do_sample": True, "decoding": "autoregressive", "temperature": 0.0}, "temperature is 0.0"),
        ({"do_sample": True, "decoding": "autoregressive", "temperature": "1"}, "temperature is '1'"),
        ({"do_sample": True, "decoding": "autoregressive", "top_k": 2.5}, "top_k is 2.5"),
        ({"generator": 3}, "generator is 3: give a torch.Generator"),
        ({"prompt": ["a?", "b?"], "streamer": Recorder()}, "one answer at a time, but there are 2"),
    ],
)
def test_invalid_arguments_of_image_to_text_raise(
    random_pipe: ShowoPipeline, image: Image.Image, options: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        random_pipe.image_to_text(**{"image": image, "prompt": "What?", **options})
