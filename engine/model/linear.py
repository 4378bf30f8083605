"""Layers that read the same input (q, k, v; gate, up) as one: one product for all of them, where it can be.

`engine.models.store` joins those in NF4 and int8 when it reads them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


def joined(layers: Sequence[Any]) -> Any:
    """Layers as one, inputs [n, in] → the outputs of all, side by side [n, out]; the layers stay usable."""
    if all(type(layer) is nn.Linear for layer in layers):
        return Dense(layers)
    return layers[0] if len(layers) == 1 else SideBySide(layers)


class Dense(nn.Module):
    """Dense layers as one matrix [out, in], of which theirs become views."""

    batch_invariant = False

    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        super().__init__()
        weights = [layer.weight for layer in layers]
        whole = weights[0].data if len(layers) == 1 else torch.cat([weight.data for weight in weights])
        for weight, part in zip(weights, whole.split([len(weight) for weight in weights]), strict=True):
            weight.data = part
        biases = [layer.bias.data for layer in layers if layer.bias is not None]
        self.out_features, self.in_features = whole.shape
        self.weight = nn.Parameter(whole, requires_grad=False)
        self.bias = nn.Parameter(torch.cat(biases), requires_grad=False) if biases else None

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.weight, self.bias)


class SideBySide(nn.Module):
    batch_invariant = False

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self._layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([layer(x) for layer in self._layers], dim=-1)


def size_of(module: nn.Module) -> tuple[int, int]:
    """Bytes that a pass is charged for a module, all of whose parameters it reads, and the weights of its matrices."""
    parts: list[Any] = list(module.modules())
    size = sum(getattr(part, "weight_bytes", 0) for part in parts) + sum(map(charged_bytes, module.parameters()))
    return size, sum(part.in_features * part.out_features for part in parts if hasattr(part, "in_features"))


def charged_bytes(parameter: Tensor) -> int:
    """Bytes that a pass is charged for one parameter: of NF4 half a byte and a bf16 scale, however it is stored."""
    state = getattr(parameter, "quant_state", None)
    if state is None:
        return parameter.nbytes
    weights = math.prod(state.shape)
    return weights // 2 + torch.bfloat16.itemsize * -(-weights // state.blocksize)
