"""Sampling: a pure function of logits, settings, seed and position; its sets are those of transformers."""

from __future__ import annotations

from collections import Counter
from itertools import product

import pytest
import torch
from transformers import RepetitionPenaltyLogitsProcessor, TopKLogitsWarper, TopPLogitsWarper

from engine import Sampling
from engine.model.sampling import penalise, sample, uniform

NO_IDS = torch.LongTensor([[]])  # these two do not look at them


def logits(size=5000, seed=0, scale=2.0):
    return torch.randn(size, generator=torch.Generator().manual_seed(seed)) * scale


def test_uniform_depends_on_seed_position_and_stream_alone_and_is_uniform():
    places = list(product(range(20), range(50), range(2)))
    draws = [uniform(*place) for place in places]
    assert draws == [uniform(*place) for place in places]
    assert len(set(draws)) == len(draws)
    assert 0 <= min(draws) < 0.01
    assert 0.99 < max(draws) < 1
    assert abs(sum(draws) / len(draws) - 0.5) < 0.02


def test_temperature_0_is_greedy_and_takes_the_first_of_a_tie():
    assert sample(torch.tensor([0.0, 3.0, 3.0, 1.0]), Sampling(), [], 0.99) == 1


@pytest.mark.parametrize(("top_p", "top_k"), [(0.9, 0), (0.3, 0), (1.0, 5), (0.7, 20), (0.999, 0)])
@pytest.mark.parametrize("scale", [0.1, 2.0])  # flat enough to leave the sorted head, and peaked
def test_the_tokens_that_can_be_drawn_are_those_of_transformers(top_p, top_k, scale):
    row = logits(scale=scale)
    kept = row[None]
    if top_k:
        kept = TopKLogitsWarper(top_k)(NO_IDS, kept)
    if top_p < 1:
        kept = TopPLogitsWarper(top_p)(NO_IDS, kept)
    allowed = set(torch.isfinite(kept[0]).nonzero().flatten().tolist())
    settings = Sampling(temperature=1.0, top_p=top_p, top_k=top_k)
    drawn = {sample(row, settings, [], n / 1500) for n in range(1500)}
    assert drawn <= allowed
    if len(allowed) < 300:
        assert len(drawn) > 0.6 * len(allowed)


def test_draws_follow_the_softmax():
    row = torch.tensor([2.0, 1.0, 0.0, -1.0])
    counts = Counter(sample(row, Sampling(temperature=1.5), [], uniform(1, n)) for n in range(5000))
    for token, probability in enumerate((row / 1.5).softmax(-1).tolist()):
        assert abs(counts[token] / 5000 - probability) < 0.025


def test_the_repetition_penalty_is_that_of_transformers():
    row, seen = logits(50), [3, 3, 7, 49]
    expected = RepetitionPenaltyLogitsProcessor(1.4)(torch.LongTensor([seen]), row[None].clone())[0]
    assert torch.equal(penalise(row, 1.4, seen), expected)
