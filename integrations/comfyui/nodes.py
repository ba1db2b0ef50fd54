"""The nodes: draw, edit, ask. Each sends one request per image to a Showo Turbo server."""

import base64
import json
from typing import Any

import torch

from .client import Server, ServerError
from .tensors import image_to_png, images_from_base64, mask_to_png

CATEGORY = "Showo Turbo"
MAX_SEED = 2**32 - 1

_PROMPT = ("STRING", {"multiline": True, "default": "a red circle"})
_SEED = ("INT", {"default": 0, "min": 0, "max": MAX_SEED, "control_after_generate": True})
_STEPS = (
    "INT",
    {"default": 0, "min": 0, "max": 1024, "tooltip": "Forward passes of the transformer; 0: the model's own number."},
)
_NUM_IMAGES = ("INT", {"default": 1, "min": 1, "max": 10, "tooltip": "Images of the prompt."})
_SERVER: dict[str, Any] = {
    "model": ("STRING", {"default": "", "tooltip": "Name of a model; empty: the first one of the server."}),
    "server": ("STRING", {"default": "", "tooltip": "Address; empty: SHOWO_TURBO_URL or http://127.0.0.1:8000."}),
    "api_key": (
        "STRING",
        {"default": "", "tooltip": "Stored in workflows and images! Empty: SHOWO_TURBO_API_KEY of the environment."},
    ),
    "options": (
        "STRING",
        {"default": "", "tooltip": 'Further fields of the request as JSON, such as {"top_k": 8, "order": "halton"}.'},
    ),
}


class ShowoTurboDraw:
    """Draw images of a prompt."""

    DESCRIPTION = "Draws images of a prompt on a Showo Turbo server."
    CATEGORY = CATEGORY
    FUNCTION = "draw"
    RETURN_TYPES = ("IMAGE",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802
        """Return the inputs."""
        side = {"default": 0, "min": 0, "max": 8192, "tooltip": "In pixels; 0: the model's own size."}
        required = {"prompt": _PROMPT, "seed": _SEED, "steps": _STEPS, "num_images": _NUM_IMAGES}
        return {"required": required, "optional": {"width": ("INT", side), "height": ("INT", side), **_SERVER}}

    def draw(
        self,
        prompt: str,
        seed: int,
        steps: int,
        num_images: int,
        width: int = 0,
        height: int = 0,
        model: str = "",
        server: str = "",
        api_key: str = "",
        options: str = "",
    ) -> tuple[torch.Tensor]:
        """Return the images.

        Raises:
            ServerError: if one of width and height is given, or the server cannot answer.
        """
        if (width == 0) != (height == 0):
            raise ServerError(f"width is {width} and height is {height}: give both, or 0 for both")
        size = {"size": f"{width}x{height}"} if width else {}
        body = _drawing_fields(prompt, seed, steps, num_images, model) | size | _further_fields(options)
        answer = Server.find(server, api_key).post_json("/v1/images/generations", body)
        return (_images_of(answer),)


class ShowoTurboEdit:
    """Redraw the masked part of images, or vary them as a whole."""

    DESCRIPTION = "Redraws the white part of the mask. Without a mask, varies the image by `strength`."
    CATEGORY = CATEGORY
    FUNCTION = "edit"
    RETURN_TYPES = ("IMAGE",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802
        """Return the inputs."""
        strength = {"default": 0.6, "min": 0.05, "max": 1.0, "step": 0.05, "tooltip": "Of a variation, without a mask."}
        required = {"image": ("IMAGE",), "prompt": _PROMPT, "seed": _SEED, "steps": _STEPS, "num_images": _NUM_IMAGES}
        optional = {"mask": ("MASK",), "strength": ("FLOAT", strength), **_SERVER}
        return {"required": required, "optional": optional}

    def edit(
        self,
        image: torch.Tensor,
        prompt: str,
        seed: int,
        steps: int,
        num_images: int,
        mask: torch.Tensor | None = None,
        strength: float = 0.6,
        model: str = "",
        server: str = "",
        api_key: str = "",
        options: str = "",
    ) -> tuple[torch.Tensor]:
        """Return the edited images, `num_images` for each image, in the model's size.

        Raises:
            ServerError: if image and mask differ in number, or the server cannot answer.
        """
        fields = _drawing_fields(prompt, seed, steps, num_images, model) | _further_fields(options)
        if mask is None and "direction" not in fields:
            fields = {"strength": strength} | fields
        masks: list[torch.Tensor | None] = [None] * len(image) if mask is None else _one_for_each(mask, len(image))
        found, edited = Server.find(server, api_key), []
        for one, its_mask in zip(image, masks, strict=True):
            files = {"image": image_to_png(one)}
            if its_mask is not None:
                files["mask"] = mask_to_png(its_mask, (one.shape[1], one.shape[0]))
            edited.append(_images_of(found.post_form("/v1/images/edits", fields, files)))
        return (torch.cat(edited),)


class ShowoTurboAsk:
    """Answer a question about images."""

    DESCRIPTION = "Answers a question about each image."
    CATEGORY = CATEGORY
    FUNCTION = "ask"
    RETURN_TYPES = ("STRING",)
    RETURN_NAMES = ("answer",)
    OUTPUT_IS_LIST = (True,)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802
        """Return the inputs."""
        question = {"multiline": True, "default": "What is in the image?"}
        length = {"default": 64, "min": 1, "max": 4096, "tooltip": "Length of the longest answer in tokens."}
        required = {"image": ("IMAGE",), "question": ("STRING", question), "max_tokens": ("INT", length)}
        return {"required": required, "optional": {**_SERVER}}

    def ask(
        self,
        image: torch.Tensor,
        question: str,
        max_tokens: int,
        model: str = "",
        server: str = "",
        api_key: str = "",
        options: str = "",
    ) -> tuple[list[str]]:
        """Return an answer for each image.

        Raises:
            ServerError: if the server cannot answer.
        """
        found, answers = Server.find(server, api_key), []
        for one in image:
            url = "data:image/png;base64," + base64.b64encode(image_to_png(one)).decode()
            content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": question}]
            body: dict[str, Any] = {"messages": [{"role": "user", "content": content}], "max_tokens": max_tokens}
            body |= _model_field(model) | _further_fields(options)
            answers.append(found.post_json("/v1/chat/completions", body)["choices"][0]["message"]["content"])
        return (answers,)


def _drawing_fields(prompt: str, seed: int, steps: int, num_images: int, model: str) -> dict[str, Any]:
    own = {"num_inference_steps": steps} if steps else {}
    return {"prompt": prompt, "seed": seed, "n": num_images} | own | _model_field(model)


def _model_field(model: str) -> dict[str, str]:
    return {"model": model.strip()} if model.strip() else {}


def _further_fields(options: str) -> dict[str, Any]:
    """Return the fields of the `options` input.

    Raises:
        ServerError: if it is no JSON object, or has a field that changes the form of the answer.
    """
    try:
        fields = json.loads(options) if options.strip() else {}
    except ValueError:
        fields = None
    if not isinstance(fields, dict):
        raise ServerError(f'options is {options[:60]!r}: give a JSON object such as {{"top_k": 8}}')
    if fields.get("stream"):
        raise ServerError("options has stream: leave it out, the node waits for the whole answer")
    return fields


def _one_for_each(masks: torch.Tensor, count: int) -> list[torch.Tensor]:
    """Return a mask for each of `count` images; a single mask is for all.

    Raises:
        ServerError: if there are several masks, and not as many as images.
    """
    masks = masks[None] if masks.ndim == 2 else masks
    if len(masks) not in (1, count):
        raise ServerError(f"there are {len(masks)} masks and {count} images: give one mask, or one for each image")
    return list(masks) * (count if len(masks) == 1 else 1)


def _images_of(answer: dict[str, Any]) -> torch.Tensor:
    return images_from_base64([one["b64_json"] for one in answer["data"]])
