"""What is found block by block is what plain operators find."""

from __future__ import annotations

import math

import pytest
import torch

from engine.model.logits import BLOCK, ENTROPY, certainties, logit_features, top_k

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


@pytest.mark.parametrize("size", SIZES)
def test_of_equals_the_first_is_the_highest(size):
    values = torch.zeros(1, size)
    for first in (size - 1, size // 2, 3):
        values[0, first] = 1.0
        assert certainties(values)[0].likeliest == values.argmax() == first


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("rows", [1, 3, 9])
def test_certainty_is_what_plain_operators_give(size, rows):
    values = 4 * torch.randn(rows, size, generator=torch.Generator().manual_seed(size)) + 30
    found, probabilities = logit_features(values), values.log_softmax(-1)
    torch.testing.assert_close(found[:, :5], probabilities.topk(5).values, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found[:, 5], found[:, 0] - found[:, 1], atol=1e-5, rtol=1e-5)
    entropy = torch.distributions.Categorical(logits=values.double()).entropy()
    torch.testing.assert_close(found[:, ENTROPY].double(), entropy, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found[:, 7], values.logsumexp(-1))
    assert [each.likeliest for each in certainties(values)] == values.argmax(-1).tolist()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_logits_that_are_no_numbers_give_no_certainty(size, bad):
    values = torch.zeros(1, size)
    values[0, size // 2] = bad
    (found,) = certainties(values)
    assert math.isnan(found.features[0]) and found.likeliest == size // 2
