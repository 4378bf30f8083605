"""Int8 matrices for the CPU: one product for a pass of any length, by integer instructions.

fbgemm, which comes with torch, multiplies 8 bits by 8 bits on every x86 processor: one token costs what reading the
weights costs, and eight hardly more. Without it (Arm) torch's product of bf16 activations with int8 weights stands in,
tested on x86 only.

Weights are quantised per output channel, activations per token. Sums of integers are exact: a token's product is the
same to the bit in a pass of one or of many. That holds only if nothing saturates. Without VNNI, fbgemm adds two
products in 16 bits; with weights of 7 bits the largest such sum is 2 · 255 · 63 = 32,130, which fits. It costs no
quality that we could measure (docs/experiments.md, finding 10).
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn

LARGEST_WEIGHT = 63  # 7 bits, see above
LARGEST_INPUT = 127  # around a zero point of 128, since fbgemm takes unsigned inputs
_ROWS = 256  # that are rounded at once, so that they stay in the caches
_ENGINE = "fbgemm"
_PRODUCT = "linear_with_input_q_dq_qweight_dq_output_fp32"


def has_fbgemm() -> bool:
    """Whether this torch has fbgemm's products; since 2.13 it calls the tensors that they take deprecated."""
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
    """A linear layer in int8; it keeps its codes only as the product wants them."""

    def __init__(self, codes: Tensor, scales: Tensor, bias: Tensor | None) -> None:
        """Takes codes and scales as `quantise` makes them."""
        super().__init__()
        if scales.shape != codes.shape[:1]:
            raise ValueError(f"{tuple(codes.shape)} codes with {tuple(scales.shape)} scales")
        self.out_features, self.in_features = codes.shape
        self.weight_bytes = codes.nbytes + scales.nbytes
        self.bias = None if bias is None else nn.Parameter(bias.float(), requires_grad=False)
        self.batch_invariant = has_fbgemm()
        if self.batch_invariant:
            self._packed = _packed(codes, scales)
            self._product = getattr(torch.ops.quantized, _PRODUCT).default
        else:
            self._codes, self._scales = codes, scales.bfloat16()

    def forward(self, x: Tensor) -> Tensor:
        """Inputs float32 [..., in] → float32 [..., out]."""
        if x.ndim != 2:
            return self(x.reshape(-1, self.in_features)).view(*x.shape[:-1], -1)
        out = self._by_integers(x) if self.batch_invariant else self._by_bf16(x)
        return out if self.bias is None else out.add_(self.bias)

    __call__ = forward  # torch's own looks for hooks, which takes a microsecond of each product

    def _by_integers(self, x: Tensor) -> Tensor:
        # fbgemm takes one scale for all inputs: so each token is brought to the range -1 to 1 first, and back after.
        largest = torch.linalg.vector_norm(x, torch.inf, dim=1, keepdim=True).clamp_min_(1e-30)
        return self._product(x / largest, 1 / LARGEST_INPUT, LARGEST_INPUT + 1, self._packed).mul_(largest)

    def _by_bf16(self, x: Tensor) -> Tensor:
        return torch._weight_int8pack_mm(x.bfloat16(), self._codes, self._scales).float()


def _packed(codes: Tensor, scales: Tensor) -> object:
    """Codes in the layout that fbgemm chooses for this processor."""
    zeros = torch.zeros(len(scales), dtype=torch.int64)
    before, torch.backends.quantized.engine = torch.backends.quantized.engine, _ENGINE
    try:
        warnings.filterwarnings("ignore", r"torch\.quantize_per_tensor", UserWarning)  # that they will go some day
        matrix = torch._make_per_channel_quantized_tensor(codes, scales.double(), zeros, 0)
        return torch.ops.quantized.linear_prepack(matrix, None)
    finally:
        torch.backends.quantized.engine = before


class WideEmbedding(nn.Embedding):
    """An embedding that stays in bf16, mapped from its file, and gives float32."""

    def forward(self, input: Tensor) -> Tensor:
        """Ids [...] → float32 [..., d]."""
        return super().forward(input).float()
