"""Start states of rollouts with a known part, and the trajectories from them."""

import random
from pathlib import Path

import pytest
import torch

from showo_turbo.data import CaptionSample
from showo_turbo.distillation import trajectory_files
from showo_turbo.distillation.loss_terms import ImageTerm
from showo_turbo.distillation.objectives import SampledStates, image_consistency
from showo_turbo.distillation.rollouts import roll_out_images
from showo_turbo.distillation.start_states import start_states
from showo_turbo.errors import InputError
from showo_turbo.pipelines.pipeline import ShowoPipeline

CAPTION = "a red circle"
TERM = ImageTerm(num_inference_steps=4, guidance_scale=1.0)


@pytest.fixture
def samples(random_pipe: ShowoPipeline) -> list[CaptionSample]:
    """Return captions with random codes as images."""
    config = random_pipe.model.config
    codes = torch.randint(config.codebook_size, (16, config.num_vq_tokens), generator=torch.Generator().manual_seed(0))
    return [CaptionSample(f"sample {row}", CAPTION, codes[row]) for row in range(len(codes))]


@pytest.mark.parametrize(("share", "rows"), [(0.0, range(1)), (0.5, range(4, 13)), (1.0, range(16, 17))])
def test_a_share_of_the_starts_knows_a_part_of_the_image(
    random_pipe: ShowoPipeline, samples: list[CaptionSample], share: float, rows: range
) -> None:
    start = start_states(random_pipe, samples, share, random.Random(0))
    assert int(start.settled.any(1).sum()) in rows
    codes = torch.stack([sample.image for sample in samples]) + random_pipe.prompts.vocabulary.image_offset
    assert start.ids[start.settled].equal(codes[start.settled])
    assert (start.ids[~start.settled] == random_pipe.prompts.vocabulary.mask_id).all()


def test_captions_without_images_are_refused(random_pipe: ShowoPipeline) -> None:
    with pytest.raises(InputError, match=r"captions\.json 7 has no image, and image\.known_share is 1\.0"):
        start_states(random_pipe, [CaptionSample("captions.json 7", CAPTION)], 1.0, random.Random(0))


def test_a_rollout_is_an_inpainting_by_the_teacher(random_pipe: ShowoPipeline, samples: list[CaptionSample]) -> None:
    start = start_states(random_pipe, samples, 1.0, random.Random(1))
    found = roll_out_images(random_pipe, [CAPTION] * len(samples), TERM, start=start)
    for sample, codes, known in zip(samples, found.codes, start.settled, strict=True):
        grid = random_pipe.grid_size
        expected = random_pipe.inpaint(
            mask=(~known).view(grid, grid)[None],
            prompt=CAPTION,
            codes=sample.image[None],
            num_inference_steps=4,
            guidance_scale=1.0,
            top_k=1,
            temperature=0.0,
            output_type="latent",
        )
        assert codes.equal(expected.codes.flatten())


def test_known_codes_are_settled_in_every_state_and_have_no_loss(
    random_pipe: ShowoPipeline, samples: list[CaptionSample], tmp_path: Path
) -> None:
    start = start_states(random_pipe, samples, 1.0, random.Random(2))
    trajectories = roll_out_images(random_pipe, [CAPTION] * len(samples), TERM, start=start)
    first, last = torch.zeros(len(samples), dtype=torch.long), torch.full((len(samples),), 4)
    assert trajectories.settled(first).equal(start.settled)
    assert trajectories.settled(last).all()

    trajectory_files.write_images(tmp_path / "image-00000.safetensors", trajectories)
    read = trajectory_files.read_images(tmp_path / "image-00000.safetensors", random_pipe.model.config)
    assert read.unmask_steps.equal(trajectories.unmask_steps)

    with torch.no_grad():
        model, vocabulary = random_pipe.model, random_pipe.prompts.vocabulary
        samples_of_steps = SampledStates(trajectories, first, last, torch.zeros(len(samples)))
        loss = image_consistency(model, model, samples_of_steps, vocabulary)
        trajectories.labels[4].codes[start.settled] += 1
        changed = image_consistency(model, model, samples_of_steps, vocabulary)
    assert loss == changed
