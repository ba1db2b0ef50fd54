"""A custom pipeline of diffusers that hands its calls to `showo_turbo.ShowoPipeline`.

Decisions:
- There are no diffusers components: the weights stay in the checkpoint's own layout, and `model_index.json` names it.
- diffusers hands `dtype` to components only, so the precision of the weights has a name of its own, `precision`.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from diffusers import DiffusionPipeline
from diffusers.pipelines.pipeline_utils import ImagePipelineOutput

from showo_turbo import InputError, ShowoPipeline


class ShowoTurboPipeline(DiffusionPipeline):
    """Draw and edit images with Show-o Turbo; `pipe.showo` is the whole pipeline, which also answers questions.

    Example:
        >>> folder = "integrations/diffusers"
        >>> pipe = DiffusionPipeline.from_pretrained(folder, custom_pipeline=folder, trust_remote_code=True)
        >>> pipe("a red circle", generator=torch.Generator().manual_seed(0)).images[0]
    """

    def __init__(
        self,
        model: str = "tiny-turbo",
        revision: str | None = None,
        precision: str = "float32",
        quantization: str | None = None,
    ) -> None:
        """Load a checkpoint on the CPU; `to` moves it.

        Args:
            model: a shipped model, a folder, or a name on the Hugging Face hub.
            revision: branch, tag or commit on the hub.
            precision: dtype of the transformer: "float32", "bfloat16" or "float16".
            quantization: "int8", or None.

        Raises:
            InputError: if the checkpoint cannot be loaded, or an argument is invalid.
        """
        super().__init__()
        self.register_to_config(model=model, revision=revision, precision=precision, quantization=quantization)
        self.showo = ShowoPipeline.from_pretrained(
            model, device="cpu", dtype=precision, quantization=quantization, revision=revision
        )

    def to(self, *args: Any, **kwargs: Any) -> "ShowoTurboPipeline":
        """Move the weights to a device.

        Raises:
            InputError: if the device cannot be used, or another dtype is given.
        """
        device, dtype, *_ = torch._C._nn._parse_to(*args, **kwargs)
        if dtype not in (None, getattr(torch, self.config.precision)):
            name = str(dtype).removeprefix("torch.")
            raise InputError(f"dtype is {name}: give it when loading, from_pretrained(..., precision={name!r})")
        if device is not None:
            self.showo.to(device)
        return self

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.showo.device

    def __call__(
        self,
        prompt: str | Sequence[str] = "",
        image: Any = None,
        mask_image: Any = None,
        strength: float | None = None,
        *,
        num_images_per_prompt: int = 1,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callable[..., Any] | None = None,
        **options: Any,
    ) -> ImagePipelineOutput | tuple:
        """Draw images of prompts; with `mask_image`, redraw its white part of `image`; with `image` alone, vary it.

        Args:
            prompt: one text or several.
            image: images to edit.
            mask_image: masks of the images' size, white where to redraw.
            strength: fraction of the image that a variation redraws.
            num_images_per_prompt: images of every prompt.
            generator: a random generator, or one for each prompt.
            output_type: "pil", "np", "pt" or "latent".
            return_dict: return an `ImagePipelineOutput`, else a tuple.
            callback_on_step_end: called as by other pipelines, with this one, the step, the number of steps left and a
                dict of `codes`, `masked` and `grid`; `pipe._interrupt = True` stops after the step.
            **options: `height`, `width` and the sampling options of `showo_turbo`, such as `num_inference_steps` and
                `guidance_scale`. The latter is Show-o's: 0 is no guidance, and it is diffusers' scale minus 1. Those
                that are left out or None take the checkpoint's recommendation.

        Raises:
            InputError: if an argument is out of its range, before any forward pass.
        """

        def on_step_end(showo: ShowoPipeline, step: int, left: int, tensors: dict[str, Any]) -> None:
            self._interrupt = False
            callback_on_step_end(self, step, left, tensors)
            showo._interrupt = self._interrupt

        common = {
            "num_images_per_prompt": num_images_per_prompt,
            "generator": generator,
            "output_type": output_type,
            "callback_on_step_end": None if callback_on_step_end is None else on_step_end,
            **{name: value for name, value in options.items() if value is not None},
        }
        if strength is not None and (image is None or mask_image is not None):
            raise InputError("strength is for variations: give image without mask_image, or leave it out")
        if image is None:
            if mask_image is not None:
                raise InputError("mask_image is given without image: give both")
            output = self.showo.text_to_image(prompt, **common)
        elif mask_image is not None:
            output = self.showo.inpaint(image, mask_image, prompt, **common)
        else:
            chosen = {} if strength is None else {"strength": strength}
            output = self.showo.vary(image, prompt, **chosen, **common)
        return ImagePipelineOutput(images=output.images) if return_dict else (output.images,)
