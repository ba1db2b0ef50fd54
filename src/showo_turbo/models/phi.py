"""Phi, the language model under Show-o: embeddings, layers, and a head over the vocabulary.

    ids --embed_tokens--> hidden --layers--> hidden --final_layernorm--> hidden --lm_head--> logits

Decisions:
- Parameter names, initial weights and results are those of `PhiForCausalLM` of the transformers library with GELU as
  one kernel, bit by bit (`tests/models/test_phi.py`). Importing that class takes 3 seconds of CPU time, more than
  loading a small model and drawing an image with it; these modules take none.
- Only what Show-o uses is here: no generation, and attention by `scaled_dot_product_attention`. Rare variants, scaled
  rotary embeddings and other activations than GELU, are imported from transformers where a config names them.
- A config is a `BackboneConfig`, or a `PhiConfig` of transformers, which has the same fields.
"""

from typing import Any, NamedTuple, Protocol, Self, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from showo_turbo.configuration import BackboneConfig

TANH_GELUS = ("gelu_new", "gelu_pytorch_tanh")
"""Names of the same function."""


class PhiOutput(NamedTuple):
    """Hold the result of `PhiBackbone`."""

    last_hidden_state: Tensor


class PhiRotaryEmbedding(nn.Module):
    """Compute the rotary embedding of positions; frequencies are computed on the CPU, and not stored."""

    inv_freq: Tensor

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        rotated = rotated_size(config)
        exponents = torch.arange(0, rotated, 2, dtype=torch.float, device="cpu") / rotated
        self.register_buffer("inv_freq", 1.0 / (config.rope_parameters["rope_theta"] ** exponents), persistent=False)

    def forward(self, x: Tensor, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Return cosines and sines, each (batch, length, rotated size), of positions, long (batch, length), as `x`."""
        angles = position_ids[..., None].float() * self.inv_freq.to(device=x.device, dtype=torch.float)
        angles = torch.cat((angles, angles), dim=-1)
        return angles.cos().to(x.dtype), angles.sin().to(x.dtype)


class PhiAttention(nn.Module):
    """Attend with normalised queries and keys and a rotary embedding of a part of each head."""

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        width, heads, kv_heads = config.hidden_size, config.num_attention_heads, config.num_key_value_heads or 0
        self.head_dim = width // heads
        self.heads, self.kv_heads, self.is_grouped = heads, kv_heads, kv_heads < heads
        self.scaling = self.head_dim**-0.5
        self.attention_dropout = config.attention_dropout or 0.0
        self.q_proj = nn.Linear(width, heads * self.head_dim)
        self.k_proj = nn.Linear(width, kv_heads * self.head_dim)
        self.v_proj = nn.Linear(width, kv_heads * self.head_dim)
        self.dense = nn.Linear(heads * self.head_dim, width)
        self.rotary_ndims = rotated_size(config)
        self.qk_layernorm = config.qk_layernorm
        if self.qk_layernorm:
            self.q_layernorm = nn.LayerNorm(self.head_dim, eps=config.layer_norm_eps)
            self.k_layernorm = nn.LayerNorm(self.head_dim, eps=config.layer_norm_eps)

    def forward(self, hidden: Tensor, mask: Tensor | None, rotary: tuple[Tensor, Tensor]) -> Tensor:
        """(batch, length, hidden_size), unchanged in shape; `mask` and `rotary` as `PhiBackbone` computes them."""
        queries, keys, values = (
            project(hidden).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        if self.qk_layernorm:
            queries, keys = self.q_layernorm(queries), self.k_layernorm(keys)
        mixed = F.scaled_dot_product_attention(
            self._rotate(queries, rotary),
            self._rotate(keys, rotary),
            values,
            attn_mask=mask,
            dropout_p=self.attention_dropout if self.training else 0.0,
            scale=self.scaling,
            is_causal=mask is None and hidden.shape[1] > 1,
            enable_gqa=self.is_grouped,
        )
        return self.dense(mixed.transpose(1, 2).flatten(2))

    def _rotate(self, states: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
        """Apply the rotary embedding to the first part of each head, (batch, heads, length, head size)."""
        cosines, sines = (one[:, None] for one in rotary)
        turned, rest = states[..., : self.rotary_ndims], states[..., self.rotary_ndims :]
        first, second = turned.chunk(2, -1)
        turned = turned * cosines + torch.cat((-second, first), dim=-1) * sines
        return torch.cat((turned, rest), dim=-1)


class PhiMLP(nn.Module):
    """Apply two linear layers with an activation in between."""

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.activation_fn = _activation(config.hidden_act)
        self.fc1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        """(..., hidden_size), unchanged in shape."""
        return self.fc2(self.activation_fn(self.fc1(x)))


class LayerLinears(Protocol):
    """Compute queries, keys and values of a `PhiLayer` on rows, for inference; see `models.packed_forward`."""

    is_transposed: bool
    """Whether the matrices of the layer are stored column by column."""

    def attention(self, normed: Tensor, parts: slice) -> Tensor:
        """Return some parts, (parts, rows, kv heads * head size), of the input of attention.

        Args:
            normed: (rows, hidden_size).
            parts: queries, of several parts if there are more heads than kv heads, keys and values.
        """


class PhiLayer(nn.Module):
    """Add attention and MLP, both of the normalised input, to the input.

    Attributes:
        linears: how inference computes the linear layers; None until `backends.linear.pack_layers` chooses it.
    """

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.self_attn = PhiAttention(config)
        self.mlp: nn.Module = PhiMLP(config)
        self.input_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.resid_dropout = nn.Dropout(config.resid_pdrop)
        self.linears = cast(LayerLinears, None)

    def unpack(self) -> None:
        """Store each parameter by itself again, contiguously."""
        if self.linears is not None:
            for parameter in self.parameters():
                if parameter.untyped_storage().nbytes() > parameter.nbytes or not parameter.is_contiguous():
                    parameter.data = parameter.data.clone(memory_format=torch.contiguous_format)
        self.linears = cast(LayerLinears, None)

    def train(self, mode: bool = True) -> Self:
        """Set the mode; optimizers expect contiguous parameters, so weights are unpacked for training."""
        if mode:
            self.unpack()
        return super().train(mode)

    def _apply(self, *args: Any, **kwargs: Any) -> Self:
        """Move or cast the parameters, which makes them tensors of their own."""
        self.linears = cast(LayerLinears, None)
        return super()._apply(*args, **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        """Return what copies and pickles hold: parameters, each by itself, and no compiled code."""
        self.unpack()
        return super().__getstate__()

    def forward(self, hidden: Tensor, mask: Tensor | None, rotary: tuple[Tensor, Tensor]) -> Tensor:
        """(batch, length, hidden_size), unchanged in shape; `mask` and `rotary` as `PhiBackbone` computes them."""
        normed = self.input_layernorm(hidden)
        mixed = self.resid_dropout(self.self_attn(normed, mask, rotary))
        return mixed + self.resid_dropout(self.mlp(normed)) + hidden


class PhiBackbone(nn.Module):
    """Hold embeddings, layers and the final norm.

    Attributes:
        gradient_checkpointing: compute activations of a layer again in the backward pass, in training mode.
    """

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        table = torch.empty(config.vocab_size, config.hidden_size)  # drawing on the meta device imports torch._dynamo
        self.embed_tokens = nn.Embedding(
            config.vocab_size, config.hidden_size, config.pad_token_id, _weight=table if table.is_meta else None
        )
        self.layers = nn.ModuleList([PhiLayer(config) for _ in range(config.num_hidden_layers)])
        self.rotary_emb = _rotary_embedding(config)
        self.embed_dropout = nn.Dropout(config.embd_pdrop)
        self.final_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.gradient_checkpointing = False
        _initialise(self, config)

    def forward(
        self, inputs_embeds: Tensor, attention_mask: Tensor | None = None, position_ids: Tensor | None = None
    ) -> PhiOutput:
        """Compute hidden states after the final norm.

        Args:
            inputs_embeds: (batch, length, hidden_size).
            attention_mask: bool (batch or 1, 1, length, length), True where a row may attend; causal if left out.
            position_ids: long (batch or 1, length); counted from 0 if left out.
        """
        if position_ids is None:
            position_ids = torch.arange(inputs_embeds.shape[1], device=inputs_embeds.device)[None]
        hidden = self.embed_dropout(inputs_embeds)
        rotary = self.rotary_emb(hidden, position_ids)
        recompute = self.gradient_checkpointing and self.training and torch.is_grad_enabled()
        for layer in self.layers:
            if recompute:
                hidden = checkpoint(layer, hidden, attention_mask, rotary, use_reentrant=False)
            else:
                hidden = layer(hidden, attention_mask, rotary)
        return PhiOutput(self.final_layernorm(hidden))


class PhiLanguageModel(nn.Module):
    """Hold the backbone and its head over the vocabulary."""

    def __init__(self, config: BackboneConfig) -> None:
        """Build with random weights."""
        super().__init__()
        self.config = config
        self.model = PhiBackbone(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size)
        _initialise(self.lm_head, config)


def rotated_size(config: BackboneConfig) -> int:
    """Return the size of the part of a head that the rotary embedding turns."""
    return int(config.hidden_size // config.num_attention_heads * config.rope_parameters["partial_rotary_factor"])


def _rotary_embedding(config: BackboneConfig) -> nn.Module:
    if config.rope_parameters["rope_type"] == "default":
        return PhiRotaryEmbedding(config)
    from transformers.models.phi.modeling_phi import PhiRotaryEmbedding as ScaledRotaryEmbedding

    return ScaledRotaryEmbedding(cast(Any, config))


def _activation(name: str) -> nn.Module:
    if name in TANH_GELUS:
        return nn.GELU(approximate="tanh")
    from transformers.activations import ACT2FN

    return ACT2FN[name]


def _initialise(module: nn.Module, config: BackboneConfig) -> None:
    """Draw the matrices inside a module from a normal distribution; biases are 0. Modules on the meta device stay."""
    if next(module.parameters()).is_meta:
        return
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Embedding):
            nn.init.normal_(layer.weight, std=config.initializer_range)
        if isinstance(layer, nn.Linear):
            nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.Embedding) and layer.padding_idx is not None:
            nn.init.zeros_(layer.weight[layer.padding_idx])
