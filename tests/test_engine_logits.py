"""What is found block by block is what plain operators find."""

from __future__ import annotations

import pytest
import torch

from engine.model.logits import BLOCK, argmax, top_k

SIZES = (7, 16 * BLOCK - 1, 16 * BLOCK, 40 * BLOCK + 5)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("k", [1, 5])
def test_the_highest_are_those_of_topk(size, k):
    values = torch.randn(3, size, generator=torch.Generator().manual_seed(size))
    values[1, -1] = 9.0  # in the rest that fills no block
    values[2, :3] = torch.tensor([5.0, 7.0, 6.0])  # several in one block
    found, places = top_k(values, k)
    expected = values.topk(k)
    assert torch.equal(found, expected.values) and torch.equal(places, expected.indices)


def test_more_than_there_are_blocks_are_found_as_well():
    values = torch.randperm(20 * BLOCK, generator=torch.Generator().manual_seed(0)).float()[None]
    assert top_k(values, 30)[0].tolist() == [[20.0 * BLOCK - 1 - n for n in range(30)]]


@pytest.mark.parametrize("size", SIZES)
def test_of_equals_the_first_is_the_highest(size):
    values = torch.zeros(size)
    assert argmax(values) == 0
    for first in (size - 1, size // 2, 3):
        values[first] = 1.0
        assert argmax(values) == first
