"""4-bit weights give the same product whichever way they are read."""

from __future__ import annotations

from typing import Any

import bitsandbytes as bnb
import pytest
import torch

from engine.model import linear
from engine.model.linear import Linear, copy_dtype
from engine.weights import nf4, store

packed_only = pytest.mark.skipif(store.cpu_layout("nf4") != "packed", reason="the packed layout needs AVX512-BF16")


def module(outputs, inputs, bias, seed, layout="packed"):
    torch.manual_seed(seed)
    state: Any
    codes, state = nf4.quantise_weight(torch.randn(outputs, inputs).bfloat16() * 0.05, layout)
    state.packing_format_for_cpu = layout == "packed"
    made: Any = bnb.nn.Linear4bit(inputs, outputs, bias=bias, compute_dtype=torch.bfloat16, quant_type="nf4")
    params4bit: Any = bnb.nn.Params4bit  # pyright does not see its __new__
    made.weight = params4bit(codes, requires_grad=False, quant_state=state, quant_type="nf4", bnb_quantized=True)
    made.weight.module = made
    made.quant_state = state
    made.support_avx512bf16_for_cpu = layout == "packed"  # else it would pack itself when it is called
    if bias:
        made.bias.data = torch.randn(outputs).bfloat16()
    return made.eval().requires_grad_(False)


@packed_only
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("tokens", [1, 5])
def test_joined_matrices_give_to_the_bit_what_each_module_gives(tokens, bias):
    x = torch.randn(tokens, 128).bfloat16()
    with torch.inference_mode():
        expected = torch.cat([module(n, 128, bias, n)(x) for n in (64, 32, 96)], dim=-1)
        modules = [module(n, 128, bias, n) for n in (64, 32, 96)]
        assert torch.equal(Linear(modules, None)(x), expected)
        assert torch.equal(torch.cat([each(x) for each in modules], dim=-1), expected)  # they stay usable


@packed_only
@pytest.mark.parametrize("copy", [torch.bfloat16, torch.float32, None])
def test_a_wide_pass_agrees_with_single_tokens(copy, monkeypatch):
    monkeypatch.setattr(linear, "wide_from", lambda kept: 8)
    both = Linear([module(64, 256, True, 1), module(64, 256, True, 2)], copy)
    both.make_copy()
    x = torch.randn(20, 256).bfloat16()
    with torch.inference_mode():
        alone = torch.cat([both(row[None]) for row in x])
        torch.testing.assert_close(both(x), alone, rtol=0.02, atol=0.02)


@packed_only
@pytest.mark.parametrize("bias", [False, True])
def test_a_copy_in_int8_is_read_from_five_tokens_on_and_agrees_up_to_its_rounding(bias):
    both, kernel = (Linear([module(64, 256, bias, 1), module(64, 256, bias, 2)], copy) for copy in (torch.int8, None))
    both.make_copy()
    x = torch.randn(20, 256).bfloat16()
    with torch.inference_mode():
        assert torch.equal(both(x[:4]), kernel(x[:4]))
        wide, expected = both(x[:5]).float(), kernel(x[:5]).float()
        torch.testing.assert_close(wide, expected, rtol=0.03, atol=0.08)
        assert not torch.equal(wide, expected)
        assert torch.equal(both(x)[:5].float(), wide)  # each token has its own scale


@pytest.mark.parametrize("tokens", [1, 2, 3, 40])
@pytest.mark.parametrize("bias", [False, True])
def test_without_the_kernel_a_copy_gives_what_dequantising_each_time_gives(tokens, bias, monkeypatch):
    modules = [module(outputs, 256, bias, outputs, "plain") for outputs in (600, 64)]
    x = torch.randn(tokens, 256).bfloat16()
    with torch.inference_mode():
        expected = torch.cat([each(x) for each in modules], dim=-1)
        monkeypatch.setattr(linear, "has_kernel", lambda: False)
        both = Linear(modules, torch.bfloat16)
        monkeypatch.setattr(bnb.nn.Linear4bit, "forward", None)
        torch.testing.assert_close(both(x), expected, rtol=0.02, atol=0.02)


GB = 10**9
INTEL, AMD = "Intel(R) Xeon(R) Processor", "AMD EPYC"


@pytest.mark.parametrize(
    ("memory", "processor", "units", "wanted", "expected"),
    [
        (32 * GB, INTEL, "amx", "auto", torch.bfloat16),
        (32 * GB, INTEL, "bf16", "auto", torch.float32),
        (32 * GB, AMD, "bf16", "auto", torch.bfloat16),
        (32 * GB, INTEL, "", "auto", torch.bfloat16),  # unpacked to fp32 when it is read
        (16 * GB, INTEL, "bf16", "auto", torch.bfloat16),  # no room for more
        (8 * GB, INTEL, "bf16", "auto", None),
        (8 * GB, INTEL, "bf16", "bf16", torch.bfloat16),
        (0, INTEL, "bf16", "auto", None),  # cannot be asked
        (32 * GB, INTEL, "bf16", "none", None),
        (32 * GB, AMD, "", "int8", torch.int8),
    ],
)
def test_memory_processor_and_setting_decide_on_the_copy(memory, processor, units, wanted, expected, monkeypatch):
    monkeypatch.setattr(linear, "memory_bytes", lambda: memory)
    monkeypatch.setattr(linear, "processor", lambda: processor)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: units == "amx")
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: units != "")
    monkeypatch.setattr(linear.int8, "supported", lambda: True)
    assert copy_dtype(2 * GB, wanted) is expected
