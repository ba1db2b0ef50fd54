"""Modules for torch.export that compute a pass or a step of one image; `compiled_passes` compiles and runs them.

    FirstPass   weights, rotary factors, prompt, image, mask of the prompt --> hidden states, KV cache of the prompt
    LaterPass   weights, rotary factors, image, KV cache of the prompt     --> hidden states
    LaterStep   the same, embeddings, head, ids, how many stay masked      --> ids, which of them are masked

Decisions:
- `packed_forward` and `settle_in_order` themselves are traced, so packages compute what the library does, for one image
  of one prompt without guidance, with prompts of any length and any number of scored rows but one.
- How layers are traced is decided in `traced_layers`.
- Products do not add biases, which would copy them to the result first; the kernels that follow do. GELU is a sigmoid,
  which takes half as long as its tanh.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from showo_turbo.backends.traced_layers import (
    LayerWeights,
    PrefixedCache,
    PromptCache,
    image_rows,
    layer_ops,
    rotary_factors,
)
from showo_turbo.generation.scheduler import settle_in_order
from showo_turbo.models.packed_forward import PackedSequences, RaggedLayout, packed_forward
from showo_turbo.models.phi import PhiBackbone, PhiLayer
from showo_turbo.models.showo import Showo

_EXAMPLE_PROMPT = 7

aten = torch.ops.aten


def _max(values: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Compute `values.max(dim)` without argmax, which compiles to a loop over single numbers."""
    largest, last = values.amax(dim, keepdim=True), values.shape[dim] - 1
    numbers = torch.arange(values.shape[dim], dtype=torch.float32)  # exact below 2**24
    return largest.squeeze(dim), torch.where(values == largest, numbers, last).amin(dim).long()


_DECOMPOSITIONS: dict[Any, Callable[..., Any]] = {
    aten.max.dim: _max,
    aten.linear.default: lambda x, weight, bias: aten.add(aten.mm(x, weight.t()), bias),
    aten.addmm.default: lambda total, x, weight: aten.add(aten.mm(x, weight), total),
    aten.baddbmm.default: lambda total, x, weights: aten.add(aten.bmm(x, weights), total),
}
"""Products that add a bias, as a product and a sum, and what is faster in other operators."""


class LaterPass(nn.Module):
    """Compute an image whose prompt has been read."""

    def __init__(self, phi: PhiBackbone) -> None:
        """Refer to a model, whose parameters are not those of this module."""
        super().__init__()
        self.of = (phi, LayerWeights(phi))

    def forward(
        self, weights: list[Tensor], cosines: Tensor, sines: Tensor, image: Tensor, scored: Tensor, prefix: Tensor
    ) -> Tensor:
        """Return hidden states (scored rows, hidden_size).

        Args:
            weights: as `LayerWeights.tensors` returns them.
            cosines: rotary factors of the image, see `rotary_factors`.
            sines: likewise.
            image: embeddings (rows, hidden_size).
            scored: long (scored rows,).
            prefix: KV cache of the prompt, (layers, 2, length, heads, head size).
        """
        phi, places = self.of
        ops = layer_ops((cosines, sines))
        with places.replaced(phi, weights):
            return packed_forward(phi, ops, image, [image_rows(image, scored, PrefixedCache(prefix))])

    def example(self, model: Showo) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """Return inputs for images of a model, and which of their sizes may differ."""
        config, (phi, places), rows = model.showo.config, self.of, model.config.num_vq_tokens + 2
        attention = cast("Sequence[PhiLayer]", phi.layers)[0].self_attn
        prefix = (config.num_hidden_layers, 2, _EXAMPLE_PROMPT, attention.kv_heads, attention.head_dim)
        image = (torch.zeros(rows, config.hidden_size), torch.arange(1, rows - 1))
        weights = [one.detach() for one in places.tensors()]
        inputs = (weights, *rotary_factors(phi, 0, rows), *image, torch.zeros(prefix))
        return inputs, (
            [None] * len(weights),
            None,
            None,
            None,
            {0: _dimension("scored", rows)},
            {2: _dimension("length")},
        )


class FirstPass(LaterPass):
    """Compute a prompt and its image."""

    def forward(  # type: ignore[override]
        self,
        weights: list[Tensor],
        cosines: Tensor,
        sines: Tensor,
        prompt: Tensor,
        image: Tensor,
        scored: Tensor,
        mask: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Return hidden states (scored rows, hidden_size) and the KV cache (layers, 2, length, heads, head size).

        Args:
            weights: as `LayerWeights.tensors` returns them.
            cosines: rotary factors of prompt and image, see `rotary_factors`.
            sines: likewise.
            prompt: embeddings (length, hidden_size).
            image: embeddings (rows, hidden_size).
            scored: long (scored rows,).
            mask: bool (1, 1, length, length), True where a row of the prompt may attend.
        """
        (phi, places), layers, length = self.of, list[Tensor](), prompt.shape[0]
        positions, none = torch.arange(length) - length, torch.zeros(0, dtype=torch.long)
        rows = PackedSequences(RaggedLayout([length]), positions, PromptCache(layers), mask, none, RaggedLayout([0]))
        ops = layer_ops((cosines, sines))
        with places.replaced(phi, weights):
            groups = [rows, image_rows(image, scored, PrefixedCache(layers))]
            hidden = packed_forward(phi, ops, torch.cat([prompt, image]), groups)
        return hidden, torch.stack(layers)

    def example(self, model: Showo) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """See `LaterPass.example`."""
        (weights, _, _, image, scored, _), (sizes, *_) = super().example(model)
        rows, length = len(image), _EXAMPLE_PROMPT
        prompt, mask = torch.zeros(length, image.shape[1]), torch.ones(1, 1, length, length, dtype=torch.bool).tril()
        inputs = (weights, *rotary_factors(self.of[0], length, rows), prompt, image, scored, mask)
        any_length = _dimension("length")
        factors, square = {0: any_length + rows}, {2: any_length, 3: any_length}
        return inputs, (sizes, factors, factors, {0: any_length}, None, {0: _dimension("scored", rows)}, square)


class LaterStep(LaterPass):
    """Compute a step of an image whose prompt has been read, which settles the most probable codes in a fixed order."""

    def forward(  # type: ignore[override]
        self,
        weights: list[Tensor],
        cosines: Tensor,
        sines: Tensor,
        table: Tensor,
        head: Tensor,
        bias: Tensor,
        numbers: Tensor,
        image: Tensor,
        masked: Tensor,
        positions: Tensor,
        prefix: Tensor,
        priorities: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Return the next token ids, long (1, n), and which of them are masked again, bool (1, n).

        Args:
            weights: as for `LaterPass`, and so are all others that are not listed.
            cosines: likewise.
            sines: likewise.
            table: embeddings of all ids (ids, hidden_size).
            head: rows of the head for image codes (codebook_size, hidden_size).
            bias: likewise (codebook_size,).
            numbers: long (4,): ids of the border at the end, of a masked and of the first code; how many stay masked.
            image: long (1, 1 + n), token ids, of which the first opens the image.
            masked: bool (1, n), at least two are True.
            positions: long (masked positions, 2), their indices.
            prefix: likewise.
            priorities: of the positions, float32 (n,), see `generation.orders`.
        """
        eoi, mask_id, offset, count = numbers.unbind()
        opening, ids = image.split((1, image.shape[1] - 1), 1)
        rows = torch.cat([opening[0], torch.where(masked, mask_id, ids)[0], eoi[None]])
        hidden = super().forward(weights, cosines, sines, F.embedding(rows, table), positions[:, 1] + 1, prefix)
        logits = F.linear(hidden, head, bias)
        codes, again = settle_in_order(priorities, logits, 1, logits.new_zeros(0, 1), ids - offset, masked, count)
        return codes + offset, again

    def example(self, model: Showo) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """See `LaterPass.example`."""
        (weights, cosines, sines, image, scored, prefix), (*sizes, _, some_rows, length) = super().example(model)
        table, codebook = torch.zeros(model.config.vocab_size, image.shape[1]), model.config.codebook_size
        head, ids = torch.zeros(codebook, image.shape[1]), torch.zeros(1, 1 + len(scored), dtype=torch.long)
        numbers = torch.ones(4, dtype=torch.long)
        masked = torch.ones(1, len(scored), dtype=torch.bool)
        state = (ids, masked, masked.nonzero(), prefix, torch.arange(float(len(scored))))
        inputs = (weights, cosines, sines, table, head, torch.zeros(codebook), numbers, *state)
        codes = {0: _dimension("codes")}
        return inputs, (*sizes, {0: _dimension("vocabulary")}, codes, codes, None, None, None, some_rows, length, None)


def _dimension(name: str, largest: int | None = None) -> Any:
    """Return a size that may differ, 2 or more; it imports modules that only compiling needs."""
    return torch.export.Dim(name, min=2, max=largest)


@torch.no_grad()
def compile_package(module: LaterPass, model: Showo, path: Path) -> None:
    """Compile a pass or a step of a model to a package."""
    from torch._inductor import aoti_compile_and_package

    inputs, sizes = module.example(model)
    exported = torch.export.export(module, inputs, dynamic_shapes=sizes, strict=False)
    exported = exported.run_decompositions(_DECOMPOSITIONS)
    aoti_compile_and_package(exported, package_path=str(path), inductor_configs={"cpp.threads": 1})
