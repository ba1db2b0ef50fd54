"""Compare a teacher and its students, as in the paper's two tables (arXiv 2502.05415, section 5).

    text to image    the teacher at two guidance scales, the teacher with its last student's sampler, its students
    understanding    the teacher autoregressively and by Jacobi decoding, its students by Jacobi decoding

Every cell of a table is measured with the same prompts and seeds, takes minutes, and is stored in a JSON file at once:
an interrupted comparison resumes with the cells that are missing. `comparison_tables` and `comparison_chart` present
the results.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path

from showo_turbo import __version__
from showo_turbo.checkpoints.loading import load_sampling_options, locate
from showo_turbo.errors import InputError
from showo_turbo.evaluation.scene_benchmark import (
    TextToImageResult,
    UnderstandingResult,
    evaluate_text_to_image,
    evaluate_understanding,
)
from showo_turbo.evaluation.scene_questions import make_question_set
from showo_turbo.evaluation.tables import prompts_sha256
from showo_turbo.files import read_json, write_json
from showo_turbo.generation.options import DecodingOptions, SamplingOptions
from showo_turbo.generation.scheduler import UnmaskingScheduler
from showo_turbo.pipelines.pipeline import ShowoPipeline
from showo_turbo.scenes.benchmark import ScenePrompt
from showo_turbo.scenes.shapes.shape_world import SHAPES
from showo_turbo.scenes.world import World

PLAIN_JACOBI = DecodingOptions(sliding_window=False, drafts=False)
"""Block after block, as published: the decoding under which forward passes of teacher and students are compared."""


@dataclass(frozen=True)
class Variant:
    """Configure a model as one column or row of a table.

    Attributes:
        title: name in the tables.
        model: shipped model, folder or hub name.
        guidance_scale: for text to image.
        top_k: for text to image; the model's recommendation if left out.
        sampled_as: the model whose recommended options are used in text to image; its own if left out.
        decoding: for understanding.
    """

    title: str
    model: str
    guidance_scale: float = 0.0
    top_k: int | None = None
    sampled_as: str | None = None
    decoding: DecodingOptions = PLAIN_JACOBI

    def sampling_options(self, steps: int) -> SamplingOptions:
        """Return the options of text to image in a number of steps."""
        recommended = load_sampling_options(locate(self.sampled_as or self.model)).with_steps(steps)
        return replace(recommended, guidance_scale=self.guidance_scale, top_k=self.top_k or recommended.top_k)


def image_variants(
    teacher: str, students: Mapping[str, str], guidance_scales: Sequence[float], top_ks: Sequence[int | None]
) -> tuple[Variant, ...]:
    """Return the variants of text to image.

    At the last guidance scale the teacher also has the sampling options of the last student, unless they are its own,
    which tells the effect of the sampler from that of distillation.

    Args:
        teacher: the teacher.
        students: models by title.
        guidance_scales: of the teacher.
        top_ks: of the students; None is the recommendation.
    """
    guided = [Variant(f"teacher, guidance {scale:g}", teacher, scale) for scale in guidance_scales]
    as_students = [
        replace(guided[-1], title=f"{guided[-1].title}, {title}'s sampler", sampled_as=model)
        for title, model in list(students.items())[-1:]
    ]
    return (
        *guided,
        *(one for one in as_students if one.sampling_options(1) != guided[-1].sampling_options(1)),
        *(
            Variant(title if top_k is None else f"{title}, top-k {top_k}", model, top_k=top_k)
            for title, model in students.items()
            for top_k in top_ks
        ),
    )


def text_variants(teacher: str, students: Mapping[str, str]) -> tuple[Variant, ...]:
    """Return the variants of understanding; the last student also decodes with sliding window and drafts."""
    return (
        Variant("teacher, autoregressive", teacher, decoding=DecodingOptions(decoding="autoregressive")),
        Variant("teacher, Jacobi", teacher),
        *(Variant(f"{title}, Jacobi", model) for title, model in students.items()),
        *(
            Variant(f"{title}, window and drafts", model, decoding=DecodingOptions())
            for title, model in list(students.items())[-1:]
        ),
    )


@dataclass(frozen=True)
class ComparisonPlan:
    """Configure a comparison.

    Attributes:
        image_variants: compared in text to image.
        text_variants: compared in understanding.
        steps: numbers of steps of text to image.
        prompts: of text to image.
        images_per_prompt: images of every prompt.
        scenes: number of scenes with questions.
        seed: of images and questions.
        device: type of the device.
        dtype: name of the models' dtype.
        world: the world of the prompts and scenes; the weights of a cell imply it.
    """

    image_variants: tuple[Variant, ...]
    text_variants: tuple[Variant, ...]
    steps: tuple[int, ...]
    prompts: Sequence[ScenePrompt]
    images_per_prompt: int
    scenes: int
    seed: int
    device: str
    dtype: str
    world: World = SHAPES


class Comparison:
    """Measure the cells of a plan, each once, and store them in a JSON file by everything they depend on."""

    def __init__(self, plan: ComparisonPlan, path: Path, load: Callable[[str], ShowoPipeline]) -> None:
        """Resume from a file of cells, or start one.

        Args:
            plan: what to compare.
            path: JSON file of the cells.
            load: returns a pipeline by the name of its model.

        Raises:
            InputError: if a variant has invalid sampling options, or the file holds something else.
        """
        for variant in plan.image_variants:
            config = locate(variant.model).config
            for steps in plan.steps:
                UnmaskingScheduler.from_options(
                    variant.sampling_options(steps), config.codebook_size, config.num_vq_tokens
                )
        self.plan, self.path = plan, path
        self._load = load
        self._weights_sha256 = cache(lambda model: locate(model).weights_sha256())
        self._cells: dict[str, dict] = read_json(path) if path.exists() else {}
        if foreign := [key for key in self._cells if not key.startswith("{")]:
            raise InputError(f"{str(path)!r} is not a comparison file (it holds {foreign[0]!r}): choose another one")

    def image_scores(self) -> dict[tuple[int, str], dict]:
        """Return a `TextToImageResult` as a dict for every number of steps and title of a variant."""
        return {
            (steps, variant.title): self._image_score(variant, variant.sampling_options(steps))
            for variant in self.plan.image_variants
            for steps in self.plan.steps
        }

    def text_scores(self) -> dict[str, dict]:
        """Return an `UnderstandingResult` as a dict for every title of a variant."""
        return {variant.title: self._text_score(variant) for variant in self.plan.text_variants}

    def _image_score(self, variant: Variant, options: SamplingOptions) -> dict:
        plan = self.plan
        return self._cell(
            lambda: evaluate_text_to_image(
                self._load(variant.model), plan.prompts, options, plan.images_per_prompt, plan.seed, plan.world
            ),
            task="text to image",
            weights=self._weights_sha256(variant.model),
            options=asdict(options),
            prompts=prompts_sha256(plan.prompts),
            images_per_prompt=plan.images_per_prompt,
        )

    def _text_score(self, variant: Variant) -> dict:
        plan = self.plan
        return self._cell(
            lambda: evaluate_understanding(
                self._load(variant.model),
                make_question_set(plan.scenes, plan.seed, plan.world),
                variant.decoding,
                plan.seed,
            ),
            task="understanding",
            weights=self._weights_sha256(variant.model),
            options=asdict(variant.decoding),
            scenes=plan.scenes,
        )

    def _cell(self, measure: Callable[[], TextToImageResult | UnderstandingResult], **settings: object) -> dict:
        """Return the stored result for these settings, or measure and store it."""
        plan = self.plan
        shared = {"seed": plan.seed, "device": plan.device, "dtype": plan.dtype, "showo_turbo": __version__}
        key = json.dumps({**settings, **shared}, sort_keys=True)
        if key not in self._cells:
            self._cells[key] = asdict(measure())
            write_json(self.path, self._cells)
        return self._cells[key]
