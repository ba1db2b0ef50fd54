"""The model of VLMEvalKit, by `register_models` in its table of models and among its classes."""

from functools import partial
from typing import Any

import vlmeval.vlm
from PIL import Image
from vlmeval.config import supported_VLM
from vlmeval.vlm.base import BaseModel

from showo_turbo.checkpoints.names import SHIPPED_MODELS
from showo_turbo.evaluation.framework_questions import FrameworkQuestion, answer_questions
from showo_turbo.pipelines.pipeline import ShowoPipeline


class ShowoTurbo(BaseModel):
    """Answer the messages of VLMEvalKit's image data sets, with the prompts that the data sets build."""

    INSTALL_REQ = False
    INTERLEAVE = False
    allowed_types = ("text", "image")

    def __init__(
        self,
        model_path: str = "clipart-turbo",
        device: str | None = None,
        dtype: str = "float32",
        quantization: str | None = None,
        shorten: bool = False,
        **options: Any,
    ) -> None:
        """Load the model.

        Args:
            model_path: a shipped model, a folder or a hub name.
            device: device of the model; a GPU if there is one, if left out.
            dtype: dtype of the transformer.
            quantization: "int8", "float8", or none.
            shorten: cut the start of questions that are too long, rather than refuse them.
            **options: options of generation by transformers' names, such as `max_new_tokens`.

        Raises:
            InputError: if there is no such model, or a value is out of its range.
        """
        super().__init__()
        self.pipe = ShowoPipeline.from_pretrained(model_path, device=device, dtype=dtype, quantization=quantization)
        self.shorten, self.options = shorten, options

    def generate_inner(self, message: list[dict[str, str]], dataset: str | None = None) -> str:
        """Answer a message: parts of `type` "image" with a path as `value`, and of type "text".

        Raises:
            InputError: if the question is invalid, or there is no image.
        """
        text = "\n".join(part["value"] for part in message if part["type"] == "text")
        paths = [part["value"] for part in message if part["type"] == "image"]
        question = FrameworkQuestion(
            text, lambda: [Image.open(path) for path in paths], self.options, f"data set {dataset!r}, image {paths[:1]}"
        )
        (output,) = answer_questions(self.pipe, [question], 1, self.shorten)
        return output.texts[0]


def register_models() -> None:
    """Add the class to VLMEvalKit's classes, and the shipped models to its table of models."""
    vlmeval.vlm.ShowoTurbo = ShowoTurbo
    supported_VLM.update({name: partial(ShowoTurbo, model_path=name) for name in SHIPPED_MODELS})
