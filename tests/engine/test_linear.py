"""A product of joined layers is what each layer gives, and in few bits the same to the bit in a pass of any length."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from engine.model import forward, int8, nf4
from engine.models.store import cpu_layout

packed_only = pytest.mark.skipif(cpu_layout("nf4") != "packed", reason="the kernel needs AVX512-BF16")
LENGTHS = [1, 2, 3, 4, 5, 8, 16, 17, 33]


def weight(outputs: int, seed: int) -> torch.Tensor:
    return (torch.randn(outputs, 256, generator=torch.manual_seed(seed)) * 0.05).bfloat16()


def in_nf4(matrix: torch.Tensor, bias: torch.Tensor | None = None) -> nf4.Nf4Linear:
    codes, state = nf4.quantise(matrix, "packed")
    return nf4.Nf4Linear(codes, state["absmax"], bias)


def in_int8(matrix: torch.Tensor, bias: torch.Tensor | None = None) -> int8.Int8Linear:
    codes, scales = int8.quantise(matrix)
    return int8.Int8Linear(codes, scales, bias)


@packed_only
def test_nf4_layers_side_by_side_are_one_layer_of_the_stacked_codes():
    parts = [in_nf4(weight(outputs, outputs)) for outputs in (64, 32)]
    both = in_nf4(torch.cat([weight(64, 64), weight(32, 32)]))
    x = torch.randn(3, 256).bfloat16()
    torch.testing.assert_close(forward.SideBySide(parts)(x), both(x), rtol=0.02, atol=0.02)


@pytest.mark.parametrize("form", [pytest.param("nf4", marks=packed_only), "int8"])
@pytest.mark.parametrize("biased", [False, True])
def test_a_tokens_product_is_the_same_to_the_bit_in_a_pass_of_any_length(form, biased):
    bias = torch.randn(96).bfloat16() if biased else None
    layer = (in_nf4 if form == "nf4" else in_int8)(weight(96, 1), bias)
    x = torch.randn(40, 256).to(torch.bfloat16 if form == "nf4" else torch.float32)
    alone = torch.cat([layer(row[None]) for row in x])
    for length in LENGTHS:
        assert torch.equal(layer(x[:length]), alone[:length])
    expected = nn.functional.linear(x.float(), weight(96, 1).float(), None if bias is None else bias.float())
    torch.testing.assert_close(alone.float(), expected, rtol=0.1, atol=0.3 if form == "nf4" else 0.05)
    assert torch.equal(layer(x.view(5, 8, 256)), alone.view(5, 8, 96)), "as transformers calls it"


def test_without_fbgemm_int8_weights_are_read_by_another_product(monkeypatch):
    x, expected = torch.randn(7, 256), in_int8(weight(96, 1), torch.ones(96))
    monkeypatch.setattr(int8, "has_fbgemm", lambda: False)
    other = in_int8(weight(96, 1), torch.ones(96))
    torch.testing.assert_close(other(x), expected(x), rtol=0.05, atol=0.05)
    assert not other.batch_invariant
