"""Forward passes of one image, compiled ahead of time for a CPU by AOTInductor.

    first pass   weights, prompt and image, mask of the prompt --> hidden states, KV cache of the prompt
    later pass   weights, image, KV cache of the prompt        --> hidden states

Decisions:
- Operators of a small model take less time to compute than to call. A package computes all layers in one call.
- `packed_forward` itself is traced, so a package computes what the library does, for one image of one prompt without
  guidance, with prompts of any length and any number of scored rows but one. All other passes run as before.
- Weights are arguments. They are in memory once, and a package fits all checkpoints of its sizes, trained on or not.
- A package is compiled on the machine that runs it, and stored in the user's cache folder under a hash of all that it
  depends on: sizes, this code, torch, and what the CPU can do.
- Its kernels run on one thread, since those of one image are short; products use torch's threads.
- torch's C++ loader takes some milliseconds; importing `torch._inductor` would take more than a pass saves.
"""

import copy
import json
import logging
import os
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from hashlib import sha256
from operator import attrgetter
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from showo_turbo.backends.linear import pack_layers
from showo_turbo.configuration import BackboneConfig
from showo_turbo.files import atomic_folder, sha256_of_files
from showo_turbo.generation.kv_cache import ImageCache, SequenceCache
from showo_turbo.models.packed_forward import LayerOps, PackedSequences, RaggedLayout, packed_forward
from showo_turbo.models.phi import PhiBackbone, PhiLayer, PhiRotaryEmbedding
from showo_turbo.models.showo import Showo

logger = logging.getLogger(__name__)

_SOURCES = ("backends/compiled_passes.py", "backends/linear.py", "models/packed_forward.py", "models/phi.py")
_EXAMPLE_PROMPT = 7


class Package(Protocol):
    """Hold compiled code."""

    def run(self, inputs: list[Tensor]) -> list[Tensor]:
        """Compute outputs from inputs, each flattened."""


class ImagePasses:
    """Run the passes of one image by packages, and all others operator by operator."""

    def __init__(self, first: Package, later: Package, rows: int) -> None:
        """Hold packages for images of so many rows, both borders included."""
        self.first, self.later, self.rows = first, later, rows
        self._weights: _Weights | None = None

    def run(self, phi: PhiBackbone, ops: LayerOps, embeddings: Tensor, groups: Sequence[PackedSequences]) -> Tensor:
        """Compute `models.packed_forward.packed_forward`."""
        if self._weights is None or not self._weights.belongs_to(phi):
            self._weights = _Weights(phi)
        *prompts, images = groups
        if not (self._weights.is_transposed and embeddings.dtype == torch.float32 and self._is_one_image(images)):
            return packed_forward(phi, ops, embeddings, groups)
        weights, scored = self._weights.tensors(), images.scored_rows
        if not prompts:
            prefix = cast(ImageCache, images.cache).prompts[:, :, 0]
            return self.later.run([*weights, embeddings, scored, prefix])[0]
        if len(prompts) > 1 or not _is_prompt_of(images, prompts[0]):
            return packed_forward(phi, ops, embeddings, groups)
        prompt, image = embeddings.split((len(embeddings) - self.rows, self.rows))
        hidden, prefix = self.first.run([*weights, prompt, image, scored, cast(Tensor, prompts[0].mask)])
        cast(SequenceCache, prompts[0].cache).buffer[:, :, 0] = prefix
        return hidden

    def _is_one_image(self, images: PackedSequences) -> bool:
        """Return whether a group is one image, which attends to one prompt without padding."""
        cache, is_sized = images.cache, images.layout.shape == (1, self.rows) and images.scored_layout.size > 1
        return is_sized and images.mask is None and isinstance(cache, ImageCache) and cache.prompts.shape[2] == 1


def _is_prompt_of(image: PackedSequences, prompt: PackedSequences) -> bool:
    cache, buffer = prompt.cache, cast(ImageCache, image.cache).prompts
    return isinstance(cache, SequenceCache) and cache.buffer is buffer and buffer.shape[2:4] == prompt.layout.shape


class _Weights:
    """Find the weights of the layers, in the order in which packages take them."""

    def __init__(self, phi: PhiBackbone) -> None:
        """Look up where a model has its weights now."""
        layers = cast("Sequence[PhiLayer]", phi.layers)
        self.linears = [layer.linears for layer in layers]
        self.is_transposed = all(linears.is_transposed for linears in self.linears)
        self.norms = [module for module in phi.modules() if isinstance(module, nn.LayerNorm)]
        self.matrices = [attrgetter("self_attn.dense", "mlp.fc1", "mlp.fc2")(layer) for layer in layers]
        modules = [*self.norms, *(module for layer in self.matrices for module in layer)]
        self._places = [(module._parameters, name) for module in modules for name in ("weight", "bias")]

    def belongs_to(self, phi: PhiBackbone) -> bool:
        """Return whether a model still computes with the modules that were looked up."""
        layers = cast("Sequence[PhiLayer]", phi.layers)
        return all(layer.linears is linears for layer, linears in zip(layers, self.linears, strict=True))

    def tensors(self) -> list[Tensor]:
        """Return the tensors that the model has now; parameters may have been replaced."""
        packed = [tensor for linears in cast(Any, self.linears) for tensor in (linears.weight, linears.bias)]
        return packed + cast("list[Tensor]", [parameters[name] for parameters, name in self._places])

    @contextmanager
    def replaced(self, phi: PhiBackbone, tensors: Sequence[Tensor]) -> Iterator[None]:
        """Let a model compute with other tensors, in the same order."""
        given = iter(tensors)
        earlier = [parameters[name] for parameters, name in self._places]
        for layer, linears in zip(cast("Sequence[PhiLayer]", phi.layers), self.linears, strict=True):
            traced = cast(Any, copy.copy(linears))
            traced.weight, traced.bias, layer.linears = next(given), next(given), traced
        try:
            for parameters, name in self._places:
                parameters[name] = cast(nn.Parameter, next(given))
            yield
        finally:
            for (parameters, name), parameter in zip(self._places, earlier, strict=True):
                parameters[name] = parameter
            for layer, linears in zip(cast("Sequence[PhiLayer]", phi.layers), self.linears, strict=True):
                layer.linears = linears


@dataclass(frozen=True)
class _PromptCache:
    """Collect keys and values of a prompt, layer after layer, each (2, rows, heads, head size)."""

    layers: list[Tensor]
    persistent_buffers: tuple[Tensor, ...] = ()

    def update(self, layer: int, keys_values: Tensor) -> Tensor:
        """See `models.packed_forward.KVCache`."""
        self.layers.append(keys_values)
        return keys_values[:, None]


@dataclass(frozen=True)
class _PrefixedCache:
    """Attend to the keys and values of a prompt and to the whole image."""

    prompt: Sequence[Tensor] | Tensor
    persistent_buffers: tuple[Tensor, ...] = ()

    def update(self, layer: int, keys_values: Tensor) -> Tensor:
        """See `models.packed_forward.KVCache`."""
        return torch.cat([self.prompt[layer], keys_values], 1)[:, None]


class LaterPass(nn.Module):
    """Compute an image whose prompt has been read."""

    def __init__(self, phi: PhiBackbone) -> None:
        """Refer to a model, whose parameters are not those of this module."""
        super().__init__()
        self.of = (phi, _Weights(phi))

    def forward(self, weights: list[Tensor], image: Tensor, scored: Tensor, prefix: Tensor) -> Tensor:
        """Return hidden states (scored rows, hidden_size).

        Args:
            weights: as `_Weights.tensors` returns them.
            image: embeddings (rows, hidden_size).
            scored: long (scored rows,).
            prefix: KV cache of the prompt, (layers, 2, length, heads, head size).
        """
        phi, places = self.of
        with places.replaced(phi, weights):
            return packed_forward(phi, LayerOps(), image, [_image_rows(image, scored, _PrefixedCache(prefix))])


class FirstPass(LaterPass):
    """Compute a prompt and its image."""

    def forward(  # type: ignore[override]
        self, weights: list[Tensor], prompt: Tensor, image: Tensor, scored: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return hidden states (scored rows, hidden_size) and the KV cache (layers, 2, length, heads, head size).

        Args:
            weights: as `_Weights.tensors` returns them.
            prompt: embeddings (length, hidden_size).
            image: embeddings (rows, hidden_size).
            scored: long (scored rows,).
            mask: bool (1, 1, length, length), True where a row of the prompt may attend.
        """
        (phi, places), layers, length = self.of, list[Tensor](), prompt.shape[0]
        positions, none = torch.arange(length) - length, torch.zeros(0, dtype=torch.long)
        rows = PackedSequences(RaggedLayout([length]), positions, _PromptCache(layers), mask, none, RaggedLayout([0]))
        with places.replaced(phi, weights):
            groups = [rows, _image_rows(image, scored, _PrefixedCache(layers))]
            hidden = packed_forward(phi, LayerOps(), torch.cat([prompt, image]), groups)
        return hidden, torch.stack(layers)


def _image_rows(image: Tensor, scored: Tensor, cache: _PrefixedCache) -> PackedSequences:
    """Return the rows of one image, embeddings (rows, hidden_size), that attends to all of them and its prompt."""
    layout, positions = RaggedLayout([image.shape[0]]), torch.arange(image.shape[0])
    return PackedSequences(layout, positions, cache, None, scored, RaggedLayout([scored.shape[0]]))


@torch.no_grad()
def compile_package(module: LaterPass, model: Showo, path: Path) -> None:
    """Compile a pass of a model to a package, for prompts of any length."""
    from torch._inductor import aoti_compile_and_package

    config, rows = model.showo.config, model.config.num_vq_tokens + 2
    attention = cast("Sequence[PhiLayer]", model.showo.model.layers)[0].self_attn
    length, scored = torch.export.Dim("length", min=2), torch.export.Dim("scored", min=2, max=rows)
    prompt, image = (torch.zeros(count, config.hidden_size) for count in (_EXAMPLE_PROMPT, rows))
    weights, scored_rows = [one.detach() for one in module.of[1].tensors()], torch.arange(1, rows - 1)
    if isinstance(module, FirstPass):
        mask = torch.ones(1, 1, _EXAMPLE_PROMPT, _EXAMPLE_PROMPT, dtype=torch.bool).tril()
        inputs: tuple[Any, ...] = (weights, prompt, image, scored_rows, mask)
        dimensions: tuple[Any, ...] = ({0: length}, None, {0: scored}, {2: length, 3: length})
    else:
        sizes = (config.num_hidden_layers, 2, _EXAMPLE_PROMPT, attention.kv_heads, attention.head_dim)
        inputs, dimensions = (weights, image, scored_rows, torch.zeros(sizes)), (None, {0: scored}, {2: length})
    shapes = ([None] * len(weights), *dimensions)
    exported = torch.export.export(module, inputs, dynamic_shapes=shapes, strict=False)
    aoti_compile_and_package(exported, package_path=str(path), inductor_configs={"cpp.threads": 1})


def load_image_passes(model: Showo) -> ImagePasses | None:
    """Return compiled passes of a small model on a CPU, from the user's cache folder if they are there.

    Compiling them takes one to two minutes. If that is impossible, a warning says why, and the result is None.
    """
    phi, rows = model.showo.model, model.config.num_vq_tokens + 2
    pack_layers(phi)
    is_plain = isinstance(phi.rotary_emb, PhiRotaryEmbedding) and model.dtype == torch.float32
    if not (is_plain and _Weights(phi).is_transposed):
        logger.warning("nothing is compiled: on a CPU, small models in float32 gain, without quantization or adapters")
        return None
    try:
        folder = cache_folder() / _key(model)
        if not folder.is_dir():
            logger.info("compiling the passes of an image to %s, once; this takes one to two minutes", folder)
            with atomic_folder(folder, replace=True) as temporary:
                compile_package(FirstPass(phi), model, temporary / "first.pt2")
                compile_package(LaterPass(phi), model, temporary / "later.pt2")
        return ImagePasses(_load(folder / "first.pt2"), _load(folder / "later.pt2"), rows)
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
