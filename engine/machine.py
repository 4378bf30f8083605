"""What this machine has and is good at: memory, and the number format that it multiplies fastest.

Knows nothing of models.
"""

from __future__ import annotations

import os

import torch

from engine.provenance import processor

_MOST = 0.4  # of the memory, for a copy


def copy_dtype(parameters: int, wanted: bool | None = None) -> torch.dtype | None:
    """What a copy of 4-bit weights is best kept in: bf16, fp32, or nothing.

    Args:
        parameters: How many weights there are.
        wanted: Whether to keep a copy; None does if it takes at most two fifths of the memory, where that can be asked.
    """
    room = _MOST * _memory()
    if not parameters or wanted is False or (wanted is None and parameters * 2 > room):
        return None
    return torch.float32 if parameters * 4 <= room and fp32_is_faster() else torch.bfloat16


def fp32_is_faster() -> bool:
    """Whether wide products take less time in fp32 than by this processor's bf16 instructions.

    True of Intel's server cores without matrix units (AMX), which some virtual machines hide: they start half as many
    bf16 instructions as fp32 ones, and on 2 of them 100 × 1536 × 17920 take 33 ms in bf16 and 21 in fp32. Told by name
    rather than timed: a choice that hangs on the clock would give other roundings, and so now and then other tokens,
    from one start to the next.
    """
    has_bf16, has_matrix_units = torch.cpu._is_avx512_bf16_supported(), torch.cpu._is_amx_tile_supported()
    return has_bf16 and not has_matrix_units and "intel" in processor().lower()


def _memory() -> int:
    """Bytes in all; 0 where that cannot be asked."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 0
