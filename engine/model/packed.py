"""NF4 on a processor with AVX512-BF16: bitsandbytes' compiled kernels, called without its Python package.

Importing the package takes two seconds, since it wraps some functions in torch's compiler, which is imported with it;
and its checks and conversions take 20 µs of a product of 100 µs.
"""

from __future__ import annotations

import ctypes
import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

BLOCK = 64  # weights that share a scale
PACK_ROWS = 32  # rows whose nibbles the packed layout interleaves
_ROWS = 8 * PACK_ROWS  # that are unpacked at once
_SUFFIX = {"darwin": ".dylib", "win32": ".dll"}.get(sys.platform, ".so")


@cache
def _library() -> Any:
    """The compiled library, or None where there is none that this system can load."""
    found = importlib.util.find_spec("bitsandbytes")
    if found is None or found.origin is None:
        return None
    try:
        return ctypes.CDLL(str(Path(found.origin).with_name(f"libbitsandbytes_cpu{_SUFFIX}")))
    except OSError:
        return None


def has_kernel() -> bool:
    """Whether the fused kernel is there, and this processor has its instructions.

    torch can be held to fewer instructions than the processor has (ATEN_CPU_CAPABILITY); then this is, too.
    """
    check = getattr(_library(), "has_avx512bf16_cpu", None)
    return check is not None and bool(check()) and "AVX512" in torch.backends.cpu.get_cpu_capability()


@dataclass
class PackedState:
    """What the codes of a matrix stand for, named as bitsandbytes' own state names it.

    Attributes:
        shape: [out, in] of the matrix.
        absmax: Scales, bf16 [in / 64, out].
    """

    shape: torch.Size
    absmax: Tensor
    blocksize: int = BLOCK
    nested: bool = False
    packing_format_for_cpu: bool = True


class PackedLinear(nn.Module):
    """A linear layer as the store holds it, for `engine.model.linear` to multiply with.

    Attributes:
        weight: Codes, uint8 [out, in / 2], with a `PackedState` as `quant_state`.
        bias: bf16 [out], or None.
    """

    def __init__(self, codes: Tensor, scales: Tensor, bias: Tensor | None, whole: Tensor) -> None:
        """Takes codes that are a part of `whole`, see `joined`."""
        super().__init__()
        self.out_features, self.in_features = len(codes), 2 * codes.shape[1]
        weight: Any = nn.Parameter(codes, requires_grad=False)
        weight.quant_state = PackedState(torch.Size((self.out_features, self.in_features)), scales)
        weight.whole = whole
        self.weight = weight
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)


class PackedProduct:
    """Packed matrices with one input, side by side: bf16 [n, in] → [n, out]."""

    def __init__(self, modules: Sequence[Any]) -> None:
        self._kernel = _library().gemv_4bit_inference_cpu_nf4_bf16
        weights = [module.weight for module in modules]
        scales = [weight.quant_state.absmax for weight in weights]
        self._codes, self._scales = joined(weights), torch.cat(scales, dim=1) if len(scales) > 1 else scales[0]
        outputs, inputs = self._codes.shape[0], 2 * self._codes.shape[1]
        assert self._scales.dtype is torch.bfloat16 and self._scales.is_contiguous(), self._scales.dtype
        self._shape = (ctypes.c_int64(outputs), ctypes.c_int64(inputs))
        self._inputs, self._outputs = inputs, outputs
        self._pointers = (_pointer(self._codes), _pointer(self._scales))
        self._block = ctypes.c_int64(weights[0].quant_state.blocksize)
        self._out_stride = ctypes.c_int64(outputs)

    def dense(self) -> Tensor:
        """The same weights in bf16 [out, in]."""
        return dense_of(self._codes, self._scales)

    def __call__(self, x: Tensor) -> Tensor:
        """Multiplies all of them, by the kernel."""
        assert x.dtype is torch.bfloat16 and x.shape[1] == self._inputs and x.stride(1) == 1, (x.dtype, x.shape)
        out = torch.empty(len(x), self._outputs, dtype=torch.bfloat16)
        self._kernel(
            ctypes.c_int64(len(x)),
            *self._shape,
            _pointer(x),
            *self._pointers,
            _pointer(out),
            self._block,
            ctypes.c_int64(x.stride(0)),
            self._out_stride,
        )
        return out


def dense_of(codes: Tensor, scales: Tensor) -> Tensor:
    """The bf16 matrix [out, in] that a packed NF4 matrix stands for: to the bit what its kernel multiplies with.

    Args:
        codes: uint8 [out, in / 2], packed.
        scales: bf16 [in / 64, out].
    """
    dense = torch.empty(codes.shape[0], 2 * codes.shape[1], dtype=torch.bfloat16)
    for rows, own_scales, part in zip(codes.split(_ROWS), scales.split(_ROWS, dim=1), dense.split(_ROWS), strict=True):
        _unpack(rows, own_scales, part)
    return dense


def _unpack(codes: Tensor, scales: Tensor, dense: Tensor) -> None:
    """Of some rows, so few that all of it stays in the processor's caches."""
    outputs, inputs = dense.shape
    # Packed: per 32 rows and 2 columns, 32 bytes; row b's two nibbles are the low ones of bytes 2b and 2b + 1 for the
    # first 16 rows, and the high ones for the others. Plain: a row's nibbles in order, the earlier one high. Both bytes
    # are one number of 16 bits here, so that rows are contiguous and all of it is vector operations.
    pairs = codes.view(torch.int16).view(outputs // PACK_ROWS, inputs // 2, PACK_ROWS // 2).transpose(1, 2).contiguous()
    low = ((pairs & 15) << 4) | ((pairs >> 8) & 15)
    high = (pairs & 240) | ((pairs >> 12) & 15)
    plain = torch.cat([low.to(torch.uint8), high.to(torch.uint8)], dim=1)
    # The kernel rounds a code to bf16 before it is scaled, so it is scaled here, and not with the codes.
    ones, sizes = torch.ones(outputs * inputs // BLOCK), (ctypes.c_longlong(n) for n in (BLOCK, outputs, inputs))
    _library().cdequantize_blockwise_cpu_nf4_bf16(_pointer(plain), _pointer(ones), _pointer(dense), *sizes)
    dense.view(outputs, -1, BLOCK).mul_(scales.T[:, :, None])


def joined(weights: Sequence[Any]) -> Tensor:
    """Weights of modules as one matrix, which the modules use parts of from now on, so that they are stored once.

    Nothing is copied where they are the parts of one `whole` already.
    """
    whole = getattr(weights[0], "whole", weights[0].data if len(weights) == 1 else None)
    parts = [weight for weight in weights if getattr(weight, "whole", whole) is whole]
    if whole is not None and sum(map(len, parts)) == len(whole):
        return whole
    whole = torch.cat([weight.data for weight in weights])
    for weight, part in zip(weights, whole.split([len(weight) for weight in weights]), strict=True):
        weight.data = part
    return whole


def side_by_side(mapped: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Copies tensors of one width out of a mapped file: all of them as one, and the parts of that."""
    whole = torch.empty(sum(len(each) for each in mapped), *mapped[0].shape[1:], dtype=mapped[0].dtype)
    parts = list(whole.split([len(each) for each in mapped]))
    for part, each in zip(parts, mapped, strict=True):
        _copy(each, part)
    return whole, parts


def own(mapped: Tensor) -> Tensor:
    """Copies a tensor out of a mapped file."""
    whole = torch.empty_like(mapped)
    _copy(mapped, whole)
    return whole


def _copy(source: Tensor, target: Tensor) -> None:
    """Tensor.copy_ would do it with all threads, and waits long for each of them while the machine is busy.

    That took 8 s instead of 1 for the pair; one thread keeps up with the memory.
    """
    np.copyto(target.view(torch.uint8).numpy(), source.view(torch.uint8).numpy())


def _pointer(tensor: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())
