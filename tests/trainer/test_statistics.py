"""The statistics say what they claim: against figures computed by hand, and against loops over single resamples."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from engine.operating_points import bootstrap_counts
from trainer.evaluation import statistics

nan = math.nan


def column(*values):
    """One sample of several points, or one number as the only sample."""
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
    for n, (c, a) in enumerate(kept):
        if a >= target:
            if n == 0:
                return c
            (c0, a0) = kept[n - 1]
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


def test_each_resample_draws_as_many_questions_as_there_are_and_the_first_sample_is_what_was_measured():
    counts = bootstrap_counts(7, 500, seed=0)
    assert counts.shape == (501, 7)
    assert counts[0].tolist() == [1] * 7
    assert (counts.sum(axis=1) == 7).all()
    assert counts[1:].mean(axis=0) == pytest.approx([1] * 7, abs=0.15)


def test_the_same_seed_draws_the_same_questions_and_another_seed_others():
    first, again, other = (bootstrap_counts(20, 50, seed) for seed in (3, 3, 4))
    assert (first == again).all()
    assert (first != other).any()


def test_sums_are_those_of_a_loop_over_the_drawn_questions():
    rng = np.random.default_rng(1)
    values, counts = rng.integers(0, 9, (4, 11)).astype(float), bootstrap_counts(11, 30, 0)
    by_hand = [[sum(v * c for v, c in zip(row, drawn, strict=True)) for drawn in counts] for row in values]
    assert statistics.sums(values, counts).tolist() == by_hand


def test_the_interval_of_a_share_is_that_of_the_binomial():
    right = np.array([[1.0] * 60 + [0.0] * 40])
    found = statistics.estimate(statistics.sums(right, bootstrap_counts(100, 4000, 0))[0] / 100)
    assert found.value == pytest.approx(0.6)
    assert (found.low, found.high) == pytest.approx((0.50, 0.69), abs=0.015)  # binomial(100, 0.6): 0.50 to 0.69
    assert found.unreached == 0


def test_an_interval_leaves_out_and_counts_the_resamples_without_a_value():
    found = statistics.estimate(np.array([5.0, 1.0, nan, 3.0, nan]))
    assert (found.value, found.low, found.high) == pytest.approx((5, 1.05, 2.95))
    assert found.unreached == 0.5


def test_a_statistic_without_any_value_has_no_interval():
    found = statistics.estimate(np.array([nan, nan, nan]))
    assert math.isnan(found.value) and math.isnan(found.low) and math.isnan(found.high)
    assert found.unreached == 1


def test_gap_recovered_is_0_at_the_slm_1_at_the_llm_and_may_pass_both():
    slm, llm = one(0.2), one(0.6)
    found = statistics.gap_recovered(column(0.2, 0.4, 0.6, 0.7, 0.1), slm, llm)
    assert found[:, 0].tolist() == pytest.approx([0, 0.5, 1, 1.25, -0.25])


@pytest.mark.parametrize("llm", [0.5, 0.4])
def test_where_the_llm_is_no_better_there_is_no_gap_to_recover(llm):
    assert np.isnan(statistics.gap_recovered(one(0.6), one(0.5), one(llm))).all()
    assert np.isnan(statistics.average_gap_recovered(column(0.3), column(0.6), one(0.5), one(llm))).all()
    assert np.isnan(statistics.accuracy_targets(one(0.5), one(llm), 0.9)).all()
    assert statistics.accuracy_targets(one(0.5), one(llm), 1.0).tolist() == [llm]


def test_average_gap_recovered_is_the_area_under_the_curve_by_hand():
    # (0, 0), (0.25, 0.8), (0.5, 1), (1, 1): 0.25·0.4 + 0.25·0.9 + 0.5·1
    found = statistics.average_gap_recovered(column(0.25, 0.5), column(0.52, 0.6), one(0.2), one(0.6))
    assert found.tolist() == pytest.approx([0.825])


def test_a_straight_line_between_both_models_recovers_half():
    share = np.linspace(0, 1, 7)[:, None]
    found = statistics.average_gap_recovered(share, 0.2 + 0.4 * share, one(0.2), one(0.6))
    assert found.tolist() == pytest.approx([0.5])


def test_the_order_of_points_does_not_matter_and_equal_shares_count_as_their_mean():
    slm, llm = one(0.0), one(1.0)
    ordered = statistics.average_gap_recovered(column(0.2, 0.5, 0.5, 0.8), column(0.3, 0.4, 0.8, 0.9), slm, llm)
    mixed = statistics.average_gap_recovered(column(0.5, 0.8, 0.2, 0.5), column(0.8, 0.9, 0.3, 0.4), slm, llm)
    merged = statistics.average_gap_recovered(column(0.2, 0.5, 0.8), column(0.3, 0.6, 0.9), slm, llm)
    assert ordered.tolist() == pytest.approx(merged.tolist())
    assert mixed.tolist() == pytest.approx(merged.tolist())


def test_a_curve_is_interpolated_in_the_share_with_the_models_alone_at_its_ends():
    x, y = statistics.curve_over_share(column(0.5, 0.2), column(0.9, 0.6), one(0.4), one(0.8))
    assert x[:, 0].tolist() == [0, 0.2, 0.5, 1]
    assert y[:, 0].tolist() == [0.4, 0.6, 0.9, 0.8]
    for share, expected in ((0, 0.4), (0.1, 0.5), (0.2, 0.6), (0.35, 0.75), (0.75, 0.85), (1, 0.8)):
        assert statistics.at_share(x, y, share)[0] == pytest.approx(expected)


def test_a_vertical_step_in_the_curve_has_its_mean():
    x, y = statistics.curve_over_share(column(0.5, 0.5), column(0.4, 0.8), one(0.0), one(1.0))
    assert statistics.at_share(x, y, 0.5)[0] == pytest.approx(0.6)


def test_the_least_cost_is_interpolated_on_the_pareto_frontier():
    cost, accuracy = column(40, 10, 20, 30), column(0.9, 0.2, 0.6, 0.5)  # the point (30, 0.5) is dominated

    def least(target):
        return statistics.cost_at_accuracy(cost, accuracy, one(target))[0]

    assert least(0.2) == 10
    assert least(0.4) == pytest.approx(15)
    assert least(0.6) == 20
    assert least(0.75) == pytest.approx(30)
    assert least(0.9) == 40
    assert least(0.1) == 10  # the cheapest point is already better
    assert math.isnan(least(0.91))
    assert math.isnan(least(nan))


def test_a_dearer_slm_alone_is_off_the_frontier():
    # As on CommonsenseQA, where the SLM rambles: no LLM token at all is the dearest way to the worst answers.
    cost, accuracy = column(90, 30, 40), column(0.2, 0.5, 0.6)
    assert statistics.cost_at_accuracy(cost, accuracy, one(0.3))[0] == 30
    assert math.isnan(statistics.accuracy_at_cost(cost, accuracy, one(29))[0])
    assert statistics.accuracy_at_cost(cost, accuracy, one(1000))[0] == 0.6


def test_a_target_that_is_met_exactly_is_met_whatever_the_last_bit_says():
    assert statistics.cost_at_accuracy(column(10), column(0.1 + 0.2), one(0.3))[0] == 10
    assert statistics.cost_at_accuracy(column(10), column(0.3), one(0.1 + 0.2))[0] == 10


def test_of_points_of_equal_cost_only_the_most_accurate_counts():
    cost, accuracy = column(10, 10, 20), column(0.3, 0.5, 0.7)
    assert statistics.cost_at_accuracy(cost, accuracy, one(0.3))[0] == 10
    assert statistics.cost_at_accuracy(cost, accuracy, one(0.6))[0] == pytest.approx(15)
    assert statistics.accuracy_at_cost(cost, accuracy, one(10))[0] == 0.5


def test_the_best_accuracy_within_a_cost_is_interpolated_on_the_same_frontier():
    cost, accuracy = column(40, 10, 20, 30), column(0.9, 0.2, 0.6, 0.5)
    for budget, expected in ((10, 0.2), (15, 0.4), (20, 0.6), (30, 0.75), (40, 0.9), (99, 0.9)):
        assert statistics.accuracy_at_cost(cost, accuracy, one(budget))[0] == pytest.approx(expected)
    assert math.isnan(statistics.accuracy_at_cost(cost, accuracy, one(9.9))[0])


def test_both_frontiers_agree_with_a_loop_over_random_resamples_with_ties():
    rng = np.random.default_rng(0)
    cost, accuracy = rng.integers(1, 8, (6, 400)).astype(float), rng.integers(0, 8, (6, 400)) / 8
    target, budget = rng.integers(0, 17, 400) / 16, rng.integers(1, 17, 400) / 2
    samples = range(400)
    least = [cheapest(cost[:, n], accuracy[:, n], target[n]) for n in samples]
    most = [most_accurate(cost[:, n], accuracy[:, n], budget[n]) for n in samples]
    assert statistics.cost_at_accuracy(cost, accuracy, target) == pytest.approx(np.array(least), nan_ok=True)
    assert statistics.accuracy_at_cost(cost, accuracy, budget) == pytest.approx(np.array(most), nan_ok=True)
    assert 0 < np.isnan(least).sum() < 400
    assert 0 < np.isnan(most).sum() < 400


def test_curves_over_the_share_agree_with_a_loop_over_random_resamples_with_ties():
    rng = np.random.default_rng(0)
    share, accuracy = rng.integers(0, 7, (5, 200)) / 6, rng.random((5, 200))
    slm, llm = rng.random(200) / 4, 0.5 + rng.random(200) / 4
    x, y = statistics.curve_over_share(share, accuracy, slm, llm)
    areas, values = [], []
    for n in range(200):
        pairs = [(0, slm[n]), *zip(share[:, n], accuracy[:, n], strict=True), (1, llm[n])]
        shares = sorted({s for s, _ in pairs})
        means = [np.mean([a for s, a in pairs if s == each]) for each in shares]
        areas.append(np.trapezoid([(m - slm[n]) / (llm[n] - slm[n]) for m in means], shares))
        values.append(np.interp(0.25, shares, means))
    assert statistics.average_gap_recovered(share, accuracy, slm, llm) == pytest.approx(np.array(areas))
    assert statistics.at_share(x, y, 0.25) == pytest.approx(np.array(values))


def test_targets_are_shares_of_the_gap_in_each_sample_of_its_own():
    slm, llm = np.array([0.2, 0.3]), np.array([0.6, 0.5])
    assert statistics.accuracy_targets(slm, llm, 0.5).tolist() == pytest.approx([0.4, 0.4])
    assert statistics.accuracy_targets(slm, llm, 1.0).tolist() == [0.6, 0.5]


@pytest.mark.parametrize(
    ("only_first", "only_second", "expected"),
    [
        (0, 0, 1.0),
        (1, 0, 1.0),
        (5, 5, 1.0),
        (8, 1, 2 * (1 + 9) / 2**9),
        (0, 10, 2 / 2**10),
        (3, 9, 2 * (1 + 12 + 66 + 220) / 2**12),
    ],
)
def test_mcnemar_is_the_binomial_by_hand(only_first, only_second, expected):
    first = np.array([True] * only_first + [False] * only_second + [True, False])
    second = np.array([False] * only_first + [True] * only_second + [True, False])
    assert statistics.mcnemar(first, second) == pytest.approx(expected)
    assert statistics.mcnemar(second, first) == pytest.approx(expected)


def test_mcnemar_holds_for_a_thousand_questions_that_differ():
    first = np.arange(3000) < 1500
    second = ~first
    assert statistics.mcnemar(first, second) == 1.0
    assert statistics.mcnemar(np.arange(3000) < 900, np.zeros(3000, bool)) == 2 / 2**900


def test_the_bootstrap_p_value_counts_the_resamples_beyond_zero_on_both_sides():
    assert statistics.bootstrap_p(np.array([1.0, *[1.0] * 97, -1.0, -1.0])) == pytest.approx(2 * 3 / 100)
    assert statistics.bootstrap_p(np.array([-1.0, *[-1.0] * 99])) == pytest.approx(2 / 100)  # never 0
    assert statistics.bootstrap_p(np.array([0.0, 0.0, 0.0])) == 1
    assert math.isnan(statistics.bootstrap_p(np.array([nan, nan])))
    assert statistics.bootstrap_p(np.array([math.inf, *[math.inf] * 49, *[0.5] * 49, -math.inf])) == pytest.approx(
        4 / 100
    )


def test_pairing_makes_a_small_but_steady_difference_sure_that_unpaired_intervals_would_hide():
    hard = np.random.default_rng(0).random(200)  # both fail the same hard questions
    first, second = (hard < 0.55).astype(float), (hard < 0.50).astype(float)
    counts = bootstrap_counts(200, 1000, 0)
    a, b = statistics.sums(np.stack([first, second]), counts) / 200
    difference = statistics.estimate(a - b)
    assert difference.low > 0
    assert statistics.bootstrap_p(a - b) < 0.01
    assert statistics.estimate(a).low < statistics.estimate(b).high


def test_what_is_left_out_of_a_resample_measures_the_point_that_was_chosen_in_it():
    columns = np.array([[1.0, 0.0, 1.0, 1.0], [10.0, 20.0, 30.0, 40.0]])
    counts = np.array([[1, 1, 1, 1], [2, 2, 0, 0], [0, 1, 3, 0], [1, 1, 1, 1]])
    found = statistics.left_out_means(np.array([0, 1, 0, 0]), counts, columns)
    # The second sample leaves out the last two questions, the third the first and last; the fourth leaves out none.
    assert found.tolist() == [(35 + 1) / 2, (1 + 1) / 2, (35 + 25) / 2]
    assert np.isnan(statistics.left_out_means(np.array([0, -1, -1, -1]), counts, columns)).all()


def test_most_of_the_luck_of_the_best_of_many_points_is_not_in_what_was_left_out():
    best, left_out = [], []
    for seed in range(8):
        right = (np.random.default_rng(seed).random((60, 100)) < 0.5).astype(float)  # none better than the others
        counts = bootstrap_counts(100, 300, 0)
        chosen = statistics.sums(right, counts).argmax(axis=0)
        best.append(right.mean(axis=1).max())
        left_out.append(statistics.left_out_means(chosen, counts, right)[0])
    assert np.mean(best) > 0.62
    assert abs(np.mean(left_out) - 0.5) < 0.05
