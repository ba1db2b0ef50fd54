"""The Show-o transformer: Phi over one vocabulary of text and image ids, and a head on chosen rows and ids.

Decisions:
- The backbone is transformers' Phi with normalised queries and keys; parameter names are the published ones
  (`showo.model...`, `showo.lm_head...`).
- `forward` is a plain pass over whole sequences; `passes` is the one that computes nothing twice.
- It stops at the hidden states. The head is 10 % of a pass at full size, and image denoising needs it on the
  codebook only, text on a few rows only; so callers ask `logits` for the rows and ids they will look at.
- Logits of image tokens are read at the token's own position, logits of text tokens one position earlier.
- Activations begin in `embed`, in float32 on the CPU even where weights are stored in half precision; see `upcasting`.
- The `w_clip_vit` variant has a projector for CLIP features besides; `showo_features` shows them to the transformer.
"""

from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn
from transformers import PhiConfig, PhiForCausalLM

from showo_turbo.backends.cuda_graphs import CudaGraphRecorder, GraphRunner, PlainRunner, Runner
from showo_turbo.backends.int8 import is_int8
from showo_turbo.backends.linear import GeluMLP, arithmetic_dtype, linear, upcast
from showo_turbo.configuration import ShowoConfig
from showo_turbo.models.clip_projector import ClipProjector
from showo_turbo.models.layer_ops import RowMath, compile_row_math
from showo_turbo.models.packed_forward import Part

_TANH_GELUS = ("gelu_new", "gelu_pytorch_tanh")
"""Names of one function."""


class Showo(nn.Module):
    """Show-o (arXiv 2408.12528, section 3): one transformer for text to image and understanding."""

    def __init__(self, config: ShowoConfig, phi_config: PhiConfig) -> None:
        """Build with random weights; `phi_config.vocab_size` is the whole vocabulary's."""
        super().__init__()
        self.config = config
        self.showo = PhiForCausalLM(phi_config)
        if phi_config.hidden_act in _TANH_GELUS:
            for layer in self.showo.model.layers:
                layer.mlp = GeluMLP(layer.mlp)
        if config.w_clip_vit:
            self.mm_projector = ClipProjector(config.clip_feature_size, phi_config.hidden_size)
        upcast(self)
        self.row_math = RowMath()
        self.runner: Runner = PlainRunner()

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.showo.lm_head.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """What the weights are stored as."""
        return self.showo.lm_head.weight.dtype

    @property
    def quantization(self) -> str | None:
        """What the layers' matrices are quantized to: "int8", or None if they are not."""
        return "int8" if is_int8(self) else None

    @property
    def max_positions(self) -> int:
        """Longest sequence the backbone was made for."""
        return self.showo.config.max_position_embeddings

    def compile(self, mode: str | None = None) -> None:
        """Compile what `passes` computes of each row, with `torch.compile`; see `ShowoPipeline.compile`."""
        like = self.embed(torch.zeros(1, 1, dtype=torch.long, device=self.device))
        self.row_math = compile_row_math(self.showo.model.layers[0], like, mode)

    def use_cuda_graphs(self) -> None:
        """Record passes that come again as CUDA graphs; see `ShowoPipeline.use_cuda_graphs`."""
        self.runner = GraphRunner(CudaGraphRecorder(self.device))

    def _apply(self, *args: Any, **kwargs: Any) -> Self:
        """What moves or casts weights also ends the use of recordings, which hold for the weights where they were."""
        self.runner = PlainRunner()
        return super()._apply(*args, **kwargs)

    def run_pass(self, embeddings: Tensor, parts: Sequence[Part]) -> Tensor:
        """Hidden states of the rows asked for, (asked rows, hidden_size); see `passes.run_pass`."""
        with torch.inference_mode():  # what comes out may not meet autograd; scores may, so the head is not in here
            return self.runner.run(self.showo.model, self.row_math, embeddings, parts)

    def embed(self, ids: Tensor) -> Tensor:
        """Embeddings (batch, length, hidden_size) of ids, long (batch, length), in the precision to compute in."""
        embeddings = self.showo.model.embed_tokens(ids)
        return embeddings.to(arithmetic_dtype(embeddings))

    def forward(
        self,
        ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
    ) -> Tensor:
        """Hidden states of a batch of sequences.

        Args:
            ids: long (batch, length).
            attention_mask: bool (batch or 1, 1, length, length), True where a row may look; causal if left out.
            position_ids: long (batch or 1, length); counted from 0 if left out.

        Returns:
            (batch, length, hidden_size), after the final layer norm.
        """
        return self.showo.model(
            inputs_embeds=self.embed(ids),
            attention_mask=attention_mask,
            position_ids=position_ids,
            use_cache=False,
        ).last_hidden_state

    def logits(self, hidden: Tensor, first_id: int = 0, last_id: int | None = None) -> Tensor:
        """Scores of the ids first_id..last_id-1, all by default: float32 (..., ids) for hidden states (..., hidden)."""
        head = self.showo.lm_head
        return linear(hidden, head.weight[first_id:last_id], head.bias[first_id:last_id]).float()
