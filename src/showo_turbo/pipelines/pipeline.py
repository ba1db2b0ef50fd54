"""The pipeline: one object that draws images and answers questions."""

from pathlib import Path
from typing import TYPE_CHECKING, Self

import torch

from showo_turbo.checkpoints.loading import load_components, locate
from showo_turbo.checkpoints.names import with_revision
from showo_turbo.checkpoints.saving import save_checkpoint
from showo_turbo.device import check_float8, parse_device, parse_dtype
from showo_turbo.errors import InputError
from showo_turbo.pipelines.image_editing import ImageEditing
from showo_turbo.pipelines.understanding import Understanding
from showo_turbo.validation import check_integer, check_quantization

if TYPE_CHECKING:
    from showo_turbo.serving.engine import Engine
    from showo_turbo.serving.requests import PipelineRequest

_MODES_WITH_CUDA_GRAPHS = ("reduce-overhead", "max-autotune")


class ShowoPipeline(ImageEditing, Understanding):
    """Run Show-o and Show-o Turbo: text to image and image to text with one transformer.

    Example:
        >>> pipe = ShowoPipeline.from_pretrained("clipart-turbo")
        >>> image = pipe.text_to_image("a dog left of a bicycle", seed=0).images[0]
        >>> pipe.image_to_text(image, "Where is the dog?").texts
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
        revision: str | None = None,
    ) -> Self:
        """Load a checkpoint.

        Args:
            name_or_path: a shipped model ("clipart-turbo"), a local folder, or a name on the Hugging Face hub; of a
                checkpoint, or of a LoRA adapter, which is merged into its base.
            device: device to compute on; a GPU if there is one, else the CPU, if left out.
            dtype: dtype that the transformer is stored in: "float32", "bfloat16" or "float16". It computes in the same
                dtype, but on the CPU in float32. The image tokenizer is stored in float32, since its codes are signs;
                half precision on a GPU decodes images in float16.
            quantization: stores the matrices of the transformer's layers in a byte each, by torchao (the `quantization`
                extra); an approximation, see docs/lab/speed.md. "int8" saves memory. "float8" also computes in float8,
                on GPUs from compute capability 8.9 on. None stores them in `dtype`.
            image_tokenizer: folder or hub name of an image tokenizer, in place of the checkpoint's.
            text_tokenizer: folder or hub name of a text tokenizer and Phi config, in place of the checkpoint's.
            base: base checkpoint of an adapter, if the adapter does not name it.
            vision_tower: folder or hub name of a CLIP vision tower, if a checkpoint that answers by CLIP features
                (`w_clip_vit`) does not hold one.
            revision: branch, tag or commit of `name_or_path` on the hub. All hub names may also end with one,
                "owner/name@REVISION".

        Raises:
            InputError: if a component is missing or damaged or does not fit the others, or device, dtype or
                quantization is invalid.
        """
        device, dtype = parse_device(device), parse_dtype(dtype)
        check_quantization(quantization)
        if quantization == "float8":
            check_float8(device)
        name_or_path = with_revision(name_or_path, revision)
        files = locate(name_or_path, image_tokenizer, text_tokenizer, base, vision_tower)
        components = load_components(files, dtype=dtype, quantization=quantization)
        return cls(**vars(components)).to(device)

    def compile(self, mode: str | None = None) -> Self:
        """Compile the transformer. This takes about two minutes. Call it after `to`.

        On a GPU these are the layers, all but attention, by `torch.compile`. Later calls compile nothing, whatever
        their prompts, steps and batch sizes.

        On a CPU these are whole forward passes, and whole steps that take the most probable codes, of one image
        without guidance, of small models in float32, by AOTInductor. They are stored in the user's cache folder, where
        the next process finds them. All other passes run as before. Without a C++ compiler a warning is logged, and
        every pass does.

        Args:
            mode: mode of `torch.compile`, without CUDA graphs; unused on a CPU.

        Raises:
            InputError: if the mode records CUDA graphs: `use_cuda_graphs` records whole forward passes.
        """
        if mode in _MODES_WITH_CUDA_GRAPHS:
            raise InputError(
                f"mode {mode!r} records CUDA graphs of single functions, which take longer than none: leave it out, "
                "and call use_cuda_graphs, which records whole passes"
            )
        if self.device.type == "cpu":
            from showo_turbo.backends.compiled_passes import load_image_passes

            self.model.image_passes = load_image_passes(self.model)
        else:
            self.model.compile(mode)
        return self

    def use_cuda_graphs(self) -> Self:
        """Record forward passes of the transformer on a GPU as CUDA graphs, and replay those that occur again.

        Results stay the same, in half precision up to the last bits. A pass that occurs for the first time runs
        eagerly, for the second time it is recorded, and from the third time on it is replayed. Graphs hold for lengths
        (prompts are rounded up to multiples of 32), numbers of images and steps, so single requests and repeated batch
        sizes gain. They hold for the addresses of the weights: `to` and the like drop them. Use them from one thread at
        a time.

        Raises:
            InputError: if the model is not on a CUDA device.
        """
        if self.device.type != "cuda":
            raise InputError(f"CUDA graphs need a CUDA device, but the model is on {self.device}: leave them out")
        self.model.use_cuda_graphs()
        return self

    def engine(self, max_sequences: int = 32, prefix_cache_size: int = 256) -> "Engine[PipelineRequest]":
        """Return an engine that runs many requests at once (continuous batching), each with the result it has alone.

        Args:
            max_sequences: largest number of sequences in a forward pass. An answer is one sequence; an image is one,
                with guidance two.
            prefix_cache_size: size of the KV caches of pictures in MiB, from which later questions about the same
                pictures start; 0 stores none. A picture of 256 codes takes 102 MiB at full size in float32.

        Raises:
            InputError: if `max_sequences` is below 1, or `prefix_cache_size` below 0.
        """
        from showo_turbo.generation.prefix_store import PrefixStore
        from showo_turbo.serving.engine import Engine  # serving is built on pipelines
        from showo_turbo.serving.requests import prepare_request

        check_integer("prefix_cache_size", prefix_cache_size, 0)
        store = PrefixStore(self.model, prefix_cache_size << 20) if prefix_cache_size else None
        return Engine(self.model, lambda request: prepare_request(self, request, store), max_sequences, store=store)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write all components into one folder that `from_pretrained` loads, weights in the dtype they have.

        Raises:
            InputError: if the transformer is quantized.
        """
        save_checkpoint(Path(folder), self)
