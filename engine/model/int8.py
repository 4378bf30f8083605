"""Int8 matrices for the CPU: one product for a pass of any length, on every x86 processor, by integer instructions.

bitsandbytes has a fast 4-bit kernel only for processors with AVX512-BF16. fbgemm, which comes with torch, multiplies 8
bits by 8 bits on all others: one token costs what reading the weights costs, eight tokens hardly more, and no copy of
the weights is needed for wide passes.

Weights are quantised per output channel, activations per token, so that an outlier in one token spoils no other. Sums
of integers are exact: a token's product is the same to the bit in a pass of one or of many, on every processor. That
holds only if nothing saturates. Without VNNI, fbgemm adds two products of 8 bits in a signed number of 16; with weights
of 7 bits (-63 to 63) the largest such sum is 2 · 255 · 63 = 32,130, which fits. It costs no quality that we could
measure (docs/experiments.md, finding 10).
"""

from __future__ import annotations

import ctypes
import mmap
import sys
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

LARGEST_WEIGHT = 63  # 7 bits, see above
LARGEST_INPUT = 127  # around a zero point of 128, since fbgemm takes unsigned inputs
_ROWS = 256  # that are rounded at once, so that they stay in the caches
_ENGINE = "fbgemm"
_PRODUCT = "linear_with_input_q_dq_qweight_dq_output_fp32"
_MADV_PAGEOUT = 21  # of Linux, since 5.4


def supported() -> bool:
    """Whether this torch has fbgemm's products, as on every x86 processor with AVX2.

    torch has called the tensors that they are packed from deprecated since 2.13; one without them reads NF4 instead.
    """
    there = hasattr(torch, "_make_per_channel_quantized_tensor") and hasattr(torch.ops.quantized, _PRODUCT)
    return there and _ENGINE in torch.backends.quantized.supported_engines


def quantise(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Rounds a matrix [out, in] to int8 codes [out, in] in -63 to 63, and float32 scales [out]."""
    codes, scales = torch.empty(weight.shape, dtype=torch.int8), torch.empty(len(weight))
    for rows, own, scale in zip(weight.split(_ROWS), codes.split(_ROWS), scales.split(_ROWS), strict=True):
        wide = rows.float()
        scale.copy_(wide.abs().amax(1)).clamp_min_(torch.finfo(torch.float32).tiny).div_(LARGEST_WEIGHT)
        own.copy_((wide / scale[:, None]).round_())
    return codes, scales


class Int8Linear(nn.Module):
    """A linear layer whose weights are int8, one scale per output; its inputs are quantised per token.

    Attributes:
        weight: int8 [out, in].
        scales: float32 [out].
        bias: float32 [out], or None.
    """

    def __init__(self, codes: Tensor, scales: Tensor, bias: bool) -> None:
        super().__init__()
        self.out_features, self.in_features = codes.shape
        self.weight = nn.Parameter(codes, requires_grad=False)
        self.register_buffer("scales", scales)
        self.bias = nn.Parameter(torch.empty(len(codes), device="meta"), requires_grad=False) if bias else None
        self._product: Int8Product | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Inputs float32 [..., in] → float32 [..., out]."""
        if self._product is None:
            self._product = Int8Product([self])
        out = self._product(x.reshape(-1, self.in_features)).view(*x.shape[:-1], -1)
        return out if self.bias is None else out + self.bias


class Int8Product:
    """Int8 layers that read the same input, side by side, in the layout that fbgemm chooses for this processor."""

    def __init__(self, layers: Sequence[Int8Linear]) -> None:
        codes = torch.cat([layer.weight for layer in layers]) if len(layers) > 1 else layers[0].weight
        scales: Any = torch.cat([layer.get_buffer("scales") for layer in layers])
        zeros = torch.zeros(len(scales), dtype=torch.int64)
        before, torch.backends.quantized.engine = torch.backends.quantized.engine, _ENGINE
        try:
            warnings.filterwarnings("ignore", r"torch\.quantize_per_tensor", UserWarning)  # that they will go some day
            matrix = torch._make_per_channel_quantized_tensor(codes, scales.double(), zeros, 0)
            self._packed = torch.ops.quantized.linear_prepack(matrix, None)
        finally:
            torch.backends.quantized.engine = before
        for layer in layers:
            _page_out(layer.weight)
        self._multiply = getattr(torch.ops.quantized, _PRODUCT).default

    def __call__(self, x: Tensor) -> Tensor:
        """Inputs float32 [n, in] → float32 [n, out]."""
        # fbgemm takes one scale for all inputs: so each token is brought to the range -1 to 1 first, and back after.
        largest = torch.linalg.vector_norm(x, torch.inf, dim=1, keepdim=True).clamp_min_(1e-30)
        return self._multiply(x / largest, 1 / LARGEST_INPUT, LARGEST_INPUT + 1, self._packed).mul_(largest)


def _page_out(mapped: Tensor) -> None:
    """Takes a tensor's pages out of memory, where it is mapped from a file: they come back when they are read.

    The packed product has its own copy. On Linux only; nothing is lost where it is not possible (MADV_PAGEOUT).
    """
    if sys.platform != "linux":
        return
    page, first = mmap.PAGESIZE, mapped.data_ptr()
    start, end = -(-first // page) * page, (first + mapped.nbytes) // page * page  # whole pages only
    ctypes.CDLL(None).madvise(ctypes.c_void_p(start), ctypes.c_size_t(max(0, end - start)), _MADV_PAGEOUT)


class WideEmbedding(nn.Embedding):
    """An embedding that stays in bf16, mapped from its file, and gives float32."""

    def forward(self, input: Tensor) -> Tensor:
        """Ids [...] → float32 [..., d]."""
        return super().forward(input).float()
