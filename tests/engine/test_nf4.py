"""NF4 models stored and read, against what bitsandbytes does by itself."""

from __future__ import annotations

import copy

import pytest
import torch

from engine.model import nf4
from engine.model.forward import size_of
from engine.model.nf4 import BLOCK, Nf4Linear, WideNf4Linear
from engine.models import store
from tests.support.random_gguf import by_bitsandbytes, logits, random_qwen

packed_only = pytest.mark.skipif(store.cpu_layout("nf4") != "packed", reason="the kernel needs AVX512-BF16")


def stored(dense, layout, path):
    tensors = dense.state_dict()
    store.save(store.quantise(dense, layout, tensors.__getitem__), path)
    return store.load(path, dense.config.to_dict(), layout)


@pytest.mark.parametrize("layout", [pytest.param("packed", marks=packed_only), "plain"])
@pytest.mark.parametrize("tied", [True, False])
def test_a_stored_model_gives_the_logits_that_bitsandbytes_gives(tmp_path, tied, layout, monkeypatch):
    dense = random_qwen(3, tied=tied)
    monkeypatch.setattr("bitsandbytes.nn.modules.has_avx512bf16", lambda: layout == "packed")
    expected = logits(by_bitsandbytes(copy.deepcopy(dense))).float()
    found = logits(stored(dense, layout, tmp_path / "model.safetensors"))
    torch.testing.assert_close(found, expected, rtol=0.02, atol=0.02)


def test_matrices_larger_than_a_chunk_are_quantised_as_a_whole(monkeypatch):
    weight = torch.randn(160, 128, dtype=torch.bfloat16)
    whole, state = nf4.quantise(weight, "packed")
    monkeypatch.setattr(nf4, "CHUNK", 64 * 128)
    chunked, chunked_state = nf4.quantise(weight, "packed")
    assert torch.equal(whole, chunked)
    assert torch.equal(state["absmax"], chunked_state["absmax"])


@packed_only
def test_a_pass_is_charged_the_same_bytes_in_either_layout(tmp_path):
    weight = torch.randn(160, 128, dtype=torch.bfloat16)
    codes, state = nf4.quantise(weight, "packed")
    dense = torch.nn.Linear(128, 160, bias=False).bfloat16()
    dense.weight.data = weight
    (layer,) = by_bitsandbytes(torch.nn.Sequential(dense)).children()  # pyright: ignore[reportArgumentType]
    expected = 160 * 128 // 2 + 2 * 160 * 128 // BLOCK, 160 * 128
    assert size_of(Nf4Linear(codes, state["absmax"], None)) == size_of(layer) == expected


@packed_only
def test_kept_in_16_bits_a_matrix_has_the_numbers_that_the_kernel_multiplies_by():
    codes, state = nf4.quantise(torch.randn(160, 128, dtype=torch.bfloat16), "packed")
    narrow, wide = Nf4Linear(codes, state["absmax"], None), WideNf4Linear(codes, state["absmax"], None)
    each_column = torch.eye(128, dtype=torch.bfloat16)
    assert torch.equal(wide(each_column), narrow(each_column))
    assert size_of(wide) == size_of(narrow)
    assert wide.weight_bytes + wide.extra_bytes == 2 * 160 * 128
