"""Int8 products: one scale per token, exact sums, the same for one token and for many, whatever the processor."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.model import int8
from engine.model.kv_cache import RaggedCache
from engine.model.language_model import LanguageModel
from engine.models import store
from tests.support.random_gguf import logits, random_qwen

pytestmark = pytest.mark.skipif(not int8.has_fbgemm(), reason="fbgemm needs an x86 processor")


EXTREME = """
import torch
from engine.model import int8
for sign in (1, -1):
    codes = torch.full((32, 1024), sign * int8.LARGEST_WEIGHT, dtype=torch.int8)
    made = int8.Int8Linear(codes, torch.ones(32), None)
    print(*(made(torch.ones(2, 1024)) / int8.LARGEST_WEIGHT).unique().tolist())
"""


@pytest.mark.parametrize("instructions", ["AVX2", "AVX512", None])
def test_the_largest_weights_and_inputs_do_not_saturate(instructions):
    held = {"FBGEMM_ENABLE_INSTRUCTIONS": instructions} if instructions else {}
    done = subprocess.run([sys.executable, "-c", EXTREME], env=os.environ | held, capture_output=True, text=True)
    assert done.stdout.split() == ["1024.0", "-1024.0"], done.stderr


def stored(dense: Any, path: Path) -> Any:
    tensors = dense.state_dict()
    store.save(store.quantise(dense, "int8", tensors.__getitem__), path)
    return store.load(path, dense.config.to_dict(), "int8")


@pytest.mark.parametrize("tied", [True, False])
def test_a_stored_model_gives_nearly_the_logits_of_the_original(tmp_path, tied):
    dense = random_qwen(3, tied=tied)
    expected = logits(dense).float()
    assert (logits(stored(dense, tmp_path / "model.safetensors")) - expected).norm() < 0.04 * expected.norm()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    built = stored(random_qwen(3), tmp_path_factory.mktemp("int8") / "model.safetensors")
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
    dense = random_qwen(3)
    layers = [module for module in dense.modules() if isinstance(module, torch.nn.Linear)]
    norms = sum(4 * weight.numel() for weight in dense.parameters() if weight.ndim == 1)  # biases, too
    weights = sum(layer.weight.numel() + 4 * layer.out_features for layer in layers)
    assert model.cost.trunk_bytes + model.cost.head_bytes == weights + norms
