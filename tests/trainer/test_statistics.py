"""The statistics: values known by hand, agreement with plain loops, and what must hold of any numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.evaluation import statistics

RNG = np.random.default_rng(0)


def answers(*rights, questions=100):
    """Settings that are right on the first questions, as many as given: [settings, questions]."""
    return np.array([[float(n < right) for n in range(questions)] for right in rights])


def sizes(*each, questions=100):
    return np.array([[float(size)] * questions for size in each])


# --- what something is worth, and how sure that is


def test_every_resample_draws_as_many_questions_as_there_are_and_the_first_row_is_what_was_measured():
    counts = statistics.draws(7, 500)
    assert counts.shape == (501, 7) and counts[0].tolist() == [1] * 7 and (counts.sum(axis=1) == 7).all()
    assert (counts == statistics.draws(7, 500)).all() and (counts != statistics.draws(7, 500, seed=1)).any()


def test_the_interval_of_a_share_is_that_of_the_binomial():
    found = statistics.mean(answers(60)[0], statistics.draws(100))
    assert found.value == pytest.approx(0.6)
    assert (found.low, found.high) == pytest.approx((0.50, 0.69), abs=0.015)  # binomial(100, 0.6)


def test_a_paired_difference_is_surer_than_two_intervals_and_says_which_way_it_goes():
    counts, one, other = statistics.draws(100), *answers(60, 50)
    alone, paired = statistics.mean(one, counts), statistics.mean(one - other, counts)
    assert paired.above and not paired.below and paired.value == pytest.approx(0.1)
    assert paired.high - paired.low < alone.high - alone.low
    assert statistics.mean(other - one, counts).below
    nothing = statistics.mean(one - one, counts)
    assert not nothing.above and not nothing.below


def test_a_ratio_is_of_sums_on_the_same_questions():
    size = RNG.uniform(1, 9, 50)
    assert statistics.ratio(2 * size, size, statistics.draws(50)) == pytest.approx((2, 2, 2))
    assert statistics.ratio(size, size[::-1], statistics.draws(50)).value == pytest.approx(1)


# --- which setting is chosen, and by whom it is judged


def test_halves_are_as_large_as_each_other_and_do_not_depend_on_the_order():
    names = [f"q{n}" for n in range(101)]
    first = dict(zip(names, statistics.first_half(names), strict=True))
    assert sum(first.values()) == 51
    assert first == dict(zip(names[::-1], statistics.first_half(names[::-1]), strict=True))


def task(right, size, slm=None, llm=None, first=None):
    """A task where the SLM is never right and the LLM always, unless said otherwise; its bytes are 10."""
    questions = right.shape[1]
    slm, llm = np.zeros(questions) if slm is None else slm, np.ones(questions) if llm is None else llm
    return statistics.Task(
        right, size, slm, llm, np.full(questions, 10.0), np.arange(questions) < 50 if first is None else first
    )


def test_the_cheapest_setting_that_is_right_often_enough_is_chosen_else_the_one_that_is_right_most_often():
    right, size, every = answers(30, 55, 58, 58), sizes(1, 5, 9, 7), [np.ones(100, dtype=bool)]
    for llm, number in ((61, 1), (64, 3), (100, 3)):  # of two the cheaper one; at last none is good enough
        assert statistics.best([task(right, size, llm=answers(llm)[0])], every) == number


def test_one_setting_for_several_tasks_is_the_best_on_their_mean():
    one, other = task(answers(90, 60), sizes(1, 5)), task(answers(10, 91), sizes(1, 5))
    every = np.ones(100, dtype=bool)
    assert [statistics.best([each], [every]) for each in (one, other)] == [0, 1]
    assert statistics.best([one, other], [every, every]) == 1
    assert {each.chosen for each in statistics.judged([one, other])} == {(1, 1)}


def test_nine_tenths_of_the_gap_are_wanted_and_without_a_gap_what_the_slm_has():
    assert statistics.wanted(*answers(20, 60)) == pytest.approx(0.56)
    assert statistics.wanted(*answers(60, 20)) == pytest.approx(0.6)


def test_each_half_is_answered_at_the_setting_that_the_other_half_chose():
    first = np.arange(100) < 50
    right = np.array([first, ~first], dtype=float)  # each setting is right on one half only
    (found,) = statistics.judged([task(right, sizes(1, 2))])
    assert found.chosen == (1, 0) and found.right.sum() == 0, "what looked best on one half is judged on the other"
    assert found.bytes[:50].tolist() == [2.0] * 50 and found.bytes[50:].tolist() == [1.0] * 50


def test_no_setting_seems_better_than_it_is_because_it_was_chosen():
    """Twenty settings that are right by chance alone, chosen and judged on the same questions, and by halves."""
    looks, is_worth = [], []
    for _ in range(100):
        right, first = (RNG.random((20, 200)) < 0.5).astype(float), RNG.permutation(200) < 100
        looks.append(right.mean(axis=1).max())
        (found,) = statistics.judged([task(right, sizes(*range(20), questions=200), first=first)])
        is_worth.append(found.right.mean())
    assert np.mean(looks) > 0.55 and np.mean(is_worth) == pytest.approx(0.5, abs=0.01)


def test_more_settings_than_the_budget_are_thinned_by_bytes_alone_and_evenly():
    size = sizes(5, 1, 4, 2, 3, 9)
    assert statistics.spread(size, 6) == [0, 1, 2, 3, 4, 5] and statistics.spread(size, 9) == [0, 1, 2, 3, 4, 5]
    assert statistics.spread(size, 2) == [1, 5], "the cheapest and the most expensive"
    assert statistics.spread(sizes(3), 6) == [0]


# --- curves


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(1, 9)), min_size=1, max_size=6), st.floats(0.5, 12))
def test_the_best_share_within_a_budget_is_read_on_the_line_through_the_best_cheaper_ones(points, budget):
    right, size = (np.array(each, dtype=float)[:, None] for each in zip(*points, strict=True))
    found = statistics.right_for(right, size, np.array([budget]))[0]
    affordable = [r for r, s in points if s <= budget]
    if not affordable:
        assert math.isnan(found) or budget * (1 + 1e-8) >= min(s for _, s in points)
    else:
        assert max(affordable) - 1e-9 <= found <= right.max() + 1e-9
