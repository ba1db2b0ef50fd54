"""The library's front door: one object that draws and answers."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import isqrt
from pathlib import Path
from typing import Any, Literal, Self

import torch
from torch import Tensor

from showo_turbo import image_to_text as answering
from showo_turbo import text_to_image as drawing
from showo_turbo.checkpoints import loading
from showo_turbo.checkpoints.image_tokenizer import load_image_tokenizer
from showo_turbo.checkpoints.saving import save_checkpoint
from showo_turbo.errors import InputError
from showo_turbo.generation.options import SamplingOptions
from showo_turbo.generation.scheduler import Generators
from showo_turbo.generation.trajectory import State
from showo_turbo.image_to_text import DecodingOptions, Streamer
from showo_turbo.models.magvit_v2 import MagvitV2
from showo_turbo.models.showo import Showo
from showo_turbo.outputs import ImageOutput, Images, TextOutput
from showo_turbo.placement import parse_device, parse_dtype
from showo_turbo.processing.images import ImageSource, preprocess_images
from showo_turbo.processing.prompts import PromptBuilder

StepCallback = Callable[["ShowoPipeline", int, int, dict[str, Any]], object]
"""`callback(pipe, step, timestep, callback_kwargs)`; see `ShowoPipeline.text_to_image`."""


class ShowoPipeline:
    """Show-o and Show-o Turbo: text to image and image to text with one transformer.

    Example:
        >>> pipe = ShowoPipeline.from_pretrained("tiny")
        >>> image = pipe.text_to_image("a red circle and a blue star", seed=0).images[0]
        >>> pipe.image_to_text(image, "How many stars are there?").texts
        ['one']
    """

    def __init__(
        self,
        model: Showo,
        prompts: PromptBuilder,
        image_tokenizer: MagvitV2 | None = None,
        recommended: SamplingOptions | None = None,
    ) -> None:
        """Put the parts together; `from_pretrained` loads them.

        Args:
            model: the transformer.
            prompts: the text side, for the same vocabulary.
            image_tokenizer: the pixel side; without it the pipeline works on codes.
            recommended: what `text_to_image` uses for options that are left out.

        Raises:
            InputError: when the image tokenizer has another codebook than the transformer.
        """
        if image_tokenizer is not None and image_tokenizer.config.codebook_size != model.config.codebook_size:
            raise InputError(
                f"image tokenizer has {image_tokenizer.config.codebook_size} codes, the transformer "
                f"{model.config.codebook_size}: they do not belong together"
            )
        self.model, self.prompts, self.image_tokenizer = model, prompts, image_tokenizer
        self.recommended = recommended or SamplingOptions()

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path,
        *,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype = "float32",
        image_tokenizer: str | Path | None = None,
        text_tokenizer: str | Path | None = None,
    ) -> Self:
        """Load a checkpoint.

        Args:
            name_or_path: a shipped model ("tiny"), a local folder, or a name on the Hugging Face hub.
            device: where to compute; the graphics processor if there is one, else the CPU, if left out.
            dtype: precision of the transformer: "float32", "bfloat16" or "float16". The image tokenizer stays in
                float32, since its codes are signs.
            image_tokenizer: folder or hub name of an image tokenizer, where the checkpoint does not hold one.
            text_tokenizer: folder or hub name of a text tokenizer and Phi config, where the checkpoint holds none.

        Raises:
            InputError: when something is missing, damaged, does not fit, or the device or dtype cannot be used.
        """
        device, dtype = parse_device(device), parse_dtype(dtype)
        files = loading.locate(name_or_path, image_tokenizer, text_tokenizer)
        recommended = loading.load_sampling_options(files.folder)
        prompts = loading.load_prompts(files)
        images = None if files.image_tokenizer is None else load_image_tokenizer(files.image_tokenizer)
        return cls(loading.load_showo(files, dtype), prompts, images, recommended).to(device)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write everything `from_pretrained` needs into one folder, weights in the precision they have."""
        save_checkpoint(Path(folder), self.model, self.prompts, self.image_tokenizer, self.recommended)

    def to(self, device: str | torch.device) -> Self:
        """Move all weights.

        Raises:
            InputError: when there is no such device.
        """
        device = parse_device(device)
        self.model.to(device)
        if self.image_tokenizer is not None:
            self.image_tokenizer.to(device)
        return self

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.model.device

    @property
    def resolution(self) -> int:
        """Side of a generated image in pixels.

        Raises:
            InputError: when there is no image tokenizer.
        """
        factor = drawing.require_image_tokenizer(self.image_tokenizer).config.downsampling_factor
        return isqrt(self.model.config.num_vq_tokens) * factor

    def text_to_image(
        self,
        prompt: str | Sequence[str],
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        top_k: int | Literal["recommended"] | None = "recommended",
        temperature: float | None = None,
        schedule: str | None = None,
        num_images_per_prompt: int = 1,
        generator: Generators = None,
        seed: int | None = None,
        output_type: str = "pil",
        callback_on_step_end: StepCallback | None = None,
    ) -> ImageOutput:
        """Draw images.

        Options that are left out take the checkpoint's recommendation, `self.recommended`.

        Args:
            prompt: one text or several.
            num_inference_steps: passes of the transformer, 1 to the image's codes.
            guidance_scale: w in (1 + w) * conditional - w * unconditional, Show-o's convention: 0 is no guidance. (It
                is diffusers' scale minus 1.)
            top_k: draw among the k most probable codes only; None draws among all.
            temperature: weight of the noise in choosing which codes to keep, before the first step.
            schedule: how fast codes are kept: "cosine", "linear", "sigmoid" or "powX".
            num_images_per_prompt: images of every prompt.
            generator: a random generator for all images, or one per prompt; with a list, each prompt's images are those
                it would have alone.
            seed: seed of one generator for all images, if no generator is given; without both, every call differs.
            output_type: "pil", "np", "pt" or "latent" (codes only); see `outputs.Images`.
            callback_on_step_end: called after every step with this pipeline, the step (from 0), the steps still to
                come and a dict of `codes`, long (batch, tokens), and `masked`, bool (batch, tokens), where they are not
                final. What it returns is ignored.

        Raises:
            InputError: when a prompt is empty or too long, or an option is out of its range; before any pass.
        """
        options = self._sampling_options(
            {
                "num_inference_steps": num_inference_steps,
                "guidance_scale": guidance_scale,
                "temperature": temperature,
                "schedule": schedule,
            },
            top_k,
        )
        drawing.check_output_type(output_type, self.image_tokenizer)
        source = generator if generator is not None else _seeded(seed)
        denoiser, start = drawing.prepare(
            self.model, self.prompts, _as_list(prompt), options, num_images_per_prompt, source
        )

        def report(step: int, state: State) -> None:
            seen = {"codes": self.prompts.vocabulary.ids_to_codes(state.ids), "masked": ~state.settled}
            callback_on_step_end(self, step, options.num_inference_steps - 1 - step, seen)

        final = drawing.denoise(denoiser, start, report if callback_on_step_end else None)
        codes = self.prompts.vocabulary.ids_to_codes(final.ids)
        return ImageOutput(self.decode_codes(codes, output_type=output_type), codes, final.forward_passes)

    def image_to_text(
        self,
        image: ImageSource | Sequence[ImageSource] | None = None,
        prompt: str | Sequence[str] = "Describe the image.",
        *,
        codes: Tensor | None = None,
        max_new_tokens: int = 64,
        decoding: str = "jacobi",
        block_length: int = 16,
        do_sample: bool = False,
        temperature: float = 1.0,
        top_k: int | None = None,
        generator: torch.Generator | None = None,
        seed: int | None = None,
        streamer: Streamer | None = None,
    ) -> TextOutput:
        """Answer questions about images. One image goes with several questions, and one question with several images.

        Args:
            image: a path, an open file, a PIL image, or a list of these.
            prompt: one question or several.
            codes: in place of `image`: its codes, long (tokens,) or (batch, tokens).
            max_new_tokens: longest answer.
            decoding: "jacobi" or "autoregressive"; without sampling both give the same answer.
            block_length: guesses per pass of Jacobi decoding.
            do_sample: draw ids at random; autoregressive only.
            temperature: divides the scores before drawing.
            top_k: draw among the k best ids only; None draws among all.
            generator: where random numbers come from: drawn ids, and the first guesses of Jacobi decoding, which change
                the number of passes but not the answer.
            seed: seed of a generator, if none is given.
            streamer: sees the ids of the answer (one only) as they settle, through transformers' `put` and `end`.

        Raises:
            InputError: when an image cannot be read, a question is empty or too long, or an option is out of its range;
                before any pass.
        """
        options = DecodingOptions(max_new_tokens, decoding, block_length, do_sample, temperature, top_k)
        if (image is None) == (codes is None):
            raise InputError("give either image or codes to image_to_text, and not both")
        sources = _as_list(image) if codes is None else list(self._check_codes(codes))
        sources, questions = answering.share(sources, _as_list(prompt))
        if streamer is not None and len(questions) > 1:
            raise InputError(f"streamer takes one answer at a time, but there are {len(questions)} questions")
        num_codes = self.model.config.num_vq_tokens if codes is None else codes.shape[-1]
        questions = answering.check_questions(self.model, self.prompts, questions, num_codes, options)
        rows = torch.stack(sources) if image is None else self._encode_each_once(sources)
        source = generator if generator is not None else _seeded(seed)
        decoder, guesses = answering.prepare(self.model, self.prompts, rows, questions, options, source)
        return answering.unpack(answering.decode(decoder, guesses, streamer), self.prompts)

    @torch.no_grad()
    def encode_image(self, image: ImageSource | Sequence[ImageSource]) -> Tensor:
        """Codes of images, long (batch, tokens): resized to the resolution, the middle square cut out, encoded.

        Raises:
            InputError: when an image cannot be read, or there is no image tokenizer.
        """
        tokenizer = drawing.require_image_tokenizer(self.image_tokenizer)
        pixels = preprocess_images(_as_list(image), self.resolution)
        return tokenizer.get_codes(pixels.to(self.device))

    def decode_codes(
        self, codes: Tensor, height: int | None = None, width: int | None = None, output_type: str = "pil"
    ) -> Images:
        """Images of codes.

        Args:
            codes: long (batch, height * width), row-major.
            height: rows of the grid of codes; left out together with `width` for a square one.
            width: columns of the grid.
            output_type: "pil", "np", "pt" or "latent"; see `outputs.Images`.

        Raises:
            InputError: when the codes do not fill the grid or lie outside the codebook, or there is no image tokenizer.
        """
        return drawing.unpack(codes, self.image_tokenizer, output_type, height, width)

    def _sampling_options(self, given: dict[str, Any], top_k: int | str | None) -> SamplingOptions:
        """The recommended options, with those that are given in their place."""
        given = {name: value for name, value in given.items() if value is not None}
        return replace(self.recommended, **given, **({} if top_k == "recommended" else {"top_k": top_k}))

    def _encode_each_once(self, images: Sequence[ImageSource]) -> Tensor:
        different = {id(image): image for image in images}
        rows = dict(zip(different, self.encode_image(list(different.values())), strict=True))
        return torch.stack([rows[id(image)] for image in images])

    def _check_codes(self, codes: Tensor) -> Tensor:
        size = self.model.config.codebook_size
        if not isinstance(codes, Tensor) or codes.dtype != torch.long or codes.ndim not in (1, 2):
            raise InputError("codes must be a torch.long tensor of shape (tokens,) or (batch, tokens)")
        if codes.numel() == 0 or codes.min() < 0 or codes.max() >= size:
            raise InputError(f"codes must be codebook indices, 0..{size - 1}, at least one")
        return codes.reshape(-1, codes.shape[-1])


def _as_list(value: Any) -> list:
    return list(value) if isinstance(value, list | tuple) else [value]


def _seeded(seed: int | None) -> torch.Generator | None:
    """A generator on the CPU, so that a seed means the same on every device."""
    if seed is None:
        return None
    if type(seed) is not int or not 0 <= seed < 2**63:
        raise InputError(f"seed is {seed!r}: choose a whole number from 0 to 2**63 - 1")
    return torch.Generator().manual_seed(seed)
