"""The forward pass: token ids → last hidden states, over the rows of a ragged cache, without padding.

The layers are those of Llama, Mistral, Qwen2 and Qwen3, with weights as transformers loaded them. transformers' own
forward pass computes the same and costs 20 ms more per token of a small model on two cores: masks, hooks and cache
bookkeeping at each call, three products where one would do. All tokens of all rows go through a layer as one [tokens,
width] matrix, however many each row has; only attention looks at rows (`engine.cache.Pass`).

Knows one model's layers. Knows nothing of `lm_head`, roles or routing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from engine.cache import Pass
from engine.errors import WeightsError
from engine.linear import Linear

FAMILIES = ("llama", "mistral", "qwen2", "qwen3")
"""`model_type` of the configurations whose layers are these."""
ROTARY = ("default", "linear", "llama3", "yarn")
"""Rotary embeddings that depend on the position alone, and not on the length of the text."""


@dataclass(frozen=True)
class _Layer:
    """One decoder layer: its products, and the weights of its norms [d] or [head_dim] (None: not normalised)."""

    attention_norm: torch.Tensor
    qkv: Linear
    q_norm: torch.Tensor | None
    k_norm: torch.Tensor | None
    o: Linear
    mlp_norm: torch.Tensor
    gate_up: Linear
    down: Linear


class Trunk:
    """All of a model but its `lm_head`."""

    def __init__(self, decoder: Any, config: Any, name: str, copy: torch.dtype | None) -> None:
        """Takes the layers of a loaded model, whose modules stay usable.

        Args:
            decoder: transformers' decoder (`model.get_decoder()`).
            config: Its configuration.
            name: For people.
            copy: See `engine.linear.Linear`.

        Raises:
            WeightsError: The architecture does something this pass does not reproduce, so its text would silently
                differ from `generate`.
        """
        _refuse_unsupported(config, name)
        self._embed = decoder.embed_tokens
        self._rotary = decoder.rotary_emb
        self._norm: torch.Tensor = decoder.norm.weight
        self._eps: float = config.rms_norm_eps
        self._heads, self._kv_heads = config.num_attention_heads, config.num_key_value_heads
        self._head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self._layers = [_layer(each, copy) for each in decoder.layers]
        # cos and sin by position; sin carries the sign of the half that is turned.
        self._cos = self._sin = torch.empty(0, self._head_dim)

    def __call__(self, ids: torch.Tensor, step: Pass) -> torch.Tensor:
        """Reads new tokens.

        Args:
            ids: int64 [tokens], row after row.
            step: Where they stand; their keys and values are stored there.

        Returns:
            Hidden states after the final norm [tokens, d].
        """
        cos, sin = self._turns(step, ids.device)
        hidden = self._embed(ids)
        for number, layer in enumerate(self._layers):
            hidden = hidden + layer.o(
                self._attend(number, layer, self._normed(hidden, layer.attention_norm), step, cos, sin)
            )
            gate, up = layer.gate_up(self._normed(hidden, layer.mlp_norm)).chunk(2, dim=-1)
            hidden += layer.down(nn.functional.silu(gate).mul_(up))
        return self._normed(hidden, self._norm)

    def _attend(
        self, number: int, layer: _Layer, normed: torch.Tensor, step: Pass, cos: torch.Tensor, sin: torch.Tensor
    ) -> torch.Tensor:
        """Attention of one layer: normalised states [tokens, d] → [tokens, heads · head_dim]."""
        heads = layer.qkv(normed).view(len(normed), -1, self._head_dim)
        turning = self._heads + self._kv_heads
        turned, values = heads[:, :turning], heads[:, turning:]
        if layer.q_norm is not None and layer.k_norm is not None:
            queries, keys = turned[:, : self._heads], turned[:, self._heads :]
            turned = torch.cat([self._normed(queries, layer.q_norm), self._normed(keys, layer.k_norm)], dim=1)
        turned = torch.addcmul(turned * cos, turned.roll(self._head_dim // 2, -1), sin)
        step.store(number, turned[:, self._heads :], values)
        return step.attend(number, turned[:, : self._heads])

    def _normed(self, states: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return nn.functional.rms_norm(states, weight.shape, weight, self._eps)

    def _turns(self, step: Pass, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """Rotary cos and sin of the pass's positions, each [tokens, 1, head_dim]."""
        if step.end > len(self._cos):
            positions = torch.arange(max(step.end, 2 * len(self._cos), 256), device=device)[None]
            cos, sin = self._rotary(self._norm, positions)
            self._cos, self._sin = cos[0], sin[0]
            self._sin[:, : self._head_dim // 2] *= -1
        return self._cos[step.positions][:, None], self._sin[step.positions][:, None]


def _layer(layer: Any, copy: torch.dtype | None) -> _Layer:
    attention, mlp = layer.self_attn, layer.mlp
    return _Layer(
        attention_norm=layer.input_layernorm.weight,
        qkv=Linear([attention.q_proj, attention.k_proj, attention.v_proj], copy),
        q_norm=attention.q_norm.weight if hasattr(attention, "q_norm") else None,
        k_norm=attention.k_norm.weight if hasattr(attention, "k_norm") else None,
        o=Linear([attention.o_proj], copy),
        mlp_norm=layer.post_attention_layernorm.weight,
        gate_up=Linear([mlp.gate_proj, mlp.up_proj], copy),
        down=Linear([mlp.down_proj], copy),
    )


def _refuse_unsupported(config: Any, name: str) -> None:
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if not hasattr(config, "layer_types") and getattr(config, "sliding_window", None):
        kinds = {"sliding_attention"}
    rotary = (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default")
    reasons = [
        reason
        for wrong, reason in (
            (config.model_type not in FAMILIES, f"its layers are not those of {', '.join(FAMILIES)}"),
            (kinds != {"full_attention"}, f"it uses {', '.join(sorted(kinds))}"),
            (getattr(config, "final_logit_softcapping", None), "its logits are soft-capped"),
            (getattr(config, "hidden_act", "silu") != "silu", f"its activation is {getattr(config, 'hidden_act', '')}"),
            (rotary not in ROTARY, f"its rotary embedding ({rotary}) depends on the length of the text"),
        )
        if wrong
    ]
    if reasons:
        raise WeightsError(
            f"{name} ({config.model_type}) cannot be decoded by this engine: {'; '.join(reasons)}. "
            "Choose a model with full attention and plain logits, such as Qwen2.5 or Llama 3."
        )
