"""NF4 models stored and rebuilt, against what bitsandbytes does by itself."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from engine.model.language_model import charged_bytes
from engine.model.packed import BLOCK
from engine.weights import nf4, store
from tests.support.random_gguf import by_bitsandbytes, logits, random_qwen


@pytest.mark.parametrize("lm_head_4bit", [True, False])
@pytest.mark.parametrize("tied", [True, False])
def test_a_stored_model_gives_the_logits_that_bitsandbytes_gives(tmp_path, tied, lm_head_4bit):
    dense = random_qwen(3, tied=tied)
    expected = logits(by_bitsandbytes(copy.deepcopy(dense), lm_head_4bit))
    store.save(store.quantise(dense, store.cpu_layout("nf4")), tmp_path / "model.safetensors")
    built = store.build(dense.config, tmp_path / "model.safetensors", store.cpu_layout("nf4"), lm_head_4bit)
    assert torch.equal(logits(built), expected)


def test_both_layouts_hold_the_same_weights(tmp_path, monkeypatch):
    expected = logits(by_bitsandbytes(random_qwen(3)))
    monkeypatch.setattr("bitsandbytes.nn.modules.has_avx512bf16", lambda: False)
    dense = random_qwen(3)
    store.save(store.quantise(dense, "plain"), tmp_path / "model.safetensors")
    built = store.build(dense.config, tmp_path / "model.safetensors", "plain", lm_head_4bit=True)
    assert torch.allclose(logits(built).float(), expected.float(), atol=0.05)


def test_matrices_larger_than_a_chunk_are_quantised_as_a_whole(monkeypatch):
    weight = torch.randn(160, 128, dtype=torch.bfloat16)
    whole, state = nf4.quantise_weight(weight, store.cpu_layout("nf4"))
    monkeypatch.setattr(nf4, "CHUNK", 64 * 128)
    chunked, chunked_state = nf4.quantise_weight(weight, store.cpu_layout("nf4"))
    assert torch.equal(whole, chunked)
    assert torch.equal(state.absmax, chunked_state.absmax)


def test_a_pass_is_charged_the_same_bytes_in_either_layout():
    weight, charged = torch.randn(160, 128, dtype=torch.bfloat16), set()
    for layout in ("plain", "packed"):
        made: Any
        made, made.quant_state = nf4.quantise_weight(weight, layout)
        charged.add(charged_bytes(made))
    assert charged == {160 * 128 // 2 + 2 * 160 * 128 // BLOCK}
