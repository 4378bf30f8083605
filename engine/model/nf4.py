"""NF4 matrices on a processor with AVX512-BF16: bitsandbytes' compiled kernel, called without its Python package.

Importing the package takes two seconds, since it wraps some functions in torch's compiler, which is imported with it;
and its checks and conversions take 20 µs of a product of 100 µs.

A token's product is the same to the bit in a pass of one token and of many. The kernel's time grows with the tokens,
so a bf16 copy would read long prompts a third faster, for three times the memory: docs/speed.md.
"""

from __future__ import annotations

import ctypes
import importlib.util
import sys
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

BLOCK = 64  # weights that share a scale
PACK_ROWS = 32  # rows whose nibbles the layout interleaves
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
    """Whether the kernel is there, and this processor has its instructions.

    torch can be held to fewer instructions than the processor has (ATEN_CPU_CAPABILITY); then this is, too.
    """
    check = getattr(_library(), "has_avx512bf16_cpu", None)
    return check is not None and bool(check()) and "AVX512" in torch.backends.cpu.get_cpu_capability()


class Nf4Linear(nn.Module):
    """A linear layer in NF4.

    Attributes:
        weight_bytes: Of codes and scales.
        bias: bf16 [out], or None.
    """

    batch_invariant = True

    def __init__(self, codes: Tensor, scales: Tensor, bias: Tensor | None) -> None:
        """Takes codes in the kernel's layout, uint8 [out, in / 2], and scales, bf16 [in / 64, out]."""
        super().__init__()
        self.out_features, self.in_features = len(codes), 2 * codes.shape[1]
        if tuple(scales.shape) != (self.in_features // BLOCK, self.out_features) or scales.dtype is not torch.bfloat16:
            raise ValueError(f"{tuple(codes.shape)} codes with {tuple(scales.shape)} scales of {scales.dtype}")
        self._held = codes.contiguous(), scales.contiguous()
        self.weight_bytes = codes.nbytes + scales.nbytes
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)
        self._kernel = _library().gemv_4bit_inference_cpu_nf4_bf16
        self._shape = ctypes.c_int64(self.out_features), ctypes.c_int64(self.in_features)
        self._pointers = tuple(map(_pointer, self._held))
        self._block = ctypes.c_int64(BLOCK)

    def forward(self, x: Tensor) -> Tensor:
        """Inputs bf16 [..., in] → bf16 [..., out]."""
        if x.ndim != 2:
            return self(x.reshape(-1, self.in_features)).view(*x.shape[:-1], -1)
        assert x.dtype is torch.bfloat16 and x.shape[1] == self.in_features and x.stride(1) == 1, (x.dtype, x.shape)
        out = torch.empty(len(x), self.out_features, dtype=torch.bfloat16)
        count, stride = ctypes.c_int64(len(x)), ctypes.c_int64(x.stride(0))
        self._kernel(
            count, *self._shape, _pointer(x), *self._pointers, _pointer(out), self._block, stride, self._shape[0]
        )
        return out if self.bias is None else out.add_(self.bias)

    __call__ = forward  # torch's own looks for hooks, which takes a microsecond of each product


def _pointer(tensor: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())
