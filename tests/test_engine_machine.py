"""A copy of 4-bit weights is kept where there is room for it, in the format that the processor is faster in."""

from __future__ import annotations

import pytest
import torch

from engine import machine
from engine.machine import copy_dtype

GB = 10**9
INTEL, AMD = "Intel(R) Xeon(R) Processor", "AMD EPYC"


@pytest.mark.parametrize(
    ("memory", "processor", "units", "wanted", "expected"),
    [
        (32 * GB, INTEL, "amx", None, torch.bfloat16),
        (32 * GB, INTEL, "bf16", None, torch.float32),
        (32 * GB, AMD, "bf16", None, torch.bfloat16),
        (32 * GB, INTEL, "", None, torch.bfloat16),  # unpacked to fp32 when it is read
        (16 * GB, INTEL, "bf16", None, torch.bfloat16),  # no room for more
        (8 * GB, INTEL, "bf16", None, None),
        (8 * GB, INTEL, "bf16", True, torch.bfloat16),
        (0, INTEL, "bf16", None, None),  # cannot be asked
        (32 * GB, INTEL, "bf16", False, None),
    ],
)
def test_memory_processor_and_setting_decide_on_the_copy(memory, processor, units, wanted, expected, monkeypatch):
    monkeypatch.setattr(machine, "_memory", lambda: memory)
    monkeypatch.setattr(machine, "processor", lambda: processor)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: units == "amx")
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: units != "")
    assert copy_dtype(2 * GB, wanted) is expected


def test_models_without_4_bit_weights_need_none():
    assert copy_dtype(0) is None
    assert copy_dtype(0, True) is None
