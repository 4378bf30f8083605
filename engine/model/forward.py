"""The forward pass: token ids → last hidden states, over the rows of a ragged cache, without padding.

The layers are those of Llama, Mistral, Qwen2 and Qwen3. transformers' own forward pass computes the same and costs 20
ms more per token of a small model on two cores. All tokens of all rows go through a layer as one [tokens, width]
matrix; only attention looks at rows (`engine.model.kv_cache.RaggedAttention`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from engine.model.kv_cache import RaggedAttention, head_dim

_CosAndSin = tuple[torch.Tensor, torch.Tensor]


def joined(layers: Sequence[nn.Module]) -> nn.Module:
    """Layers that read the same input as one."""
    return layers[0] if len(layers) == 1 else SideBySide(layers)


class SideBySide(nn.ModuleList):
    """Inputs [n, in] → the outputs of all its layers, side by side [n, out]."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([layer(x) for layer in self], dim=-1)


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


def layer_of(
    number: int,
    names: Container[str],
    vector: Callable[[str], torch.Tensor],
    product: Callable[[Sequence[str]], nn.Module],
) -> Layer:
    """A layer of transformers or of the store, found by transformers' names; `product` joins matrices of one input."""
    at = f"model.layers.{number}"
    attention, mlp = f"{at}.self_attn", f"{at}.mlp"
    q_norm, k_norm = f"{attention}.q_norm.weight", f"{attention}.k_norm.weight"
    return Layer(
        attention_norm=vector(f"{at}.input_layernorm.weight"),
        qkv=product([f"{attention}.{each}_proj" for each in "qkv"]),
        q_norm=vector(q_norm) if q_norm in names else None,
        k_norm=vector(k_norm) if k_norm in names else None,
        o=product([f"{attention}.o_proj"]),
        mlp_norm=vector(f"{at}.post_attention_layernorm.weight"),
        gate_up=product([f"{mlp}.gate_proj", f"{mlp}.up_proj"]),
        down=product([f"{mlp}.down_proj"]),
    )


class Trunk:
    """All of a model but its `lm_head`."""

    def __init__(self, model: Any) -> None:
        """Takes a model of transformers, whose modules stay usable, or of the store."""
        decoder, config = model.model, model.config
        self._embed = decoder.embed_tokens
        self._frequencies, self._factor = frequencies(config)
        self._norm: torch.Tensor = decoder.norm.weight
        self.dtype = self._norm.dtype  # of activations and caches
        self._eps: float = config.rms_norm_eps
        self._heads, self._kv_heads = config.num_attention_heads, config.num_key_value_heads
        self._head_dim = head_dim(config)
        self._layers: list[Layer] = decoder.layers
        if isinstance(model, nn.Module):
            vectors = dict(model.named_parameters())
            about = vectors, vectors.__getitem__, lambda names: joined([model.get_submodule(name) for name in names])
            self._layers = [layer_of(number, *about) for number in range(config.num_hidden_layers)]
        parts = [part for layer in self._layers for part in vars(layer).values()]
        self.products = [part for part in parts if isinstance(part, nn.Module)]
        self._norms = [self._norm, *(part for part in parts if isinstance(part, torch.Tensor))]
        # By position; sin carries the sign of the half that is rotated.
        self._cos = self._sin = torch.empty(0, self._head_dim)

    @property
    def size(self) -> tuple[int, int]:
        """Bytes that a pass reads of its weights, and how many weights its matrices have."""
        sizes, counts = zip(*map(size_of, self.products), strict=True)
        return sum(sizes) + sum(norm.nbytes for norm in self._norms), sum(counts)

    @cached_property
    def batch_invariant(self) -> bool:
        """Whether all but attention gives the same for a token, to the bit, in a pass of any length."""
        return all(getattr(product, "batch_invariant", False) for product in self.products)

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
            positions = torch.arange(max(attention.end, 2 * len(self._cos), 256), device=device)
            angles = (positions[:, None] * self._frequencies.to(device)).repeat(1, 2)
            self._cos, self._sin = ((turn(angles) * self._factor).to(self.dtype) for turn in (torch.cos, torch.sin))
            self._sin[:, : self._head_dim // 2] *= -1
        return self._cos[attention.positions][:, None], self._sin[attention.positions][:, None]


def frequencies(config: Any) -> tuple[torch.Tensor, float]:
    """The rotary embedding, to the bit that of transformers.

    Returns the angles [head_dim / 2] by which pairs of a head turn from one position to the next, and a factor.
    """
    kind = config.rope_parameters["rope_type"]
    if kind == "default":
        width = head_dim(config)
        exponents = torch.arange(0, width, 2, dtype=torch.float) / width
        return 1.0 / (config.rope_parameters["rope_theta"] ** exponents), 1.0
    from transformers import CONFIG_MAPPING  # late: it takes a second
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    values = vars(config) if isinstance(config, SimpleNamespace) else config.to_dict()
    return ROPE_INIT_FUNCTIONS[kind](CONFIG_MAPPING[config.model_type](**values), torch.device("cpu"))


def size_of(module: nn.Module) -> tuple[int, int]:
    """Bytes that a pass is charged for a module, all of whose parameters it reads, and the weights of its matrices."""
    parts: list[Any] = list(module.modules())
    size = sum(getattr(part, "weight_bytes", 0) for part in parts)
    for parameter in module.parameters():
        state: Any = getattr(parameter, "quant_state", None)  # of bitsandbytes; its scales count as bf16
        size += parameter.nbytes + (2 * math.prod(state.shape) // state.blocksize if state else 0)
    return size, sum(part.in_features * part.out_features for part in parts if hasattr(part, "in_features"))
