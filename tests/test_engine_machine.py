"""A copy of 4-bit weights is kept where there is room for it, in the format that the processor is faster in."""

from __future__ import annotations

import pytest
import torch

from engine import machine
from engine.machine import copy_dtype

GB = 10**9
INTEL, AMD = "Intel(R) Xeon(R) Processor", "AMD EPYC"


@pytest.mark.parametrize(
    ("memory", "processor", "matrix_units", "wanted", "expected"),
    [
        (32 * GB, INTEL, True, None, torch.bfloat16),
        (32 * GB, INTEL, False, None, torch.float32),
        (32 * GB, AMD, False, None, torch.bfloat16),
        (16 * GB, INTEL, False, None, torch.bfloat16),  # no room for more
        (8 * GB, INTEL, False, None, None),
        (8 * GB, INTEL, False, True, torch.bfloat16),
        (0, INTEL, False, None, None),  # cannot be asked
        (32 * GB, INTEL, False, False, None),
    ],
)
def test_memory_processor_and_setting_decide_on_the_copy(
    memory, processor, matrix_units, wanted, expected, monkeypatch
):
    monkeypatch.setattr(machine, "_memory", lambda: memory)
    monkeypatch.setattr(machine, "processor", lambda: processor)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: matrix_units)
    assert copy_dtype(2 * GB, wanted) is expected


def test_models_without_4_bit_weights_need_none():
    assert copy_dtype(0) is None
    assert copy_dtype(0, True) is None
