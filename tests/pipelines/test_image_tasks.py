"""Inpainting, extrapolation, variation, non-square: known codes stay bit for bit, outputs equal the published."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from showo_turbo import ImageOutput, ShowoPipeline
from showo_turbo.errors import InputError

SIDE = 4
few = settings(max_examples=15, deadline=None, derandomize=True)
seeds = st.integers(0, 1000)


@pytest.fixture(scope="session")
def image(random_pipe: ShowoPipeline) -> Image.Image:
    return random_pipe.text_to_image("a red car", seed=0).images[0]


@pytest.fixture(scope="session")
def codes(random_pipe: ShowoPipeline, image: Image.Image) -> Tensor:
    """The codes of `image`, (1, side, side)."""
    return random_pipe.encode_image(image).reshape(1, SIDE, SIDE)


@pytest.fixture
def mask(image: Image.Image) -> Image.Image:
    """White over the left half."""
    painted = Image.new("L", image.size)
    painted.paste(255, (0, 0, image.width // 2, image.height))
    return painted


def grids(output: ImageOutput) -> Tensor:
    return output.codes.reshape(-1, *output.grid)


def random_codes(seed: int, *shape: int) -> Tensor:
    return torch.randint(16, shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("steps", [3, 6])
def test_inpainted_images_are_the_published_ones(tiny_folder: Path, golden: Path, steps: int) -> None:
    pipe = ShowoPipeline.from_pretrained(tiny_folder, device="cpu", dtype="float32")
    recorded = np.load(golden / "t2i_showo.npz")
    start = torch.from_numpy(recorded[f"inpaint_s{steps}/start_image_ids"]).long()
    unknown = start == pipe.prompts.vocabulary.mask_id
    output = pipe.inpaint(
        codes=pipe.prompts.vocabulary.ids_to_codes(start).masked_fill(unknown, 0),
        mask=unknown,
        prompt=["two dogs in the snow", "a red car"],
        num_inference_steps=steps,
        guidance_scale=1.75,
        seed=7,
        output_type="latent",
    )
    assert output.codes.tolist() == recorded[f"inpaint_s{steps}/final_ids"].tolist()


@few
@given(
    seed=seeds, height=st.integers(4, 9), width=st.integers(4, 9), share=st.floats(0.05, 1), copies=st.integers(1, 2)
)
def test_inpainting_keeps_known_codes(
    random_pipe: ShowoPipeline, seed: int, height: int, width: int, share: float, copies: int
) -> None:
    known = random_codes(seed, 2, height, width)
    mask = torch.rand(known.shape, generator=torch.Generator().manual_seed(seed)) < share
    mask[:, -1, -1] = True
    output = random_pipe.inpaint(
        codes=known,
        mask=mask,
        prompt=["a red car", "a dog"],
        seed=seed,
        num_inference_steps=2,
        num_images_per_prompt=copies,
        output_type="latent",
    )
    kept = ~mask.repeat_interleave(copies, 0)
    assert grids(output)[kept].equal(known.repeat_interleave(copies, 0)[kept])
    assert output.codes.max() < 16


@few
@given(
    seed=seeds,
    shape=st.tuples(st.integers(4, 7), st.integers(4, 7)),
    directions=st.lists(st.sampled_from(["left", "right", "up", "down"]), min_size=1, max_size=3),
    offset=st.integers(-1, 1),
)
def test_extrapolation_keeps_known_codes(
    random_pipe: ShowoPipeline, seed: int, shape: tuple[int, int], directions: list[str], offset: int
) -> None:
    known = random_codes(seed, 1, *shape)
    output = random_pipe.extrapolate(
        codes=known, prompt="a dog", direction=directions, offset=offset, seed=seed, num_inference_steps=1
    )
    added = SIDE // 2 + offset
    top, left = added * directions.count("up"), added * directions.count("left")
    bottom, right = added * directions.count("down"), added * directions.count("right")
    assert output.grid == (top + shape[0] + bottom, left + shape[1] + right)
    assert output.images[0].size == (8 * output.grid[1], 8 * output.grid[0])
    assert grids(output)[:, top : top + shape[0], left : left + shape[1]].equal(known)


@few
@given(seed=seeds, height=st.integers(4, 7), strength=st.floats(0.01, 1))
def test_a_variation_keeps_its_fraction(random_pipe: ShowoPipeline, seed: int, height: int, strength: float) -> None:
    known = random_codes(seed, 2, height, SIDE)
    first = []
    random_pipe.vary(
        codes=known,
        prompt="a dog",
        strength=strength,
        seed=seed,
        num_inference_steps=1,
        callback_on_step_end=lambda pipe, step, left, seen: first.append(seen["codes"]),
    )
    changed = (first[-1] != known.flatten(1)).sum(1)
    assert (changed <= max(1, round(strength * known[0].numel()))).all()


def test_images_and_their_codes_give_the_same_results(
    random_pipe: ShowoPipeline, image: Image.Image, codes: Tensor, mask: Image.Image
) -> None:
    unknown = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    unknown[:, : SIDE // 2] = True
    for from_image, from_codes in [
        (
            random_pipe.inpaint(image, mask, "a dog", seed=1),
            random_pipe.inpaint(codes=codes, mask=unknown[None], prompt="a dog", seed=1),
        ),
        (
            random_pipe.extrapolate(image, "a dog", "up", seed=1),
            random_pipe.extrapolate(codes=codes.flatten(1), prompt="a dog", direction="up", seed=1),
        ),
        (
            random_pipe.vary(image, "a dog", seed=1),
            random_pipe.vary(codes=codes.flatten(), prompt="a dog", seed=1),
        ),
    ]:
        assert from_image.codes.equal(from_codes.codes)
        assert from_image.images[0].tobytes() == from_codes.images[0].tobytes()
    kept = ~unknown.flatten()
    assert random_pipe.inpaint(image, mask, "a dog", seed=1).codes[:, kept].equal(codes.flatten(1)[:, kept])


def test_extrapolation_is_inpainting_of_the_far_half(random_pipe: ShowoPipeline, codes: Tensor) -> None:
    """The known half of the image is the far half of the window."""
    extended = random_pipe.extrapolate(codes=codes, prompt="a dog", direction="left", seed=3, guidance_scale=1.0)
    square = torch.zeros_like(codes)
    square[:, :, SIDE // 2 :] = codes[:, :, : SIDE // 2]
    unknown = torch.zeros_like(square, dtype=torch.bool)
    unknown[:, :, : SIDE // 2] = True
    inpainted = random_pipe.inpaint(codes=square, mask=unknown, prompt="a dog", seed=3, guidance_scale=1.0)
    assert grids(extended)[:, :, :SIDE].equal(grids(inpainted))


def test_several_directions_equal_one_call_each(random_pipe: ShowoPipeline, codes: Tensor) -> None:
    directions = ["left", "left", "down", "right", "up"]
    together = random_pipe.extrapolate(
        codes=codes, prompt="a dog", direction=directions, generator=torch.Generator().manual_seed(0)
    )
    generator, grown = torch.Generator().manual_seed(0), codes
    for direction in directions:
        grown = grids(random_pipe.extrapolate(codes=grown, prompt="a dog", direction=direction, generator=generator))
    assert grids(together).equal(grown)


def test_a_wide_image_starts_as_a_square_one(random_pipe: ShowoPipeline) -> None:
    wide = random_pipe.text_to_image("a dog", height=32, width=64, seed=0)
    assert wide.grid == (4, 8)
    assert wide.images[0].size == (64, 32)
    assert wide.forward_passes == 3 * random_pipe.recommended.num_inference_steps
    assert grids(wide)[:, :, :SIDE].flatten(1).equal(random_pipe.text_to_image("a dog", seed=0).codes)
    tall = random_pipe.text_to_image("a dog", height=40, seed=0, output_type="np")
    assert tall.images.shape == (1, 40, 32, 3)


def edit_each_way(pipe: ShowoPipeline, codes: Tensor) -> list[Callable[..., ImageOutput]]:
    mask = torch.zeros(codes.shape, dtype=torch.bool)
    mask[:, 1:, 1:] = True
    return [
        lambda **options: pipe.inpaint(codes=codes, mask=mask, **options),
        lambda **options: pipe.extrapolate(codes=codes, direction=["up", "left"], **options),
        lambda **options: pipe.vary(codes=codes, strength=0.5, **options),
    ]


@pytest.mark.parametrize("task", range(3))
def test_every_task_takes_the_options_of_text_to_image(random_pipe: ShowoPipeline, codes: Tensor, task: int) -> None:
    edit = edit_each_way(random_pipe, codes)[task]
    options = {"num_inference_steps": 3, "guidance_scale": 1.5, "top_k": 5, "temperature": 0.5, "schedule": "pow2"}
    generators = [torch.Generator().manual_seed(seed) for seed in (1, 2)]
    seen = []
    together = edit(
        prompt=["a red car", "a dog"],
        generator=generators,
        num_images_per_prompt=2,
        output_type="pt",
        callback_on_step_end=lambda *arguments: seen.append(arguments),
        **options,
    )
    alone = [
        edit(prompt=text, seed=seed, num_images_per_prompt=2, **options)
        for seed, text in enumerate(["a red car", "a dog"], start=1)
    ]
    assert together.codes.equal(torch.cat([one.codes for one in alone]))
    assert together.images.shape[0] == 4
    assert together.forward_passes % 3 == 0
    assert [(step, left) for _, step, left, _ in seen] == [
        (step, together.forward_passes - 1 - step) for step in range(together.forward_passes)
    ]
    last = seen[-1][3]
    assert last["codes"].equal(together.codes)
    assert not last["masked"].any()
    assert last["grid"] == together.grid


@few
@given(seeds, st.integers(0, 15))
def test_images_of_a_batch_equal_single_ones(random_pipe: ShowoPipeline, seed: int, place: int) -> None:
    """Even if one image has known codes in a window where another has none, or finishes it earlier."""
    pictures, masks = random_codes(seed, 2, SIDE, 2 * SIDE), torch.zeros(2, SIDE, 2 * SIDE, dtype=torch.bool)
    masks[0, :, : SIDE // 2] = masks[1, :, -SIDE // 2 :] = True
    masks[0].view(-1)[place] = True
    prompts, options = ["a red car", "a dog"], {"num_inference_steps": 3, "early_exit": 0.6, "temperature": 1.0}
    generators = [torch.Generator().manual_seed(seed + one) for one in range(2)]
    together = random_pipe.inpaint(codes=pictures, mask=masks, prompt=prompts, generator=generators, **options)
    for one in range(2):
        alone = random_pipe.inpaint(
            codes=pictures[one : one + 1], mask=masks[one : one + 1], prompt=prompts[one], seed=seed + one, **options
        )
        assert grids(together)[one].equal(grids(alone)[0])


def test_images_masks_and_prompts_pair_up(random_pipe: ShowoPipeline, image: Image.Image, mask: Image.Image) -> None:
    turned = [image, image.rotate(90)]
    both = random_pipe.inpaint(turned, mask, ["a dog", "a car"], seed=0)
    assert len(both.images) == 2
    one = random_pipe.inpaint(image, mask, ["a dog", "a car", "a sea"], seed=0)
    assert len(one.images) == 3
    masks = random_pipe.inpaint(image, [mask, mask.rotate(180)], "a dog", seed=0)
    known = random_pipe.encode_image(image).reshape(SIDE, SIDE)
    assert grids(masks)[0, :, 2:].equal(known[:, 2:])
    assert grids(masks)[1, :, :2].equal(known[:, :2])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mask": None}, "mask is missing"),
        ({"mask": Image.new("L", (32, 33), 255)}, "mask is 32 x 33 pixels and the image 32 x 32: give a mask of the"),
        ({"mask": Image.new("L", (32, 32))}, "mask is empty, nothing would be drawn"),
        ({"mask": "nowhere.png"}, r"'nowhere\.png' does not exist"),
        ({"mask": torch.ones(1, 4, 5, dtype=torch.bool)}, "mask has 4 x 5 codes and the image 4 x 4"),
        ({"mask": torch.ones(4, 5, dtype=torch.bool)}, r"make no squares: give .* of one mask mask\[None\]"),
        ({"mask": torch.zeros(16)}, r"mask is a torch.float32 tensor of shape \(16,\): expected torch.bool"),
        ({"mask": [torch.ones(4, 4)]}, r"mask is a torch.float32 tensor: give torch\.bool"),
        ({"mask": [torch.ones(4, 4, dtype=torch.uint8)]}, r"mask is a torch.uint8 tensor: give torch\.bool"),
        ({"image": None}, "give either image or codes"),
        ({"codes": torch.zeros(16, dtype=torch.long)}, "give either image or codes"),
        ({"image": None, "codes": torch.zeros(16, dtype=torch.long)}, "mask is an image, but the image is given as"),
        ({"image": "nowhere.png"}, r"'nowhere\.png' does not exist"),
        ({"prompt": ""}, "prompt is empty"),
        ({"prompt": ["a", "b"], "image": ["x"] * 3}, "'x' does not exist"),
        ({"num_inference_steps": 17}, "num_inference_steps is 17: choose 1 to 16"),
        ({"output_type": "gif"}, "output_type is 'gif'"),
    ],
)
def test_invalid_inpainting_arguments_raise(
    random_pipe: ShowoPipeline, image: Image.Image, mask: Image.Image, options: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        random_pipe.inpaint(**{"image": image, "mask": mask, "prompt": "a dog", **options})


def test_invalid_editing_arguments_raise(random_pipe: ShowoPipeline, image: Image.Image) -> None:
    with pytest.raises(InputError, match="2 images and 3 prompts"):
        random_pipe.vary([image, image], ["a", "b", "c"])
    for direction, message in [("north", "direction is 'north': choose left"), ([], "direction is an empty list")]:
        with pytest.raises(InputError, match=message):
            random_pipe.extrapolate(image, "a dog", direction)
    with pytest.raises(InputError, match="offset is 2: choose -1 to 1"):
        random_pipe.extrapolate(image, "a dog", offset=2)
    with pytest.raises(InputError, match="3 codes along one side is too small: the model draws 4 x 4"):
        random_pipe.extrapolate(codes=torch.zeros(1, 3, 5, dtype=torch.long), prompt="a dog")
    for strength in (0, 1.5, True, "much"):
        with pytest.raises(InputError, match="strength is"):
            random_pipe.vary(image, "a dog", strength=strength)
    for size in ({"height": 31}, {"width": 36}, {"height": 16}, {"width": 64.0}):
        with pytest.raises(InputError, match="choose a multiple of 8 pixels, at least 32"):
            random_pipe.text_to_image("a dog", **size)
