"""The Show-o transformer: Phi over one vocabulary of text and image ids, and a head on selected rows and ids.

Decisions:
- The backbone is Phi with normalised queries and keys; parameter names are the published ones (`showo.model...`,
  `showo.lm_head...`).
- `forward` is a plain pass over whole sequences; `packed_forward` uses a KV cache and computes nothing twice.
- Both return hidden states. The head is 10 % of a forward pass at full size, and image denoising needs it on the
  codebook only, text on a few rows only; so callers pass to `logits` the rows and ids they need.
- Logits of image tokens are read at the token's own position, logits of text tokens one position earlier.
- Activations begin in `embed`, in float32 on the CPU even where weights are stored in half precision
  (`backends.linear`).
- The `w_clip_vit` variant has a projector for CLIP features; `showo_features` adds them to the embeddings.
"""

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Self, cast

import torch
from torch import Tensor, nn

from showo_turbo.backends.compiled_layers import compile_layer_ops
from showo_turbo.backends.cuda_graphs import CudaGraphRecorder, CudaGraphRunner
from showo_turbo.backends.linear import GeluMLP, arithmetic_dtype, linear, pack_layers, upcast
from showo_turbo.backends.quantization import plain_tensors, quantization_of
from showo_turbo.configuration import BackboneConfig, ShowoConfig
from showo_turbo.models.clip_projector import ClipProjector
from showo_turbo.models.packed_forward import LayerOps, PackedSequences, packed_forward
from showo_turbo.models.phi import TANH_GELUS, PhiLanguageModel, PhiLayer

if TYPE_CHECKING:
    from transformers import PhiConfig

    from showo_turbo.backends.compiled_passes import ImagePasses


class Showo(nn.Module):
    """Show-o transformer (arXiv 2408.12528, section 3) for text to image and understanding."""

    def __init__(self, config: ShowoConfig, phi_config: "PhiConfig | BackboneConfig") -> None:
        """Build with random weights; `phi_config.vocab_size` counts text ids, special tokens and image codes."""
        super().__init__()
        self.config = config
        self.showo = PhiLanguageModel(cast(BackboneConfig, phi_config))
        if phi_config.hidden_act in TANH_GELUS:
            for layer in cast(Iterable[PhiLayer], self.showo.model.layers):
                layer.mlp = GeluMLP(layer.mlp)
        if config.w_clip_vit:
            self.mm_projector = ClipProjector(config.clip_feature_size, phi_config.hidden_size)
        upcast(self)
        self.layer_ops = LayerOps()
        self.cuda_graphs: CudaGraphRunner | None = None
        self.image_passes: ImagePasses | None = None
        self._derived: dict[Hashable, Tensor] = {}
        self._derived_from: tuple | None = None

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.showo.lm_head.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Dtype that the weights are stored in."""
        return self.showo.lm_head.weight.dtype

    @property
    def quantization(self) -> str | None:
        """Quantization of the layers' matrices: "int8", "float8" or None."""
        return quantization_of(self)

    @property
    def max_positions(self) -> int:
        """Length of the longest sequence."""
        return self.showo.config.max_position_embeddings

    def compile(self, mode: str | None = None) -> None:
        """Compile the position-wise functions of `packed_forward`; see `ShowoPipeline.compile`."""
        self._pack()
        like = self.embed(torch.zeros(1, 1, dtype=torch.long, device=self.device))
        self.layer_ops = compile_layer_ops(cast(PhiLayer, self.showo.model.layers[0]), like, mode)

    def use_cuda_graphs(self) -> None:
        """Record forward passes that occur again as CUDA graphs; see `ShowoPipeline.use_cuda_graphs`."""
        self.cuda_graphs = CudaGraphRunner(CudaGraphRecorder(self.device))

    def _apply(self, *args: Any, **kwargs: Any) -> Self:
        """Move or cast weights; CUDA graphs hold their addresses and packages their dtype, so both are dropped here."""
        self.cuda_graphs, self.image_passes = None, None
        return super()._apply(*args, **kwargs)

    def packed_forward(self, embeddings: Tensor, groups: Sequence[PackedSequences]) -> Tensor:
        """Return hidden states of the scored rows, (scored rows, hidden_size); see `models.packed_forward`."""
        self._pack()
        runner = self.cuda_graphs or self.image_passes
        run = packed_forward if runner is None else runner.run
        with torch.inference_mode():  # hidden states have no gradient; logits may, so the head is not in here
            return run(self.showo.model, self.layer_ops, embeddings, groups)

    def _pack(self) -> None:
        """Prepare the layers for `packed_forward`; recorded passes read weights from where they were."""
        if pack_layers(self.showo.model) and self.cuda_graphs is not None:
            self.cuda_graphs.forget()

    def derived(self, key: Hashable, compute: Callable[[], Tensor]) -> Tensor:
        """Return a tensor that depends on the weights alone, computed once and again when the weights change.

        Addresses and version counters tell whether weights were replaced or written to, and one number of each weight
        is compared as well, since fused optimizers write without counting.
        """
        self._pack()  # first, since it moves weights
        weights = [part.detach() for weight in self.parameters() for part in plain_tensors(weight) if part.numel()]
        counters = tuple((one.data_ptr(), 0 if one.is_inference() else one._version) for one in weights)
        derived_from = counters, tuple(torch.stack([one[(0,) * one.ndim].float() for one in weights]).tolist())
        if derived_from != self._derived_from:
            self._derived, self._derived_from = {}, derived_from
        if key not in self._derived:
            self._derived[key] = compute()
        return self._derived[key]

    def embed(self, ids: Tensor) -> Tensor:
        """Return embeddings (..., hidden_size) of ids, long (...), in the dtype to compute in."""
        embeddings = self.showo.model.embed_tokens(ids)
        return embeddings.to(arithmetic_dtype(embeddings))

    def forward(
        self,
        ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
    ) -> Tensor:
        """Compute hidden states of a batch of sequences.

        Args:
            ids: long (batch, length).
            attention_mask: bool (batch or 1, 1, length, length), True where a row may attend; causal if left out.
            position_ids: long (batch or 1, length); counted from 0 if left out.

        Returns:
            (batch, length, hidden_size), after the final layer norm.
        """
        return self.showo.model(
            inputs_embeds=self.embed(ids),
            attention_mask=attention_mask,
            position_ids=position_ids,
        ).last_hidden_state

    def logits(self, hidden: Tensor, first_id: int = 0, last_id: int | None = None) -> Tensor:
        """Return logits of the ids first_id..last_id-1, float32 (..., ids), of hidden states (..., hidden)."""
        head = self.showo.lm_head
        return linear(hidden, head.weight[first_id:last_id], head.bias[first_id:last_id]).float()
