"""Forward passes of one image, compiled ahead of time for a CPU by AOTInductor.

    first pass    prompt and image             --> hidden states, KV cache of the prompt
    later passes  image, KV cache of the prompt --> hidden states
    later steps   ids, KV cache of the prompt   --> ids, which of them are masked again

Decisions:
- Operators of a small model take less time to compute than to call. A package computes all layers in one call.
- A step that takes the most probable codes in Halton order is one call as well, where it has a forward pass of its own.
- All other passes, and the sampling of codes, run as before; see `traced_passes`.
- A package is compiled on the machine that runs it, and stored in the user's cache folder under a hash of all that it
  depends on: sizes, this code, torch, and what the CPU can do.
- Its kernels run on one thread, since those of one image are short; products use torch's threads.
- torch's C++ loader takes some milliseconds; importing `torch._inductor` would take more than a pass saves.
"""

import json
import logging
import os
import platform
from collections.abc import Sequence
from dataclasses import fields
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from showo_turbo.backends.linear import pack_layers
from showo_turbo.backends.traced_layers import LayerWeights, rotary_factors
from showo_turbo.backends.traced_passes import FirstPass, LaterPass, LaterStep, compile_package
from showo_turbo.configuration import BackboneConfig
from showo_turbo.files import atomic_folder, sha256_of_files
from showo_turbo.generation.kv_cache import ImageCache, SequenceCache
from showo_turbo.models.packed_forward import LayerOps, PackedSequences, Rotary, packed_forward
from showo_turbo.models.phi import PhiBackbone, PhiRotaryEmbedding
from showo_turbo.models.showo import Showo
from showo_turbo.vocabulary import Vocabulary

logger = logging.getLogger(__name__)

_SOURCES = (
    "backends/compiled_passes.py",
    "backends/linear.py",
    "backends/traced_layers.py",
    "backends/traced_passes.py",
    "generation/orders.py",
    "generation/scheduler.py",
    "models/packed_forward.py",
    "models/phi.py",
)


class Package(Protocol):
    """Hold compiled code."""

    def run(self, inputs: list[Tensor]) -> list[Tensor]:
        """Compute outputs from inputs, each flattened."""


class ImagePasses:
    """Run the passes and steps of one image by packages, and all other passes operator by operator."""

    def __init__(self, first: Package, later: Package, later_step: Package, rows: int) -> None:
        """Hold packages for images of so many rows, both borders included."""
        self.first, self.later, self.later_step, self.rows = first, later, later_step, rows
        self._weights: LayerWeights | None = None
        self._rotary: dict[int, Rotary] = {}

    def run(self, phi: PhiBackbone, ops: LayerOps, embeddings: Tensor, groups: Sequence[PackedSequences]) -> Tensor:
        """Compute `models.packed_forward.packed_forward`."""
        *prompts, images = groups
        weights, scored = self._tensors(phi), images.scored_rows
        if not (weights and embeddings.dtype == torch.float32 and self._is_one_image(images)):
            return packed_forward(phi, ops, embeddings, groups)
        if not prompts:
            prefix = cast(ImageCache, images.cache).prompts[:, :, 0]
            return self.later.run([*weights, *self._factors(phi, 0), embeddings, scored, prefix])[0]
        if len(prompts) > 1 or not _is_prompt_of(images, prompts[0]):
            return packed_forward(phi, ops, embeddings, groups)
        length = len(embeddings) - self.rows
        prompt, image = embeddings.split((length, self.rows))
        factors, mask = self._factors(phi, length), cast(Tensor, prompts[0].mask)
        hidden, prefix = self.first.run([*weights, *factors, prompt, image, scored, mask])
        cast(SequenceCache, prompts[0].cache).buffer[:, :, 0] = prefix
        return hidden

    @torch.no_grad()
    def step(
        self,
        model: Showo,
        vocabulary: Vocabulary,
        image: Tensor,
        masked: Tensor,
        count: int,
        prefix: Tensor,
        priorities: Tensor,
    ) -> tuple[Tensor, Tensor] | None:
        """Compute a step of `generation.image_denoiser` that takes the most probable codes in a fixed order.

        Args:
            model: the transformer.
            vocabulary: the id layout.
            image: long (1, 1 + n), token ids of one image, of which the first opens it.
            masked: bool (1, n).
            count: number of positions that are masked again.
            prefix: KV cache of its prompt, (layers, 2, length, heads, head size).
            priorities: of the positions, float32 (n,), see `generation.orders`.

        Returns:
            The next token ids, long (1, n), and the positions that are masked again, bool (1, n); None if there is no
            package for images or weights like these.
        """
        phi, head = model.showo.model, model.showo.lm_head
        pack_layers(phi)
        weights, positions, table = self._tensors(phi), masked.nonzero(), phi.embed_tokens
        is_plain = type(table) is nn.Embedding and table.weight.dtype == head.weight.dtype == torch.float32
        if not weights or not is_plain or masked.shape != (1, self.rows - 2) or len(positions) == 1:
            return None
        codebook = slice(vocabulary.image_offset, vocabulary.mask_id)
        own = map(Tensor.contiguous, (table.weight, head.weight[codebook], head.bias[codebook]))
        state = (_numbers(vocabulary, count), image, masked, positions, prefix, priorities)
        drawn, again = self.later_step.run([*weights, *self._factors(phi, 0), *own, *state])
        return drawn, again

    def _tensors(self, phi: PhiBackbone) -> list[Tensor]:
        """Return the weights of the layers as they are now, none if they are laid out in another way."""
        if self._weights is None or not self._weights.belongs_to(phi):
            self._weights = LayerWeights(phi)
        return self._weights.tensors() if self._weights.is_transposed else []

    def _factors(self, phi: PhiBackbone, length: int) -> Rotary:
        """Return the rotary factors of a prompt of some length and its image."""
        if length not in self._rotary:
            self._rotary = {0: rotary_factors(phi, 0, self.rows), length: rotary_factors(phi, length, self.rows)}
        return self._rotary[length]

    def _is_one_image(self, images: PackedSequences) -> bool:
        """Return whether a group is one image, which attends to one prompt without padding."""
        cache, is_sized = images.cache, images.layout.shape == (1, self.rows) and images.scored_layout.size > 1
        return is_sized and images.mask is None and isinstance(cache, ImageCache) and cache.prompts.shape[2] == 1


@cache
def _numbers(vocabulary: Vocabulary, count: int) -> Tensor:
    """Return what `LaterStep` takes as numbers."""
    ids = [vocabulary.eoi_id, vocabulary.mask_id, vocabulary.image_offset]
    return torch.tensor([*ids, count])


def _is_prompt_of(image: PackedSequences, prompt: PackedSequences) -> bool:
    cache, buffer = prompt.cache, cast(ImageCache, image.cache).prompts
    return isinstance(cache, SequenceCache) and cache.buffer is buffer and buffer.shape[2:4] == prompt.layout.shape


def load_image_passes(model: Showo) -> ImagePasses | None:
    """Return compiled passes of a small model on a CPU, from the user's cache folder if they are there.

    Compiling them takes about two minutes. If that is impossible, a warning says why, and the result is None.
    """
    phi, rows = model.showo.model, model.config.num_vq_tokens + 2
    pack_layers(phi)
    is_plain = isinstance(phi.rotary_emb, PhiRotaryEmbedding) and model.dtype == torch.float32
    if not (is_plain and LayerWeights(phi).is_transposed):
        logger.warning("nothing is compiled: on a CPU, small models in float32 gain, without quantization or adapters")
        return None
    try:
        folder = cache_folder() / _key(model)
        if not folder.is_dir():
            logger.info("compiling the passes of an image to %s, once; this takes about two minutes", folder)
            with atomic_folder(folder, replace=True) as temporary:
                compile_package(FirstPass(phi), model, temporary / "first.pt2")
                compile_package(LaterPass(phi), model, temporary / "later.pt2")
                compile_package(LaterStep(phi), model, temporary / "step.pt2")
        first, later, step = (_load(folder / f"{name}.pt2") for name in ("first", "later", "step"))
        return ImagePasses(first, later, step, rows)
    except Exception as error:  # of torch, of the compiler, or of the disk
        reason = str(error).strip().partition("\n")[0]
        logger.warning("passes of an image are not compiled, they run operator by operator: %s", reason)
        return None


def cache_folder() -> Path:
    """Return the folder of all packages of this user: `$XDG_CACHE_HOME/showo-turbo`, or `~/.cache/showo-turbo`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "showo-turbo"


def _key(model: Showo) -> str:
    """Return a hash of all that the packages of a model depend on."""
    # no package holds embeddings or a head, and the rotary embedding that it holds has no last position
    names = {field.name for field in fields(BackboneConfig)} - {"vocab_size", "max_position_embeddings"}
    config = {name: getattr(model.showo.config, name) for name in sorted(names)}
    code = sha256_of_files(*(Path(__file__).parents[1] / name for name in _SOURCES))
    processor = [platform.machine(), torch.backends.cpu.get_cpu_capability()]
    description = Path("/proc/cpuinfo")  # a home folder may be shared by machines
    if description.is_file():
        lines = description.read_text().splitlines()
        processor += sorted({line for line in lines if line.startswith(("flags", "Features"))})
    facts = [config, model.config.num_vq_tokens, code, torch.__version__, processor]
    return sha256(json.dumps(facts, default=str).encode()).hexdigest()[:32]


def _load(path: Path) -> Package:
    return torch._C._aoti.AOTIModelPackageLoader(str(path), "model", False, 1, -1)
