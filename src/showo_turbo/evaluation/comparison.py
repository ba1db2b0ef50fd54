"""Teacher and students side by side, as in the paper's two tables (arXiv 2502.05415, section 5).

    text to image    the teacher at two guidance strengths, the teacher with its last student's sampler, its students
    understanding    the teacher one id at a time and by blocks, its students by blocks

Every cell is measured with the same prompts and seeds, takes minutes, and is kept in a JSON file as soon as it is
there: a study that was interrupted goes on with the cells that are missing. `study_tables` and `study_chart`
show what came out.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from showo_turbo import __version__
from showo_turbo.checkpoints.loading import load_sampling_options, locate
from showo_turbo.errors import InputError
from showo_turbo.evaluation.scene_benchmark import evaluate_text_to_image, evaluate_understanding
from showo_turbo.evaluation.scene_questions import make_examination
from showo_turbo.evaluation.tables import prompts_sha256
from showo_turbo.files import read_json, write_json
from showo_turbo.generation.options import SamplingOptions
from showo_turbo.pipelines.image_to_text import DecodingOptions
from showo_turbo.pipelines.pipeline import ShowoPipeline
from showo_turbo.scenes.benchmark import ScenePrompt

PLAIN_JACOBI = DecodingOptions(sliding_window=False, drafts=False)
"""Block after block, as published: what the teacher's and the students' passes are compared under."""


@dataclass(frozen=True)
class Contestant:
    """A model as one column or row of a table.

    Attributes:
        title: what the tables call it.
        model: shipped model, folder or hub name.
        guidance_scale: for text to image.
        top_k: for text to image; what the model recommends if left out.
        sampled_as: the model whose recommended options are taken in text to image; its own if left out.
        decoding: for understanding.
    """

    title: str
    model: str
    guidance_scale: float = 0.0
    top_k: int | None = None
    sampled_as: str | None = None
    decoding: DecodingOptions = PLAIN_JACOBI


def drawing_contestants(
    teacher: str, students: Mapping[str, str], guidance_scales: Sequence[float], top_ks: Sequence[int | None]
) -> tuple[Contestant, ...]:
    """A teacher at guidance strengths, and students, models by title, with top-k strengths (None: recommended).

    At the last strength the teacher also draws as the last student does, for what is the sampler's merit.
    """
    guided = (Contestant(f"teacher, guidance {scale:g}", teacher, scale) for scale in guidance_scales)
    alike = (
        Contestant(
            f"teacher, guidance {guidance_scales[-1]:g}, {title}'s sampler",
            teacher,
            guidance_scales[-1],
            sampled_as=model,
        )
        for title, model in list(students.items())[-1:]
    )
    sampled = (
        Contestant(title if top_k is None else f"{title}, top-k {top_k}", model, top_k=top_k)
        for title, model in students.items()
        for top_k in top_ks
    )
    return *guided, *alike, *sampled


def answering_contestants(teacher: str, students: Mapping[str, str]) -> tuple[Contestant, ...]:
    """A teacher one id at a time and by blocks, students by blocks, the last also with all that saves passes."""
    return (
        Contestant("teacher, autoregressive", teacher, decoding=DecodingOptions(decoding="autoregressive")),
        Contestant("teacher, Jacobi", teacher),
        *(Contestant(f"{title}, Jacobi", model) for title, model in students.items()),
        *(
            Contestant(f"{title}, window and drafts", model, decoding=DecodingOptions())
            for title, model in list(students.items())[-1:]
        ),
    )


@dataclass(frozen=True)
class StudyPlan:
    """What is compared on what.

    Attributes:
        drawing: contestants in text to image.
        answering: contestants in understanding.
        steps: of text to image.
        prompts: for text to image.
        images_per_prompt: pictures of every prompt.
        scenes: pictures to ask about.
        seed: of pictures and questions.
        device: where models compute.
        dtype: what they are stored in.
    """

    drawing: tuple[Contestant, ...]
    answering: tuple[Contestant, ...]
    steps: tuple[int, ...]
    prompts: Sequence[ScenePrompt]
    images_per_prompt: int
    scenes: int
    seed: int
    device: str
    dtype: str

    def setting(self, **values: object) -> dict:
        """Everything that decides a cell: these values and what all cells have in common."""
        here = {"device": self.device, "dtype": self.dtype, "showo_turbo": __version__}
        return {**values, "seed": self.seed, **here}


class Cells:
    """Measured cells in a JSON file, by everything that decides them."""

    def __init__(self, path: Path) -> None:
        """Go on with a file, or begin one.

        Raises:
            InputError: when there is a file that holds something else.
        """
        self.path = path
        self.values: dict[str, dict] = read_json(path) if path.exists() else {}
        if foreign := [key for key in self.values if not key.startswith("{")]:
            raise InputError(f"{str(path)!r} is no file of a report (it holds {foreign[0]!r}): choose another one")

    def get(self, setting: dict, measure: Callable[[], dict]) -> dict:
        """A cell's value: the one that is kept, or else what `measure` gives."""
        key = json.dumps(setting, sort_keys=True)
        if key not in self.values:
            self.values[key] = measure()
            write_json(self.path, self.values)
        return self.values[key]


class Study:
    """The cells of a plan, each measured when it is first asked for."""

    def __init__(self, plan: StudyPlan, path: Path, load: Callable[[str], ShowoPipeline]) -> None:
        """Go on with what has been measured.

        Args:
            plan: what to compare.
            path: JSON file of the cells.
            load: a pipeline by the name of its model.

        Raises:
            InputError: when a contestant cannot draw so, or the file holds something else.
        """
        for one in plan.drawing:
            ids = locate(one.model).config
            for steps in plan.steps:
                _options(one, steps).scheduler(ids.codebook_size, ids.num_vq_tokens)
        self.plan = plan
        self._cells, self._load = Cells(path), load

    def drawn(self) -> dict[tuple[int, str], dict]:
        """Text to image: a `TextToImageResult` as a dict for every number of steps and contestant's title."""
        return {
            (steps, one.title): self._drawn(one, _options(one, steps))
            for one in self.plan.drawing
            for steps in self.plan.steps
        }

    def answered(self) -> dict[str, dict]:
        """Understanding: an `UnderstandingResult` as a dict for every contestant's title."""
        return {one.title: self._answered(one) for one in self.plan.answering}

    def _drawn(self, one: Contestant, options: SamplingOptions) -> dict:
        plan = self.plan
        setting = plan.setting(
            task="text to image",
            weights=locate(one.model).weights_sha256(),
            options=asdict(options),
            prompts=prompts_sha256(plan.prompts),
            images_per_prompt=plan.images_per_prompt,
        )

        def measure() -> dict:
            pipe = self._load(one.model)
            return asdict(evaluate_text_to_image(pipe, plan.prompts, options, plan.images_per_prompt, plan.seed))

        return self._cells.get(setting, measure)

    def _answered(self, one: Contestant) -> dict:
        plan = self.plan
        setting = plan.setting(
            task="understanding",
            weights=locate(one.model).weights_sha256(),
            options=asdict(one.decoding),
            scenes=plan.scenes,
        )

        def measure() -> dict:
            examination = make_examination(plan.scenes, plan.seed)
            return asdict(evaluate_understanding(self._load(one.model), examination, one.decoding, plan.seed))

        return self._cells.get(setting, measure)


def _options(one: Contestant, steps: int) -> SamplingOptions:
    """How a contestant draws in so many steps."""
    recommended = load_sampling_options(locate(one.sampled_as or one.model)).at(steps)
    return replace(recommended, guidance_scale=one.guidance_scale, top_k=one.top_k or recommended.top_k)
