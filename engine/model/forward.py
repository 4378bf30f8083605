"""The forward pass: token ids → last hidden states, over the rows of a ragged cache, without padding.

The layers are those of Llama, Mistral, Qwen2 and Qwen3. transformers' own forward pass computes the same and costs 20
ms more per token of a small model on two cores. All tokens of all rows go through a layer as one [tokens, width]
matrix; only attention looks at rows (`engine.model.kv_cache.RaggedAttention`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import nn

from engine.errors import WeightsError
from engine.model.kv_cache import RaggedAttention, head_dim

FAMILIES = ("llama", "mistral", "qwen2", "qwen3")  # `model_type` of the configurations whose layers are these
ROTARY = ("default", "linear", "llama3", "yarn")  # depend on the position alone, and not on the length of the text

_CosAndSin = tuple[torch.Tensor, torch.Tensor]


def joined(layers: Sequence[nn.Module]) -> nn.Module:
    """Layers that read the same input as one, inputs [n, in] → the outputs of all, side by side [n, out]."""
    return layers[0] if len(layers) == 1 else SideBySide(layers)


class SideBySide(nn.Module):
    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self._layers = nn.ModuleList(layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([layer(x) for layer in self._layers], dim=-1)


@dataclass
class Layer:
    """One decoder layer: its products, and the weights of its norms [d] or [head_dim] (None: not normalised)."""

    attention_norm: torch.Tensor
    qkv: nn.Module
    q_norm: torch.Tensor | None
    k_norm: torch.Tensor | None
    o: nn.Module
    mlp_norm: torch.Tensor
    gate_up: nn.Module
    down: nn.Module

    @property
    def products(self) -> tuple[nn.Module, ...]:
        """In the order in which a pass reads them."""
        return self.qkv, self.o, self.gate_up, self.down

    @property
    def norms(self) -> list[torch.Tensor]:
        norms = (self.attention_norm, self.q_norm, self.k_norm, self.mlp_norm)
        return [norm for norm in norms if norm is not None]


def layer_of(layer: Any) -> Layer:
    """A layer of transformers, whose modules stay usable."""
    attention, mlp = layer.self_attn, layer.mlp
    return Layer(
        attention_norm=layer.input_layernorm.weight,
        qkv=joined([attention.q_proj, attention.k_proj, attention.v_proj]),
        q_norm=attention.q_norm.weight if hasattr(attention, "q_norm") else None,
        k_norm=attention.k_norm.weight if hasattr(attention, "k_norm") else None,
        o=attention.o_proj,
        mlp_norm=layer.post_attention_layernorm.weight,
        gate_up=joined([mlp.gate_proj, mlp.up_proj]),
        down=mlp.down_proj,
    )


class Trunk:
    """All of a model but its `lm_head`."""

    def __init__(self, decoder: Any, config: Any, name: str) -> None:
        """Takes a decoder of transformers (`model.get_decoder()`) or of the store.

        A WeightsError if the architecture does something that this pass does not reproduce.
        """
        refuse_unsupported(config, name)
        self._embed = decoder.embed_tokens
        self._rotary = decoder.rotary_emb
        self._norm: torch.Tensor = decoder.norm.weight
        self.dtype = self._norm.dtype  # of activations and caches
        self._eps: float = config.rms_norm_eps
        self._heads, self._kv_heads = config.num_attention_heads, config.num_key_value_heads
        self._head_dim = head_dim(config)
        self._layers = [each if isinstance(each, Layer) else layer_of(each) for each in decoder.layers]
        # By position; sin carries the sign of the half that is rotated.
        self._cos = self._sin = torch.empty(0, self._head_dim)

    @property
    def size(self) -> tuple[int, int]:
        """Bytes that a pass reads of its weights, and how many weights its matrices have."""
        sizes = [size_of(product) for layer in self._layers for product in layer.products]
        norms = [self._norm, *(norm for layer in self._layers for norm in layer.norms)]
        return sum(size for size, _ in sizes) + sum(norm.nbytes for norm in norms), sum(count for _, count in sizes)

    @cached_property
    def batch_invariant(self) -> bool:
        """Whether all but attention gives the same for a token, to the bit, in a pass of any length."""
        products = [product for layer in self._layers for product in layer.products]
        return all(getattr(product, "batch_invariant", False) for product in products)

    def __call__(self, ids: torch.Tensor, attention: RaggedAttention) -> torch.Tensor:
        """Reads new tokens, int64 [tokens], row after row → hidden states after the final norm [tokens, d]."""
        rotary = self._cos_and_sin(attention, ids.device)
        hidden = self._embed(ids)
        for number, layer in enumerate(self._layers):
            normed = self._normed(hidden, layer.attention_norm)
            hidden = hidden + layer.o(self._attend(number, layer, normed, attention, rotary))
            gate, up = layer.gate_up(self._normed(hidden, layer.mlp_norm)).chunk(2, dim=-1)
            hidden += layer.down(nn.functional.silu(gate).mul_(up))
        return self._normed(hidden, self._norm)

    def _attend(
        self, number: int, layer: Layer, normed: torch.Tensor, attention: RaggedAttention, rotary: _CosAndSin
    ) -> torch.Tensor:
        """Attention of one layer: normalised states [tokens, d] → [tokens, heads · head_dim]."""
        heads = layer.qkv(normed).view(len(normed), -1, self._head_dim)
        (cos, sin), with_keys = rotary, self._heads + self._kv_heads
        rotated, values = heads[:, :with_keys], heads[:, with_keys:]
        if layer.q_norm is not None and layer.k_norm is not None:
            queries, keys = rotated[:, : self._heads], rotated[:, self._heads :]
            rotated = torch.cat([self._normed(queries, layer.q_norm), self._normed(keys, layer.k_norm)], dim=1)
        rotated = torch.addcmul(rotated * cos, rotated.roll(self._head_dim // 2, -1), sin)
        attention.store(number, rotated[:, self._heads :], values)
        return attention.attend(number, rotated[:, : self._heads])

    def _normed(self, states: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return nn.functional.rms_norm(states, weight.shape, weight, self._eps)

    def _cos_and_sin(self, attention: RaggedAttention, device: torch.device) -> _CosAndSin:
        """Of the rotary embedding at the pass's positions, each [tokens, 1, head_dim]."""
        if attention.end > len(self._cos):
            positions = torch.arange(max(attention.end, 2 * len(self._cos), 256), device=device)[None]
            cos, sin = self._rotary(self._norm, positions)
            self._cos, self._sin = cos[0], sin[0]
            self._sin[:, : self._head_dim // 2] *= -1
        return self._cos[attention.positions][:, None], self._sin[attention.positions][:, None]


def refuse_unsupported(config: Any, name: str) -> None:
    """Raises a WeightsError, with all reasons, if the architecture does something that this pass does not reproduce."""
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if not hasattr(config, "layer_types") and getattr(config, "sliding_window", None):
        kinds = {"sliding_attention"}
    rotary = (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default")
    activation = getattr(config, "hidden_act", "silu")
    faults = {
        f"its layers are not those of {', '.join(FAMILIES)}": config.model_type not in FAMILIES,
        f"it uses {', '.join(sorted(kinds))}": kinds != {"full_attention"},
        "its logits are soft-capped": getattr(config, "final_logit_softcapping", None),
        f"its activation is {activation}": activation != "silu",
        f"its rotary embedding ({rotary}) depends on the length of the text": rotary not in ROTARY,
    }
    if reasons := [reason for reason, wrong in faults.items() if wrong]:
        raise WeightsError(
            f"{name} ({config.model_type}) cannot be decoded by this engine: {'; '.join(reasons)}. "
            "Choose a model with full attention and plain logits, such as Qwen2.5 or Llama 3."
        )


def size_of(module: nn.Module) -> tuple[int, int]:
    """Bytes that a pass is charged for a module, all of whose parameters it reads, and the weights of its matrices."""
    parts: list[Any] = list(module.modules())
    size = sum(getattr(part, "weight_bytes", 0) for part in parts) + sum(map(charged_bytes, module.parameters()))
    return size, sum(part.in_features * part.out_features for part in parts if hasattr(part, "in_features"))


def charged_bytes(parameter: torch.Tensor) -> int:
    """Bytes that a pass is charged for one parameter: of NF4 half a byte and a bf16 scale, however it is stored."""
    state = getattr(parameter, "quant_state", None)
    if state is None:
        return parameter.nbytes
    weights = math.prod(state.shape)
    return weights // 2 + torch.bfloat16.itemsize * -(-weights // state.blocksize)
