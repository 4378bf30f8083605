"""Scores against preferences: ranking, starting threshold, reliability, and a calibration that must earn its keep."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from engine.network import RouterNetwork
from trainer.fit.calibration import (
    auc,
    best_threshold,
    calibrate,
    calibration_error,
    cross_entropy,
    fold_into,
    reliability,
)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def sample(count, seed):
    """True logits, preferences drawn from them, and questions of 20 tokens."""
    chance = np.random.default_rng(seed)
    logits = chance.normal(1.0, 1.5, size=count)
    wanted = (chance.random(count) < sigmoid(logits)).astype(np.float32)
    return logits, wanted, np.array([f"q{n // 20}" for n in range(count)])


@pytest.mark.parametrize(
    ("scores", "wanted", "expected"),
    [
        ([0.1, 0.9], [0, 1], 1.0),
        ([0.9, 0.1], [0, 1], 0.0),
        ([0.5, 0.5], [0, 1], 0.5),
        ([1, 2, 3, 4], [0, 1, 0, 1], 0.75),
    ],
)
def test_auc_of_small_examples(scores, wanted, expected):
    assert auc(np.array(scores), np.array(wanted)) == expected


def test_a_weight_of_two_is_the_same_token_twice_in_every_figure():
    logits, wanted, _ = sample(400, 0)
    scores = sigmoid(logits).round(2)
    weights = np.random.default_rng(1).integers(1, 4, size=400)
    score_often, wanted_often = (np.repeat(each, weights) for each in (scores, wanted))
    assert auc(scores, wanted, weights) == pytest.approx(auc(score_often, wanted_often))
    assert best_threshold(scores, wanted, weights) == best_threshold(score_often, wanted_often)
    errors = (
        calibration_error(reliability(scores, wanted, weights)),
        calibration_error(reliability(score_often, wanted_often)),
    )
    assert errors[0] == pytest.approx(errors[1])


def test_the_best_threshold_parts_the_preferences():
    scores = np.array([0.2, 0.3, 0.8, 0.9])
    assert 0.3 < best_threshold(scores, np.array([0, 0, 1, 1])) <= 0.8


def test_mis_scaled_scores_are_mended_on_fresh_tokens_and_keep_their_ranking():
    true, wanted, questions = sample(4000, 0)
    found = calibrate(3 * true + 1, wanted, np.ones(4000), questions)
    assert found is not None and found.kept
    assert found.slope == pytest.approx(1 / 3, abs=0.03)
    assert found.bias == pytest.approx(-1 / 3, abs=0.1)
    true, wanted, _ = sample(4000, 1)
    before, after = 3 * true + 1, found.slope * (3 * true + 1) + found.bias
    errors = [calibration_error(reliability(sigmoid(each), wanted)) for each in (before, after)]
    assert errors[0] > 0.08
    assert errors[1] < 0.03
    assert (np.argsort(before) == np.argsort(after)).all()
    assert cross_entropy(after, wanted, np.ones(4000)) < cross_entropy(before, wanted, np.ones(4000))


def test_scores_that_are_right_already_are_hardly_moved():
    true, wanted, questions = sample(4000, 2)
    found = calibrate(true, wanted, np.ones(4000), questions)
    assert found is not None
    assert (found.slope, found.bias) == (pytest.approx(1, abs=0.1), pytest.approx(0, abs=0.1))


def test_a_calibration_that_does_not_help_on_other_questions_is_not_kept():
    """Few tokens, and in each question the preferences go another way: what the others say is wrong here."""
    logits = np.zeros(40)
    wanted = np.repeat([0.0, 1.0] * 5, 4)
    questions = np.repeat([f"q{n}" for n in range(10)], 4)
    found = calibrate(logits, wanted, np.ones(40), questions)
    assert found is not None
    assert found.loss_after >= found.loss_before
    assert not found.kept


def test_a_ranking_is_never_turned_round():
    true, wanted, questions = sample(2000, 3)
    found = calibrate(-true, wanted, np.ones(2000), questions)
    assert found is not None
    assert found.slope < 0
    assert not found.kept


def test_preferences_that_are_told_apart_without_a_mistake_give_finite_numbers():
    logits = np.linspace(-4, 4, 100)
    found = calibrate(logits, (logits > 0).astype(float), np.ones(100), np.arange(100) % 7)
    assert found is not None
    assert 0 < found.slope < 100


def test_one_question_is_not_enough_to_know_whether_it_helps():
    assert calibrate(np.zeros(4), np.array([0, 1, 0, 1]), np.ones(4), np.array(["q"] * 4)) is None


@pytest.mark.parametrize("skip", [False, True])
def test_folded_into_the_last_layer_it_is_the_same_line(skip):
    torch.manual_seed(0)
    network, features = RouterNetwork(24, 16, skip=skip).eval(), torch.randn(50, 24)
    with torch.inference_mode():
        before = network(features).double()
        fold_into(network, 0.4, -1.5)
        torch.testing.assert_close(network(features).double(), 0.4 * before - 1.5, atol=1e-6, rtol=1e-6)


def test_the_bins_have_equal_weight_and_their_figures_are_those_of_their_tokens():
    true, wanted, _ = sample(4000, 4)
    table = reliability(sigmoid(true), wanted)
    assert [each.tokens for each in table] == [400] * 10
    assert sum(each.share for each in table) == pytest.approx(1)
    lowest = np.argsort(true)[:400]
    assert table[0].score == pytest.approx(sigmoid(true[lowest]).mean())
    assert table[0].observed == pytest.approx(wanted[lowest].mean())


def test_tokens_of_one_score_share_a_bin():
    table = reliability(np.array([1.0] * 90 + [0.2] * 10), np.array([1.0] * 72 + [0.0] * 28))
    assert [(each.tokens, each.score) for each in table] == [(10, pytest.approx(0.2)), (90, pytest.approx(1.0))]
    assert calibration_error(table) == pytest.approx(0.9 * 0.2 + 0.1 * 0.2)
