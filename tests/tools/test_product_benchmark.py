"""The candidates multiply what they are given: each form's product is the matrix's, up to its rounding."""

from __future__ import annotations

import pytest
import torch

from tools.product_benchmark import forms, measured

CPU = torch.device("cpu")


@pytest.mark.parametrize("form", forms(CPU))
@pytest.mark.parametrize("tokens", [1, 5])
def test_each_form_multiplies_with_the_matrix(form, tokens):
    torch.manual_seed(0)
    weight, x = 0.05 * torch.randn(64, 256).bfloat16(), torch.randn(tokens, 256).bfloat16()
    with torch.inference_mode():
        expected = x.float() @ weight.float().T
        assert (forms(CPU)[form](weight)(x).float() - expected).norm() < 0.15 * expected.norm()


def test_the_table_has_a_row_for_each_form():
    lines = measured(CPU, 64, 128, copies=2, repeats=1).splitlines()
    assert [line.split(" | ")[0].strip("| ") for line in lines[2 : 2 + len(forms(CPU))]] == list(forms(CPU))
