"""The model of lmms-eval: tasks that generate answers to questions about images.

lmms-eval eval --model showo_turbo --model_args pretrained=tiny-turbo --tasks mme,pope --batch_size 16
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from lmms_eval.api.instance import GenerationResult, Instance, TokenCounts
from lmms_eval.api.model import lmms
from PIL import Image

from showo_turbo.errors import InputError
from showo_turbo.evaluation.framework_questions import FrameworkQuestion, answer_questions, cut_at
from showo_turbo.evaluation.item_store import Process
from showo_turbo.pipelines.pipeline import ShowoPipeline
from showo_turbo.validation import check_integer


class ShowoTurboModel(lmms):
    """Answer the questions of lmms-eval's tasks of type `generate_until`."""

    is_simple = True

    def __init__(
        self,
        pretrained: str = "clipart-turbo",
        device: str | None = None,
        dtype: str = "float32",
        quantization: str | None = None,
        shorten: bool = False,
        batch_size: int | str = 16,
        max_batch_size: int | None = None,
    ) -> None:
        """Load the model.

        Args:
            pretrained: a shipped model, a folder or a hub name.
            device: device of the model; one GPU for each process if there is one, if left out.
            dtype: dtype of the transformer.
            quantization: "int8", "float8", or none.
            shorten: cut the start of questions that are too long, rather than refuse them.
            batch_size: number of answers at a time; they do not depend on it.
            max_batch_size: not used; lmms-eval passes it to every model.

        Raises:
            InputError: if there is no such model, or a value is out of its range.
        """
        super().__init__()
        if not str(batch_size).isdecimal():
            raise InputError(f"batch_size is {batch_size!r}: choose a number")
        self.batch_size = int(batch_size)
        check_integer("batch_size", self.batch_size, 1)
        process = Process.from_environment()
        if device is None and torch.cuda.is_available():
            device = f"cuda:{process.local_index % torch.cuda.device_count()}"
        self.pipe = ShowoPipeline.from_pretrained(pretrained, device=device, dtype=dtype, quantization=quantization)
        self.shorten = shorten
        self._rank, self._world_size = process.index, process.count

    @property
    def device(self) -> torch.device:
        """Device of the model."""
        return self.pipe.device

    def generate_until(self, requests: Sequence[Instance]) -> list[GenerationResult]:
        """Answer questions, in their order.

        Raises:
            InputError: naming task and document of a question that is invalid.
        """
        questions = [self._question(*request.args) for request in requests]
        outputs = answer_questions(self.pipe, questions, self.batch_size, self.shorten)
        results = []
        for question, output in zip(questions, outputs, strict=True):
            stops = question.options.get("until") or []
            text = cut_at(output.texts[0], [stops] if isinstance(stops, str) else stops)
            results.append(GenerationResult(text, TokenCounts(output_tokens=len(output.token_ids[0]))))
            self.cache_hook.add_partial("generate_until", (question.text, dict(question.options)), text)
        return results

    def loglikelihood(self, requests: Sequence[Instance]) -> list[tuple[float, bool]]:
        """Refuse tasks that compare likelihoods.

        Raises:
            InputError: always.
        """
        raise InputError(f"task {requests[0].task_name!r} compares likelihoods: choose a task that generates answers")

    def generate_until_multi_round(self, requests: Sequence[Instance]) -> list[str]:
        """Refuse tasks of several rounds.

        Raises:
            InputError: always.
        """
        raise InputError(f"task {requests[0].task_name!r} has several rounds: choose a task of single questions")

    def _question(
        self, text: str, options: dict[str, Any], doc_to_visual: Any, doc_id: int, task: str, split: str
    ) -> FrameworkQuestion:
        return FrameworkQuestion(
            text,
            partial(self._images, doc_to_visual, task, split, doc_id),
            options,
            f"task {task!r}, document {doc_id}",
        )

    def _images(self, doc_to_visual: Any, task: str, split: str, doc_id: int) -> list[Image.Image]:
        """Return the images of a document.

        Raises:
            InputError: if it has a video or sound.
        """
        visuals = doc_to_visual(self.task_dict[task][split][doc_id]) or []
        for visual in visuals:
            if not isinstance(visual, Image.Image):
                raise InputError(f"document has a {type(visual).__name__} where the model reads images only")
        return visuals
