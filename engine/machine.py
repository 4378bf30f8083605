"""What this machine has and is good at: memory, and the number format that it multiplies fastest.

Knows nothing of models. torch is imported only where it multiplies.
"""

from __future__ import annotations

import os
import time
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_COPY_BYTES = 11.5e9  # a machine sold with 12 GB reports somewhat less
_FP32_COPY_BYTES = 19.5e9
_WORTH_IT = 1.2  # fp32 has to be that much faster, as it takes twice the memory


def room_for_copy() -> bool:
    """Whether there is memory for a bf16 copy of 4-bit weights: 12 GB or more in all, where that can be asked."""
    return _memory() >= _COPY_BYTES


@cache
def copy_dtype() -> torch.dtype:
    """What a copy of 4-bit weights for wide passes is best kept in: bf16, or fp32.

    A processor may have bf16 instructions that are slower than those for fp32: on 2 cores of an Intel Xeon whose matrix
    units (AMX) are hidden by the virtual machine, 100 × 1536 × 17920 take 33 ms in bf16 and 21 in fp32. No flag tells,
    so both are timed, which takes some 20 ms. The result is the same: the products are of bf16 values, summed in fp32,
    either way.
    """
    import torch

    if torch.cpu._is_amx_tile_supported() or _memory() < _FP32_COPY_BYTES:
        return torch.bfloat16
    faster = _seconds(torch.bfloat16) / _seconds(torch.float32)
    return torch.float32 if faster > _WORTH_IT else torch.bfloat16


def _seconds(dtype: torch.dtype) -> float:
    """The least time of five products of 64 tokens, as `engine.linear` multiplies them."""
    import torch

    x, weight = torch.ones(64, 1024, dtype=dtype), torch.ones(2048, 1024, dtype=dtype)
    weight = torch.ops.mkldnn._reorder_linear_weight(weight, len(x))
    taken: list[float] = []
    for _ in range(5):
        started = time.perf_counter()
        torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")
        taken.append(time.perf_counter() - started)
    return min(taken)


def _memory() -> int:
    """Bytes in all; 0 where that cannot be asked."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 0
