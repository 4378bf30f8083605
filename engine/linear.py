"""One matrix product of a model, for few tokens or many: the same 4-bit weights, read the way that suits the pass.

One token only waits for memory, so the weights are read in 4 bits, by bitsandbytes' fused kernel. That kernel computes
without the processor's matrix units: its time grows with the tokens, and from some width on (`wide_from`) it is faster
to read four times the bytes of a bf16 copy of the same weights. Measured on 2 cores with AMX: 1536 × 8960 takes 0.34 ms
for 1 token, 1.02 and 1.45 ms for 5 and 8 in NF4, but 1.02 and 1.04 ms in bf16. The copy is kept in the layout that
oneDNN chooses for the processor, which makes these products 1.1 to 2.2 times faster than a plain matrix does, and in
fp32 on a processor that is faster in that (`engine.machine.copy_dtype`).

Matrices that read the same input (q, k, v; gate, up) are one here, with one call for all of them. Knows matrices;
knows nothing of models.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

_AMX, _NO_AMX = 5, 16
_DEQUANTISE_FROM = 64
_TYPICAL = 16  # tokens of the passes that the copy's layout is chosen for; it serves all others as well


def wide_from(kept: bool) -> int | None:
    """Tokens of a pass from which on this processor multiplies faster by the copy than in NF4.

    Args:
        kept: Whether there is a copy. If the weights have to be dequantised first, at 2.1 billion a second on 2
            cores, that only pays for long prompts, and only with matrix units.
    """
    if torch.cpu._is_amx_tile_supported():
        return _AMX if kept else _DEQUANTISE_FROM
    return _NO_AMX if kept else None


def four_bit_parameters(model: nn.Module) -> int:
    """How many weights of a model are in the 4-bit layout that a copy can be kept of: that for processors."""
    states: list[Any] = [getattr(parameter, "quant_state", None) for parameter in model.parameters()]
    return sum(math.prod(state.shape) for state in states if getattr(state, "packing_format_for_cpu", False))


class Linear:
    """Matrices [out, in] with one input, side by side; how they are stored decides how they are multiplied.

    Attributes:
        outputs: Width of the result, all matrices together.
    """

    def __init__(self, modules: Sequence[nn.Linear], copy: torch.dtype | None) -> None:
        """Takes modules together; they stay usable, and share their storage with this where that is possible.

        Args:
            modules: `nn.Linear` or bitsandbytes' `Linear4bit`, all with the same input.
            copy: Keep one of 4-bit weights for wide passes, in this number format; None keeps none.
        """
        self.outputs = sum(module.out_features for module in modules)
        self._modules = list(modules)
        self._packed: _Packed | None = None
        self._dense: torch.Tensor | None = None
        self._wide: torch.Tensor | None = None
        self._copy = copy
        self._bias = self._wide_bias = _bias(modules)
        states = [getattr(module.weight, "quant_state", None) for module in modules]
        if all(getattr(state, "packing_format_for_cpu", False) for state in states):
            self._packed = _Packed(modules)
            self._wide_from = wide_from(copy is not None)
            if copy is not None:
                self._wide = torch.ops.mkldnn._reorder_linear_weight(self._packed.dense().to(copy), _TYPICAL)
                self._wide_bias = None if self._bias is None else self._bias.to(copy)
        elif not any(states):
            self._dense = _joined(modules)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Inputs [n, in] → [n, out]."""
        if self._packed is not None and (self._wide_from is None or len(x) < self._wide_from):
            out = self._packed(x)
            return out if self._bias is None else out.add_(self._bias)
        if self._wide is not None:
            wide_x = x.to(self._copy)
            return torch.ops.mkldnn._linear_pointwise(wide_x, self._wide, self._wide_bias, "none", [], "").to(x.dtype)
        dense = self._dense if self._packed is None else self._packed.dense()
        if dense is not None:
            return nn.functional.linear(x, dense, self._bias)
        return torch.cat([module(x) for module in self._modules], dim=-1)


class _Packed:
    """NF4 in the layout of bitsandbytes' kernel for CPUs with AVX512-BF16.

    The kernel is called as bitsandbytes calls it, less its checks and conversions, which take 20 µs of a product of
    100 µs.
    """

    def __init__(self, modules: Sequence[Any]) -> None:
        from bitsandbytes import cextension

        library: Any = cextension.lib
        self._kernel = library.gemv_4bit_inference_cpu_nf4_bf16
        weights = [module.weight for module in modules]
        self._codes = weights[0].data
        self._scales = weights[0].quant_state.absmax
        if len(modules) > 1:
            self._codes = torch.cat([weight.data for weight in weights])
            self._scales = torch.cat([weight.quant_state.absmax for weight in weights], dim=1)
            for weight, own in zip(weights, self._codes.split([len(w) for w in weights]), strict=True):
                weight.data = own  # the module's codes are stored here now, once
        outputs, inputs = self._codes.shape[0], 2 * self._codes.shape[1]
        assert self._scales.dtype is torch.bfloat16 and self._scales.is_contiguous(), self._scales.dtype
        self._shape = (ctypes.c_int64(outputs), ctypes.c_int64(inputs))
        self._inputs, self._outputs = inputs, outputs
        self._pointers = (ctypes.c_void_p(self._codes.data_ptr()), ctypes.c_void_p(self._scales.data_ptr()))
        self._block = ctypes.c_int64(weights[0].quant_state.blocksize)
        self._out_stride = ctypes.c_int64(outputs)

    def dense(self) -> torch.Tensor:
        """The same weights in bf16 [out, in]."""
        from engine.nf4 import dense_of

        return dense_of(self._codes, self._scales)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        assert x.dtype is torch.bfloat16 and x.shape[1] == self._inputs and x.stride(1) == 1, (x.dtype, x.shape)
        out = torch.empty(len(x), self._outputs, dtype=torch.bfloat16)
        self._kernel(
            ctypes.c_int64(len(x)),
            *self._shape,
            ctypes.c_void_p(x.data_ptr()),
            *self._pointers,
            ctypes.c_void_p(out.data_ptr()),
            self._block,
            ctypes.c_int64(x.stride(0)),
            self._out_stride,
        )
        return out


def _joined(modules: Sequence[nn.Linear]) -> torch.Tensor:
    """The weights of plain modules as one matrix, which the modules use parts of from now on."""
    if len(modules) == 1:
        return modules[0].weight
    joined = torch.cat([module.weight.data for module in modules])
    for module, own in zip(modules, joined.split([m.out_features for m in modules]), strict=True):
        module.weight.data = own
    return joined


def _bias(modules: Sequence[nn.Linear]) -> torch.Tensor | None:
    biases = [module.bias for module in modules]
    if all(bias is None for bias in biases):
        return None
    return torch.cat([bias.data for bias in biases])
