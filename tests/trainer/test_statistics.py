"""The statistics: values known by hand, agreement with plain loops, and what must hold of any numbers."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.operating_points import bootstrap_counts
from trainer.evaluation import statistics

nan = math.nan


def column(*values):
    """One sample of several points."""
    return np.array(values, dtype=float)[:, None]


def one(value):
    return np.array([value], dtype=float)


def frontier(cost, accuracy):
    """The Pareto frontier, by a plain loop."""
    kept = []
    for c, a in sorted(zip(cost, accuracy, strict=True), key=lambda p: (p[0], -p[1])):
        if not kept or a > kept[-1][1]:
            kept.append((c, a))
    return kept


def cheapest(cost, accuracy, target):
    kept = frontier(cost, accuracy)
    if target <= kept[0][1]:
        return kept[0][0]
    for (c0, a0), (c, a) in itertools.pairwise(kept):
        if a >= target:
            return c0 + (target - a0) / (a - a0) * (c - c0)
    return nan


def most_accurate(cost, accuracy, budget):
    kept = frontier(cost, accuracy)
    if budget < kept[0][0]:
        return nan
    for (c0, a0), (c, a) in itertools.pairwise(kept):
        if c > budget:
            return a0 + (budget - c0) / (c - c0) * (a - a0)
    return kept[-1][1]


def test_every_resample_draws_as_many_questions_as_there_are_and_sample_0_is_what_was_measured():
    counts = bootstrap_counts(7, 500, seed=0)
    assert counts.shape == (501, 7) and counts[0].tolist() == [1] * 7
    assert (counts.sum(axis=1) == 7).all()
    assert counts[1:].mean(axis=0) == pytest.approx([1] * 7, abs=0.15)
    assert (counts == bootstrap_counts(7, 500, seed=0)).all() and (counts != bootstrap_counts(7, 500, seed=1)).any()


def test_sums_are_those_of_a_loop_over_the_drawn_questions():
    values, counts = np.random.default_rng(1).integers(0, 9, (4, 11)).astype(float), bootstrap_counts(11, 30, 0)
    by_hand = [[sum(v * c for v, c in zip(row, drawn, strict=True)) for drawn in counts] for row in values]
    assert statistics.sums(values, counts).tolist() == by_hand


def test_the_interval_of_a_share_is_that_of_the_binomial():
    right = np.array([[1.0] * 60 + [0.0] * 40])
    found = statistics.estimate(statistics.sums(right, bootstrap_counts(100, 4000, 0))[0] / 100)
    assert (found.value, found.unreached) == (pytest.approx(0.6), 0)
    assert (found.low, found.high) == pytest.approx((0.50, 0.69), abs=0.015)  # binomial(100, 0.6)


def test_resamples_without_a_value_are_left_out_of_the_interval_and_counted():
    found = statistics.estimate(np.array([5.0, 1.0, nan, 3.0, nan]))
    assert (found.value, found.low, found.high, found.unreached) == pytest.approx((5, 1.05, 2.95, 0.5))
    none = statistics.estimate(np.array([nan, nan, nan]))
    assert math.isnan(none.value) and math.isnan(none.low) and none.unreached == 1


@pytest.mark.parametrize("llm", [0.5, 0.4])
def test_where_the_llm_is_no_better_there_is_no_gap_to_recover(llm):
    assert np.isnan(statistics.gap_recovered(one(0.6), one(0.5), one(llm))).all()
    assert np.isnan(statistics.average_gap_recovered(column(0.3), column(0.6), one(0.5), one(llm))).all()
    assert np.isnan(statistics.accuracy_targets(one(0.5), one(llm), 0.9)).all()
    assert statistics.accuracy_targets(one(0.5), one(llm), 1.0).tolist() == [llm]


def test_the_gap_recovered_is_0_at_the_slm_and_1_at_the_llm_and_on_average_the_area_under_the_curve():
    assert statistics.gap_recovered(column(0.2, 0.4, 0.6, 0.7, 0.1), one(0.2), one(0.6))[:, 0].tolist() == (
        pytest.approx([0, 0.5, 1, 1.25, -0.25])
    )
    # (0, 0), (0.25, 0.8), (0.5, 1), (1, 1): 0.25·0.4 + 0.25·0.9 + 0.5·1
    found = statistics.average_gap_recovered(column(0.25, 0.5), column(0.52, 0.6), one(0.2), one(0.6))
    assert found.tolist() == pytest.approx([0.825])
    assert statistics.accuracy_targets(np.array([0.2, 0.3]), np.array([0.6, 0.5]), 0.5) == pytest.approx([0.4, 0.4])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_a_straight_line_between_both_models_recovers_half_wherever_it_was_measured(shares):
    share = np.array(shares)[:, None]
    found = statistics.average_gap_recovered(share, 0.2 + 0.4 * share, one(0.2), one(0.6))
    assert found.tolist() == pytest.approx([0.5])


def test_a_curve_is_read_between_its_points_and_equal_shares_count_as_their_mean():
    x, y = statistics.curve_over_share(column(0.5, 0.2), column(0.9, 0.6), one(0.4), one(0.8))
    for share, expected in ((0, 0.4), (0.1, 0.5), (0.2, 0.6), (0.35, 0.75), (0.75, 0.85), (1, 0.8)):
        assert statistics.at_share(x, y, share)[0] == pytest.approx(expected)
    step = statistics.curve_over_share(column(0.5, 0.5), column(0.4, 0.8), one(0.0), one(1.0))
    assert statistics.at_share(*step, 0.5)[0] == pytest.approx(0.6)


def test_a_target_that_is_met_exactly_is_met_whatever_the_last_bit_says():
    assert statistics.cost_at_accuracy(column(10), column(0.1 + 0.2), one(0.3))[0] == 10
    assert statistics.cost_at_accuracy(column(10), column(0.3), one(0.1 + 0.2))[0] == 10


def test_both_frontiers_agree_with_a_loop_over_random_resamples_with_ties():
    rng = np.random.default_rng(0)
    cost, accuracy = rng.integers(1, 8, (6, 400)).astype(float), rng.integers(0, 8, (6, 400)) / 8
    target, budget = rng.integers(0, 17, 400) / 16, rng.integers(1, 17, 400) / 2
    least = np.array([cheapest(cost[:, n], accuracy[:, n], target[n]) for n in range(400)])
    most = np.array([most_accurate(cost[:, n], accuracy[:, n], budget[n]) for n in range(400)])
    assert statistics.cost_at_accuracy(cost, accuracy, target) == pytest.approx(least, nan_ok=True)
    assert statistics.accuracy_at_cost(cost, accuracy, budget) == pytest.approx(most, nan_ok=True)
    assert 0 < np.isnan(least).sum() < 400 and 0 < np.isnan(most).sum() < 400


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(0, 20)), min_size=1, max_size=10), st.integers(0, 20))
def test_the_frontier_reads_no_more_than_a_measured_point_that_gets_there_costs(points, target):
    cost, accuracy = (column(*values) for values in zip(*points, strict=True))
    read = statistics.cost_at_accuracy(cost, accuracy, one(target))[0]
    measured = statistics.least_cost(cost, accuracy, one(target))[0]
    assert math.isnan(read) == math.isnan(measured) and not read > measured
    number = statistics.front(cost[:, 0], accuracy[:, 0])
    assert [accuracy[n, 0] for n in number] == sorted({accuracy[n, 0] for n in number}), "each better than all cheaper"


@pytest.mark.parametrize(
    ("only_first", "only_second", "expected"),
    [(0, 0, 1.0), (1, 0, 1.0), (5, 5, 1.0), (8, 1, 20 / 2**9), (0, 10, 2 / 2**10), (3, 9, 2 * 299 / 2**12)],
)
def test_mcnemar_is_the_binomial_by_hand(only_first, only_second, expected):
    first = np.array([True] * only_first + [False] * only_second + [True, False])
    second = np.array([False] * only_first + [True] * only_second + [True, False])
    assert statistics.mcnemar(first, second) == statistics.mcnemar(second, first) == pytest.approx(expected)


def test_mcnemar_holds_for_hundreds_of_questions_that_differ():
    assert statistics.mcnemar(np.arange(3000) < 900, np.zeros(3000, bool)) == 2 / 2**900


def test_the_bootstrap_p_value_counts_the_resamples_beyond_zero_on_both_sides_and_is_never_0():
    assert statistics.bootstrap_p(np.array([1.0, *[1.0] * 97, -1.0, -1.0])) == pytest.approx(2 * 3 / 100)
    assert statistics.bootstrap_p(np.array([-1.0, *[-1.0] * 99])) == pytest.approx(2 / 100)
    assert statistics.bootstrap_p(np.array([0.0, 0.0, 0.0])) == 1
    assert statistics.bootstrap_p(np.array([math.inf, *[math.inf] * 98, -math.inf])) == pytest.approx(4 / 100)
    assert math.isnan(statistics.bootstrap_p(np.array([nan, nan])))


def test_pairing_finds_a_small_but_steady_difference_that_unpaired_intervals_would_hide():
    hard = np.random.default_rng(0).random(200)  # both fail the same hard questions
    right = np.stack([(hard < 0.55).astype(float), (hard < 0.50).astype(float)])
    first, second = statistics.sums(right, bootstrap_counts(200, 1000, 0)) / 200
    assert statistics.estimate(first - second).low > 0 and statistics.bootstrap_p(first - second) < 0.01
    assert statistics.estimate(first).low < statistics.estimate(second).high


def test_what_a_resample_left_out_measures_the_point_that_was_chosen_in_it():
    columns = np.array([[1.0, 0.0, 1.0, 1.0], [10.0, 20.0, 30.0, 40.0]])
    counts = np.array([[1, 1, 1, 1], [2, 2, 0, 0], [0, 1, 3, 0], [1, 1, 1, 1]])
    # The second sample leaves out the last two questions, the third the first and last; the fourth leaves out none.
    found = statistics.left_out_means(np.array([0, 1, 0, 0]), counts, columns)
    assert found.tolist() == [(35 + 1) / 2, (1 + 1) / 2, (35 + 25) / 2]
    assert np.isnan(statistics.left_out_means(np.array([0, -1, -1, -1]), counts, columns)).all()
