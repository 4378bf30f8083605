"""One matrix product of a model, for few tokens or many: its weights, read the way that suits pass and processor.

One token only waits for memory, so the weights are read in 4 bits, by bitsandbytes' fused kernel. It computes
without the processor's matrix units: its time grows with the tokens, and from some width on (`wide_from`) it is faster
to read four times the bytes of a bf16 copy of the same weights. Measured on 2 cores with AMX: 1536 × 8960 takes 0.34 ms
for 1 token, 1.02 and 1.45 ms for 5 and 8 in NF4, but 1.02 and 1.04 ms in bf16. The copy is kept in the layout that
oneDNN chooses for the processor, which makes these products 1.1 to 2.2 times faster than a plain matrix does, and in
fp32 on a processor that is faster in that (`copy_dtype`). In int8 it is half as large and nearly twice as fast again
without matrix units, but rounds enough to change one token in a hundred or two, so it is there for who asks for it. To
make a copy takes seconds, so it is made by `make_copy`, for many passes to come, or once so many tokens were read
without it that making it would have paid.

The kernel wants AVX512-BF16. Other x86 processors take int8 weights (`engine.model.int8`), with one product for a
pass of any length. Where there is neither (Arm), bitsandbytes would dequantise the whole matrix for every product, also
of one token: so a bf16 copy is read always, and in fp32, a block at a time, for more than a few tokens. The same holds
of NF4 weights that are asked for on a processor without the kernel; there an int8 copy can be read always instead.

Matrices that read the same input (q, k, v; gate, up) are one here, with one call for all of them.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from engine.model import int8
from engine.model.int8 import Int8Linear, Int8Product, quantise
from engine.model.packed import PackedProduct, has_kernel, joined
from engine.provenance import processor

_INT8, _AMX, _NO_AMX, _DEQUANTISE_FROM = 5, 5, 16, 64  # see `wide_from`
_BF16_UP_TO = 2  # tokens that a processor without bf16 instructions multiplies in bf16 all the same
_BLOCK = 512  # outputs that are unpacked to fp32 at once, so that they stay in the caches
_TYPICAL = 16  # tokens of the passes that the copy's layout is chosen for; it serves all others as well
_COPY_AFTER = 512  # tokens of wide passes without the copy; reading them by it would have saved what making it takes
_COPY_SHARE = 0.4  # of the memory, at most, for a copy
CGROUP = Path("/sys/fs/cgroup")


class Linear:
    """Matrices [out, in] with one input, side by side; how they are stored decides how they are multiplied."""

    def __init__(self, modules: Sequence[Any], copy: torch.dtype | None) -> None:
        """Takes modules together: `nn.Linear`, bitsandbytes' `Linear4bit`, or those of the store.

        They stay usable, and share storage if possible.

        `copy` is the number format in which to keep a copy of 4-bit weights; None keeps none.
        """
        self._width = sum(module.out_features for module in modules)
        self._modules = list(modules)
        self._bias = _bias(modules)
        self._few = self._many = self._by_module
        self._copy: torch.Tensor | Int8Product | None = None
        self._copy_dtype: torch.dtype | None = None
        self._without_copy = 0  # tokens of wide passes
        self._many_from = sys.maxsize  # tokens
        states: list[Any] = [getattr(module.weight, "quant_state", None) for module in modules]
        if all(isinstance(module, Int8Linear) for module in modules):
            self._int8 = Int8Product(modules)
            self._few = self._many = self._by_int8
        elif not any(states):
            self._matrix = joined([module.weight for module in modules])
            self._few = self._by_matrix
        elif all(getattr(state, "packing_format_for_cpu", False) for state in states):
            self._packed = PackedProduct(modules)
            self._few, self._many = self._by_kernel, self._by_dequantising
            self._many_from = wide_from(copy)
            if copy is not None:
                self._copy_dtype, self._many = copy, self._by_copy
                self._copy_bias = None if self._bias is None or copy is torch.int8 else self._bias.to(copy)
        elif all(states) and copy is not None and not has_kernel():
            from bitsandbytes.functional import dequantize_4bit

            parts = zip(modules, states, strict=True)
            dense = torch.cat([dequantize_4bit(module.weight.data, state) for module, state in parts])
            if copy is torch.int8:
                self._copy, self._copy_dtype = _in_int8(dense), copy
                self._few = self._many = self._by_copy
            else:
                self._matrix = dense
                self._few, self._many, self._many_from = self._by_matrix, self._in_fp32, _BF16_UP_TO + 1

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Inputs [n, in] → [n, out]."""
        return self._few(x) if len(x) < self._many_from else self._many(x)

    def make_copy(self) -> None:
        """Makes the copy now, and not after some hundred tokens of wide passes."""
        if self._copy_dtype is None or self._copy is not None:
            return
        dense = self._packed.dense()
        if self._copy_dtype is torch.int8:
            self._copy = _in_int8(dense)
        else:
            self._copy = torch.ops.mkldnn._reorder_linear_weight(dense.to(self._copy_dtype), _TYPICAL)

    @property
    def batch_invariant(self) -> bool:
        """Whether a token's product is the same to the bit in a pass of any length.

        It is where all is read in int8, whose sums are whole numbers, so that their order does not matter.
        """
        return self._few == self._many and self._few in (self._by_int8, self._by_copy)

    @property
    def copy_bytes(self) -> int:
        """Memory that the copy takes, once it is made."""
        if self._copy is None or self._copy_dtype is None:
            return 0
        return sum(module.out_features * module.in_features for module in self._modules) * self._copy_dtype.itemsize

    def _by_module(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([module(x) for module in self._modules], dim=-1)

    def _by_int8(self, x: torch.Tensor) -> torch.Tensor:
        out = self._int8(x)
        return out if self._bias is None else out.add_(self._bias)

    def _by_matrix(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(x, self._matrix, self._bias)

    def _by_kernel(self, x: torch.Tensor) -> torch.Tensor:
        out = self._packed(x)
        return out if self._bias is None else out.add_(self._bias)

    def _by_dequantising(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(x, self._packed.dense(), self._bias)

    def _by_copy(self, x: torch.Tensor) -> torch.Tensor:
        if self._copy is None and self._without_copy < _COPY_AFTER:
            self._without_copy += len(x)
            return self._by_kernel(x)
        self.make_copy()
        assert self._copy_dtype is not None
        if isinstance(self._copy, Int8Product):
            out = self._copy(x.float())
            return (out if self._bias is None else out.add_(self._bias)).to(x.dtype)
        wide = x.to(self._copy_dtype)
        return torch.ops.mkldnn._linear_pointwise(wide, self._copy, self._copy_bias, "none", [], "").to(x.dtype)

    def _in_fp32(self, x: torch.Tensor) -> torch.Tensor:
        wide, out = x.float(), x.new_empty(len(x), self._width)
        for rows, part in zip(self._matrix.split(_BLOCK), out.split(_BLOCK, dim=1), strict=True):
            part.copy_(wide @ rows.float().T)
        return out if self._bias is None else out.add_(self._bias)


def _in_int8(dense: torch.Tensor) -> Int8Product:
    return Int8Product([Int8Linear(*quantise(dense), bias=False)])


def _bias(modules: Sequence[nn.Linear]) -> torch.Tensor | None:
    biases = [module.bias.data for module in modules if module.bias is not None]
    return torch.cat(biases) if biases else None


def wide_from(copy: torch.dtype | None) -> int:
    """Tokens of a pass from which on this processor multiplies faster by the copy than in NF4.

    The kernel takes four tokens at a time; int8 takes twice as long for eight as for one.

    Without a copy the weights are dequantised first (2.1 billion a second on 2 cores): for long prompts and AMX only.
    """
    if copy is torch.int8:
        return _INT8
    if torch.cpu._is_amx_tile_supported():
        return _AMX if copy else _DEQUANTISE_FROM
    return _NO_AMX if copy else sys.maxsize


def four_bit_parameters(model: nn.Module) -> int:
    """How many weights of a model are in 4 bits and in the processor's memory, where a copy may be kept of them."""
    here = [parameter for parameter in model.parameters() if parameter.device.type == "cpu"]
    states: list[Any] = [getattr(parameter, "quant_state", None) for parameter in here]
    return sum(math.prod(state.shape) for state in states if state is not None)


def copy_dtype(parameters: int, wanted: str = "auto") -> torch.dtype | None:
    """What a copy of so many 4-bit weights is kept in, if one is kept: bf16, fp32 where that is faster, or int8.

    `wanted` is what `CITER_WEIGHTS_COPY` says. "auto" is "bf16" where that takes at most two fifths of the memory, else
    "none", also where the memory cannot be asked. Without the 4-bit kernel, the copy is all that is read.
    """
    room = _COPY_SHARE * memory_bytes()
    if not parameters or wanted == "none" or (wanted == "auto" and parameters * 2 > room):
        return None
    if wanted == "int8" and int8.supported():
        return torch.int8
    return torch.float32 if parameters * 4 <= room and fp32_is_faster() else torch.bfloat16


def fp32_is_faster() -> bool:
    """Whether wide products take less time in fp32 than by this processor's bf16 instructions.

    True of Intel's server cores without matrix units (AMX), which some virtual machines hide: they start half as many
    bf16 instructions as fp32 ones, and on 2 of them 100 × 1536 × 17920 take 33 ms in bf16 and 21 in fp32. Chosen by
    the name and not by timing, which would give other roundings, and so now and then other tokens, from one start to
    the next.
    """
    has_bf16, has_matrix_units = torch.cpu._is_avx512_bf16_supported(), torch.cpu._is_amx_tile_supported()
    return has_bf16 and not has_matrix_units and "intel" in processor().lower()


def memory_bytes() -> int:
    """Bytes in all, or a container's limit where that is less; 0 where neither can be asked."""
    try:
        physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        physical = 0
    return min(filter(None, (physical, container_bytes("memory.max"))), default=0)


def container_bytes(name: str) -> int | None:
    """What a container's memory controller (cgroup v2) says under a name; None without one, or without a limit."""
    try:
        text = (CGROUP / name).read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return None
    return int(text) if text.isdecimal() else None
