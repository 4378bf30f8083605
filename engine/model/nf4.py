"""NF4 matrices, made by bitsandbytes, and on a processor with AVX512-BF16 multiplied by its compiled kernel alone.

Its Python package takes two seconds to import, and 20 µs of a product of 100 µs.

There are two layouts. `plain` is what bitsandbytes quantises to, with doubly quantised scales, for a GPU. The kernel
wants the nibbles of 32 rows interleaved and the scales in bf16: `packed`. `Linear4bit.forward` would convert to that at
each start, which takes 18 s for the 0.5B and 1.5B together on 2 cores.
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
# bitsandbytes' CPU quantiser makes several fp32 temporaries; 8M weights at a time keep them at some 100 MB and in
# memory that is reused: 48M weights/s, against 13M/s for the 233M of an lm_head in one go.
CHUNK = 8_000_000
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
    """Whether the kernel is there, this processor has its instructions, and torch is not held to older ones."""
    check = getattr(_library(), "has_avx512bf16_cpu", None)
    return check is not None and bool(check()) and "AVX512" in torch.backends.cpu.get_cpu_capability()


def has_matrix_units() -> bool:
    """Whether this processor has units for whole matrices (AMX), which other products use and the kernel does not."""
    return torch.cpu._is_amx_tile_supported()


class Nf4Linear(nn.Module):
    # Not `batch_invariant`, though its product is: the attention that belongs to it makes a single text slower
    # (docs/experiments.md, finding 18).

    def __init__(self, codes: Tensor, scales: Tensor, bias: Tensor | None) -> None:
        """Takes codes in the kernel's layout, uint8 [out, in / 2], and in bf16 scales [in / 64, out] and bias [out]."""
        super().__init__()
        self.out_features, self.in_features = len(codes), 2 * codes.shape[1]
        if tuple(scales.shape) != (self.in_features // BLOCK, self.out_features) or scales.dtype is not torch.bfloat16:
            raise ValueError(f"{tuple(codes.shape)} codes with {tuple(scales.shape)} scales of {scales.dtype}")
        self._held: tuple[Tensor, ...] = codes.contiguous(), scales.contiguous()
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


class WideNf4Linear(Nf4Linear):
    """NF4's numbers as bf16, for torch's product, which has matrix units (AMX): many tokens cost hardly more than one.

    It is charged what `Nf4Linear` is, though it reads four times as much: `extra_bytes` more.
    """

    def __init__(self, codes: Tensor, scales: Tensor, bias: Tensor | None) -> None:
        super().__init__(codes, scales, bias)
        self._held, self._weight = (), dequantised(codes, scales)
        self.extra_bytes = self._weight.nbytes - self.weight_bytes

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self._weight, self.bias)

    __call__ = forward


def dequantised(codes: Tensor, scales: Tensor) -> Tensor:
    """The matrix [out, in], bf16, that codes and scales in the kernel's layout stand for."""
    from bitsandbytes.functional import get_4bit_type

    rows, pairs = codes.shape
    table = get_4bit_type("nf4", device="cpu").bfloat16()
    # A byte has two rows' codes, 16 rows apart, and two bytes after another are two columns of a row.
    parts = codes.view(rows // PACK_ROWS, pairs, PACK_ROWS // 2, 2)
    both = torch.stack((parts & 15, parts >> 4), dim=1)  # [blocks, halves, pairs, rows, columns]
    values = table[both.transpose(2, 3).reshape(rows, 2 * pairs).int()]
    return values.view(rows, -1, BLOCK).mul_(scales.T[:, :, None]).view(rows, -1)


def _pointer(tensor: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())


def quantise(weight: Tensor, layout: str) -> tuple[Tensor, dict[str, Tensor]]:
    """Quantises one matrix [out, in], `in` a multiple of 64, to NF4 in a layout.

    `packed` adds rows of zeros up to a multiple of 32. Returns uint8 codes ([out · in / 2, 1] plain, [out, in / 2]
    packed), and what else the layer is made of: `absmax` [in / 64, out] in bf16, or bitsandbytes' state.
    """
    from bitsandbytes import functional as bnbf  # late: it takes seconds to import

    assert weight.ndim == 2 and weight.shape[1] % BLOCK == 0, f"{tuple(weight.shape)} does not divide into blocks"
    if layout == "packed":
        weight = nn.functional.pad(weight, (0, 0, 0, -len(weight) % PACK_ROWS))
    outputs, inputs = weight.shape
    rows = max(PACK_ROWS, CHUNK // inputs // PACK_ROWS * PACK_ROWS)
    parts = [
        bnbf.quantize_4bit(chunk.contiguous(), blocksize=BLOCK, compress_statistics=False, quant_type="nf4")
        for chunk in weight.split(rows)
    ]
    absmax = torch.cat([state.absmax for _, state in parts])
    # Double quantisation, as bitsandbytes.functional.quantize_4bit does it for a whole matrix.
    # The mean is taken in fp64, since in fp32 its last bit, and so some scales, depend on the number of threads.
    offset = absmax.double().mean().float()
    scales, scales_of_scales = bnbf.quantize_blockwise(absmax - offset, blocksize=256)
    if layout == "packed":
        absmax = bnbf.dequantize_blockwise(scales, scales_of_scales) + offset
        codes = torch.cat([_packed(codes.view(-1, inputs // 2)) for codes, _ in parts])
        return codes, {"absmax": absmax.view(outputs, -1).T.bfloat16().contiguous()}
    state = parts[0][1]
    state.shape, state.absmax, state.offset, state.state2 = weight.shape, scales, offset, scales_of_scales
    state.nested = True
    return torch.cat([codes for codes, _ in parts]), state.as_dict(packed=True)


def _packed(codes: Tensor) -> Tensor:
    """Codes [out, in / 2] in the kernel's layout, see `dequantised`; a byte had two columns' codes, the first above."""
    rows, pairs = codes.shape
    low, high = torch.stack((codes >> 4, codes & 15), dim=-1).view(-1, 2, PACK_ROWS // 2, pairs, 2).unbind(1)
    return (low | high << 4).transpose(1, 2).reshape(rows, pairs)


def linear4bit(codes: Tensor, state: dict[str, Tensor], bias: Tensor | None) -> Any:
    """A layer in the layout `plain`, from its codes and the parts of its state; a ValueError if they are another's."""
    import bitsandbytes as bnb

    weight: Any = bnb.nn.Params4bit.from_prequantized(codes, state, device="cpu")
    outputs, inputs = weight.quant_state.shape
    if codes.numel() * 2 != outputs * inputs:
        raise ValueError(f"{codes.numel()} bytes of codes for a matrix [{outputs}, {inputs}]")
    with torch.device("meta"):
        linear: Any = bnb.nn.Linear4bit(inputs, outputs, bias=False, compute_dtype=torch.bfloat16, quant_type="nf4")
    linear.weight, linear.quant_state, weight.module = weight, weight.quant_state, linear
    linear.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)
    return linear.requires_grad_(False)
