"""Int8 products: one scale per token, exact sums, the same for one token and for many, whatever the processor."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from typing import Any

import pytest
import torch

from engine.model import int8
from engine.model.kv_cache import RaggedCache
from engine.model.language_model import LanguageModel, cost_of
from engine.weights import store
from tests.support.random_gguf import logits, random_qwen

pytestmark = pytest.mark.skipif(not int8.supported(), reason="fbgemm needs an x86 processor")


EXTREME = """
import torch
from engine.model import int8
for sign in (1, -1):
    codes = torch.full((32, 1024), sign * int8.LARGEST_WEIGHT, dtype=torch.int8)
    made = int8.Int8Linear(codes, torch.ones(32), bias=False)
    print(*(made(torch.ones(2, 1024)) / int8.LARGEST_WEIGHT).unique().tolist())
"""


@pytest.mark.parametrize("instructions", ["AVX2", "AVX512", None])
def test_the_largest_weights_and_inputs_do_not_saturate(instructions):
    held = {"FBGEMM_ENABLE_INSTRUCTIONS": instructions} if instructions else {}
    done = subprocess.run([sys.executable, "-c", EXTREME], env=os.environ | held, capture_output=True, text=True)
    assert done.stdout.split() == ["1024.0", "-1024.0"], done.stderr


@pytest.mark.parametrize("quantised_head", [True, False])
@pytest.mark.parametrize("tied", [True, False])
def test_a_stored_model_gives_nearly_the_logits_of_the_original(tmp_path, tied, quantised_head):
    dense = random_qwen(3, tied=tied)
    expected = logits(copy.deepcopy(dense)).float()
    store.save(store.quantise(dense, "int8"), tmp_path / "model.safetensors")
    built = store.build(dense.config, tmp_path / "model.safetensors", "int8", quantised_head)
    assert (logits(built) - expected).norm() < 0.04 * expected.norm()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    dense, path = random_qwen(3), tmp_path_factory.mktemp("int8") / "model.safetensors"
    store.save(store.quantise(dense, "int8"), path)
    built = store.build(dense.config, path, "int8", lm_head_4bit=True)
    return LanguageModel(built, "int8", built.config.vocab_size)


TEXT = [int(token) for token in torch.randint(288, (100,), generator=torch.manual_seed(1))]


def read(model: LanguageModel, cache: RaggedCache, tokens: list[int], looks: int | None = None) -> torch.Tensor:
    return model.logits(model.feed(cache, [0], [tokens], [len(tokens) if looks is None else looks])[0])


@pytest.fixture(scope="module")
def one_by_one(model: LanguageModel) -> torch.Tensor:
    """What a model says at each token of a text."""
    cache = model.new_cache(1, 128)
    return torch.cat([read(model, cache, [token]) for token in TEXT])


@pytest.mark.parametrize("length", [2, 3, 7, 8, 31, 32, 33, 70, 100])
def test_a_model_says_the_same_to_the_bit_of_a_token_read_in_a_pass_of_any_length(model, one_by_one, length):
    """So at acceptance 1 a text is the LLM's own, near ties included."""
    cache = model.new_cache(1, 110)
    found = torch.cat([read(model, cache, TEXT[start : start + length]) for start in range(0, len(TEXT), length)])
    assert model.dtype is torch.float32 and torch.equal(found, one_by_one)


def test_so_it_does_beside_other_texts_of_other_lengths(model, one_by_one):
    cache, found = model.new_cache(3, 128), []
    model.feed(cache, [0, 1], [[7] * 40, [8, 9]], [0, 1])  # nobody looks at a piece of a long prompt
    for start in range(0, len(TEXT), 5):
        states = model.feed(cache, [0, 2, 1], [[3], TEXT[start : start + 5], [4] * 3], [1, 5, 2])
        found.append(model.logits(states[1]))
    for token in range(20):
        model.feed(cache, [1, 2, 0], [[token]] * 3, [1, 1, 1])
    cache.truncate(2, len(TEXT) - 1)
    (last,) = model.feed(cache, [2], [TEXT[-1:]], [1])
    assert torch.equal(torch.cat(found), one_by_one) and torch.equal(model.logits(last), one_by_one[-1:])


def test_the_scales_of_the_outputs_are_charged_with_the_weights(model):
    built = model.model
    layers = [module for module in built.modules() if isinstance(module, int8.Int8Linear)]
    cost = cost_of(built, torch.float32)
    embedding: Any = built.get_input_embeddings()
    weights = sum(parameter.nbytes for parameter in built.parameters()) - embedding.weight.nbytes
    assert cost.trunk_bytes + cost.head_bytes == weights + sum(4 * layer.out_features for layer in layers)
