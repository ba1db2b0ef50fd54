"""Distribution matching: train a student to draw images as often as its teacher would (after Di[M]O).

    prompts --student, a few steps--> images --some codes masked again--+--teacher, guided--> p
                                                                        +--score------------> q
    logits of the student's last step  += learning rate * (p - q)

Codes that are settled in one step do not see each other. The consistency loss asks for the mean of all images that the
teacher may end at, so these codes may belong to different ones. Here each image is judged as a whole.

The score is a copy of the teacher that learns the distribution of the student's images, on the same masked images
(Di[M]O, arXiv 2503.15457, section 3). q - p is the gradient of KL(p || q) with respect to the logits of the score. It
is applied to the student's logits, from which the codes were drawn.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from showo_turbo.distillation.image_trajectories import ImageTrajectories
from showo_turbo.distillation.losses import cross_entropy
from showo_turbo.distillation.objectives import code_logits
from showo_turbo.generation.image_denoiser import ImageDenoiser
from showo_turbo.generation.options import SamplingOptions
from showo_turbo.generation.scheduler import UnmaskingScheduler, highest
from showo_turbo.generation.trajectory import State
from showo_turbo.models.showo import Showo
from showo_turbo.pipelines.pipeline import ShowoPipeline
from showo_turbo.vocabulary import Vocabulary


class StudentAndScore(nn.Module):
    """Hold a student and its score, which are trained together."""

    def __init__(self, student: Showo, score: Showo) -> None:
        super().__init__()
        self.student, self.score = student, score


@dataclass(frozen=True)
class RemaskedImages:
    """Hold images of a student, of which some codes that its last step settled are masked again.

    Attributes:
        prompts: id lists, one per image.
        openings: long (batch, 1), the token ids that open the student's images.
        before_last_step: long (batch, n), token ids that the last step saw.
        codes: long (batch, n), the finished images.
        remasked: bool (batch, n), the positions that are masked again.
        teacher: float32 (count, codebook_size), the teacher's probabilities at these positions.
    """

    prompts: Sequence[Sequence[int]]
    openings: Tensor
    before_last_step: Tensor
    codes: Tensor
    remasked: Tensor
    teacher: Tensor


@torch.no_grad()
def draw_images(
    teacher: ShowoPipeline,
    student: Showo,
    rollouts: ImageTrajectories,
    sampling: SamplingOptions,
    guidance_scale: float,
    rng: random.Random,
) -> RemaskedImages:
    """Draw images with the student, mask some of their codes again, and let the teacher predict these.

    Args:
        teacher: the teacher.
        student: the student.
        rollouts: their prompts and first states, of which some may be partly known, are those of the images.
        sampling: sampling options of the student.
        guidance_scale: of the teacher, see `SamplingOptions`.
        rng: source of the latents, the codes and the masks.
    """
    prompts, vocabulary, device = teacher.prompts, teacher.prompts.vocabulary, student.device
    generator = torch.Generator().manual_seed(rng.getrandbits(48))
    rows, first = rollouts.prompts, torch.zeros(len(rollouts.prompts), dtype=torch.long, device=rollouts.codes.device)
    start = State(rollouts.image_ids(first, vocabulary).cpu(), rollouts.settled(first).cpu())
    num_codes = start.ids.shape[1]
    scheduler = UnmaskingScheduler.from_options(sampling, vocabulary.codebook_size, num_codes)
    denoiser = ImageDenoiser(student, vocabulary, scheduler, rows, num_codes, generator=generator)
    *_, last, image = denoiser.run(start)
    remasked = remask(~last.settled, generator)
    guided = ImageDenoiser(
        teacher.model,
        vocabulary,
        scheduler,
        rows,
        num_codes,
        prompts.unconditional(),
        guidance_scale,
        openings=[vocabulary.soi_id] * len(rows),
    )
    probabilities = guided.masked_logits(State(image.ids, ~remasked)).softmax(-1)
    before = last.mask_unsettled(vocabulary.mask_id).to(device)
    codes = vocabulary.ids_to_codes(image.ids).to(device)
    return RemaskedImages(rows, denoiser.openings.to(device), before, codes, remasked.to(device), probabilities)


def remask(settled_last: Tensor, generator: torch.Generator) -> Tensor:
    """Choose a random share of each image's positions to mask again, of those that its last step settled.

    Args:
        settled_last: bool (batch, n).
        generator: source of the shares, uniform in (0, 1], and of the positions.

    Returns:
        bool (batch, n); at least one position in every image of which the last step settled some.
    """
    shares = 1 - torch.rand(len(settled_last), 1, generator=generator)
    counts = (shares * settled_last.sum(1, keepdim=True)).ceil()
    return highest(-torch.rand(settled_last.shape, generator=generator), settled_last, counts)


def distribution_matching(
    model: StudentAndScore, images: RemaskedImages, vocabulary: Vocabulary
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the losses of student and score on the same images.

    Returns:
        a scalar whose gradient with respect to the student's logits is q - p, averaged over the positions; the cross
        entropy of the score; and the mean total variation between q and p.
    """
    remasked = images.remasked
    ids = torch.where(remasked, vocabulary.mask_id, vocabulary.codes_to_ids(images.codes))
    score = code_logits(model.score, images.prompts, ids, remasked, vocabulary)
    gap = score.detach().softmax(-1) - images.teacher
    before, openings = images.before_last_step, images.openings
    student = code_logits(model.student, images.prompts, before, remasked, vocabulary, openings)
    count = max(len(gap), 1)
    return (student * gap).sum() / count, cross_entropy(score, images.codes[remasked]), gap.abs().sum() / (2 * count)
