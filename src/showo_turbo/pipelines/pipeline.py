"""The library's front door: one object that draws and answers."""

from pathlib import Path
from typing import Self

import torch

from showo_turbo.checkpoints.loading import load_components, locate
from showo_turbo.checkpoints.saving import save_checkpoint
from showo_turbo.components import Components
from showo_turbo.device import parse_device, parse_dtype, parse_quantization
from showo_turbo.errors import InputError
from showo_turbo.pipelines.image_generation import ImageTasks
from showo_turbo.pipelines.understanding import TextTasks
from showo_turbo.serving.engine import Engine, Job
from showo_turbo.serving.requests import ImageRequest, TextRequest

_MODES_WITH_CUDA_GRAPHS = ("reduce-overhead", "max-autotune")


class ShowoPipeline(ImageTasks, TextTasks):
    """Show-o and Show-o Turbo: text to image and image to text with one transformer.

    Example:
        >>> pipe = ShowoPipeline.from_pretrained("tiny-turbo")
        >>> image = pipe.text_to_image("a red circle and a blue star", seed=0).images[0]
        >>> pipe.image_to_text(image, "Where is the star?").texts
        ['top right']
    """

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path,
        *,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype = "float32",
        quantization: str | None = None,
        image_tokenizer: str | Path | None = None,
        text_tokenizer: str | Path | None = None,
        base: str | Path | None = None,
        vision_tower: str | Path | None = None,
    ) -> Self:
        """Load a checkpoint.

        Args:
            name_or_path: a shipped model ("tiny-turbo"), a local folder, or a name on the Hugging Face hub; of a
                checkpoint, or of a LoRA adapter, which is merged into its base.
            device: where to compute; the graphics processor if there is one, else the CPU, if left out.
            dtype: precision that the transformer is stored in: "float32", "bfloat16" or "float16". It computes in the
                same, but on the CPU in float32. The image tokenizer stays in float32, since its codes are signs.
            quantization: "int8" stores the matrices of the transformer's layers in a byte a weight, by torchao (the
                `quantization` extra); an approximation, see docs/lab/speed.md. Not at all if left out.
            image_tokenizer: folder or hub name of an image tokenizer, in place of the checkpoint's.
            text_tokenizer: folder or hub name of a text tokenizer and Phi config, in place of the checkpoint's.
            base: the checkpoint that an adapter changes, where the adapter does not name it.
            vision_tower: folder or hub name of a CLIP picture tower, where a checkpoint that answers by CLIP features
                (`w_clip_vit`) does not hold one.

        Raises:
            InputError: when something is missing, damaged or does not fit, or device, dtype or quantization cannot be.
        """
        device, dtype, quantization = parse_device(device), parse_dtype(dtype), parse_quantization(quantization)
        files = locate(name_or_path, image_tokenizer, text_tokenizer, base, vision_tower)
        components = load_components(files, dtype=dtype, quantization=quantization)
        return cls(**vars(components)).to(device)

    def compile(self, mode: str | None = None) -> Self:
        """Compile the transformer's layers with `torch.compile`, all but attention. Takes a minute, and only here.

        Whatever prompts, steps and batches come later, nothing is compiled again. Comes after `to`. On processors it
        does not pay, see docs/lab/speed.md.

        Args:
            mode: of `torch.compile`, one that records no CUDA graphs.

        Raises:
            InputError: when it does: `use_cuda_graphs` records whole passes.
        """
        if mode in _MODES_WITH_CUDA_GRAPHS:
            raise InputError(
                f"mode {mode!r} records CUDA graphs of single functions, which take longer than none: leave it out, "
                "and call use_cuda_graphs, which records whole passes"
            )
        self.model.compile(mode)
        return self

    def use_cuda_graphs(self) -> Self:
        """Record the transformer's passes on a graphics processor, and replay those that come again.

        Results stay the same, in half precision but for last bits. What comes for the first time takes as long as ever,
        for the second time longer, and from the third time on less. Graphs are recorded for lengths (prompts count in
        steps of 32), numbers of images and steps, so one request at a time gains, or batches that come again. They hold
        for the weights as they lie: `to` and the like end their use. One thread at a time may use them.

        Raises:
            InputError: when the model is on no CUDA device.
        """
        if self.device.type != "cuda":
            raise InputError(f"CUDA graphs need a CUDA device, but the model is on {self.device}: leave them out")
        self.model.use_cuda_graphs()
        return self

    def engine(self, max_sequences: int = 32) -> Engine[ImageRequest | TextRequest]:
        """An engine that runs many requests together, each with options of its own and the result it has alone.

        Args:
            max_sequences: how many sequences a pass may read. An answer is one; an image is one, with guidance two.

        Raises:
            InputError: when `max_sequences` is below 1.
        """
        return Engine(self.model, self._prepare, max_sequences)

    def _prepare(self, request: ImageRequest | TextRequest) -> Job:
        """A request, checked and laid out for an engine."""
        if not isinstance(request, ImageRequest | TextRequest):
            raise InputError(f"request is {request!r}: expected an ImageRequest or a TextRequest")
        return request.prepare(self)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write everything `from_pretrained` needs into one folder, weights in the precision they have.

        Raises:
            InputError: when the transformer is quantized.
        """
        components = self.model, self.prompts, self.image_tokenizer, self.recommended, self.vision_tower
        save_checkpoint(Path(folder), Components(*components))
