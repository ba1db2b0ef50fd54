"""Facts about the published checkpoints that their files do not hold.

Their `config.json` names neither image tokenizer nor sampling options, and the published code takes the resolution
from a separate YAML file. The options are those of the published commands and tables (Show-o, arXiv 2408.12528; Show-o
Turbo, arXiv 2502.05415, section 5; UniCMs is its later name).
"""

from dataclasses import dataclass, replace
from typing import Self

from showo_turbo.checkpoints.names import without_revision
from showo_turbo.generation.options import SamplingOptions


@dataclass(frozen=True)
class PublishedCheckpoint:
    """Describe one published checkpoint.

    Attributes:
        name: hub name.
        resolution: side of its images in pixels.
        num_vq_tokens: codes of one image.
        sampling: sampling options of its authors; `SamplingOptions.with_steps` adapts them to another number of steps.
        text_tokenizer: hub name of text tokenizer and Phi config.
        image_tokenizer: hub name of the image tokenizer.
        vision_tower: hub name of the CLIP vision tower, used if the checkpoint's config sets `w_clip_vit`.
    """

    name: str
    resolution: int
    num_vq_tokens: int
    sampling: SamplingOptions
    text_tokenizer: str = "microsoft/phi-1_5"
    image_tokenizer: str = "showlab/magvitv2"
    vision_tower: str = "openai/clip-vit-large-patch14-336"


@dataclass(frozen=True)
class StudentSampling(SamplingOptions):
    """Hold the sampling options of Show-o Turbo's authors: top-k sampling up to 4 steps, no top-k from 5 steps on."""

    def with_steps(self, num_inference_steps: int | None) -> Self:
        """Return a copy with another number of steps, and the top-k for it."""
        options = super().with_steps(num_inference_steps)
        if num_inference_steps is None or 2 < num_inference_steps <= 4:
            return options
        return replace(options, top_k=200 if num_inference_steps <= 2 else None)


_TEACHER = SamplingOptions(num_inference_steps=50, guidance_scale=5.0)
_STUDENT_256 = StudentSampling(num_inference_steps=4, guidance_scale=0.0, top_k=200)
_STUDENT_512 = StudentSampling(num_inference_steps=4, guidance_scale=0.0, top_k=500)

PUBLISHED = {
    checkpoint.name: checkpoint
    for checkpoint in (
        PublishedCheckpoint("showlab/show-o", 256, 256, _TEACHER),
        PublishedCheckpoint("showlab/show-o-512x512", 512, 1024, _TEACHER),
        PublishedCheckpoint("showlab/show-o-512x512-wo-llava-tuning", 512, 1024, _TEACHER),
        PublishedCheckpoint("showlab/show-o-w-clip-vit", 256, 256, _TEACHER),
        PublishedCheckpoint("showlab/show-o-w-clip-vit-512x512", 512, 1024, _TEACHER),
        PublishedCheckpoint("SJTU-Deng-Lab/Show-o-Turbo-256", 256, 256, _STUDENT_256),
        PublishedCheckpoint("SJTU-Deng-Lab/Show-o-Turbo-512", 512, 1024, _STUDENT_512),
        PublishedCheckpoint("SJTU-Deng-Lab/UniCMs-256", 256, 256, _STUDENT_256),
        PublishedCheckpoint("SJTU-Deng-Lab/UniCMs-512", 512, 1024, _STUDENT_512),
    )
}
"""Published checkpoints by hub name."""


def published_checkpoint(name: object) -> PublishedCheckpoint | None:
    """Return the published checkpoint of a hub name (case-insensitive, any revision), or None if there is none."""
    repository = without_revision(name).lower()
    return next((one for hub_name, one in PUBLISHED.items() if hub_name.lower() == repository), None)
