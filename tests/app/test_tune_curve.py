"""From single results to a curve with intervals, and the thresholds to try: pure functions."""

from __future__ import annotations

import pytest

from app.tune.curve import (
    PromptResult,
    TextResult,
    build_curve,
    even_thresholds,
    rounded,
    thresholds_of_curve,
    thresholds_of_scores,
)
from engine.grading import agreement
from engine.operating_points import LLM_ONLY, Curve, OperatingPoint


def one(right: bool | None, llm_tokens: int = 1, tokens: int = 10, cost: float = 1.0, same: float = 0.5) -> TextResult:
    return TextResult("", right, same, tokens, llm_tokens, cost, 2 * cost, 3 * cost)


def results(*prompts: tuple[bool | None, bool | None, bool | None]) -> list[PromptResult]:
    """Prompts that are right or wrong with SLM-only, at 0.9, and with LLM-only."""
    return [
        PromptResult(n, (one(a, 0, 10, 1, 0.2), one(b, 5, 20, 2, 0.6), one(c, 30, 30, 4, 1.0)))
        for n, (a, b, c) in enumerate(prompts)
    ]


def test_accuracy_is_the_share_of_right_answers_among_prompts_that_have_one():
    some = results((False, True, True), (False, False, True), (None, None, None), (True, True, True))
    curve = build_curve(some, [0.9], "right")
    assert curve is not None and curve.questions == 3
    assert [p.accuracy for p in curve.measured] == pytest.approx([1 / 3, 2 / 3, 1])
    assert [p.threshold for p in curve.measured] == [0.0, 0.9, LLM_ONLY]
    agreed = build_curve(some, [0.9], "same")
    assert agreed is not None and agreed.questions == 4
    assert [p.accuracy for p in agreed.measured] == pytest.approx([0.2, 0.6, 1.0])


def test_shares_are_of_all_tokens_and_costs_are_per_prompt():
    some = [
        PromptResult(0, (one(True, 0, 10, 1), one(True, 1, 10, 10), one(True, 10, 10, 4))),
        PromptResult(1, (one(True, 0, 10, 1), one(True, 30, 90, 30), one(True, 10, 10, 4))),
    ]
    curve = build_curve(some, [0.9], "right")
    assert curve is not None
    (point,) = curve.points
    assert point.llm_share == 31 / 100
    assert (point.bytes, point.flops, point.seconds) == (20, 40, 60)


def test_without_a_prompt_for_it_there_is_no_curve():
    assert build_curve([], [0.9], "same") is None
    assert build_curve(results((None, None, None)), [0.9], "right") is None


def test_intervals_are_those_of_the_binomial_and_do_not_change_from_look_to_look():
    half = results(*[(n % 2 == 0, True, n % 4 == 0) for n in range(100)])
    curve = build_curve(half, [0.9], "right")
    assert curve is not None and curve == build_curve(half, [0.9], "right")
    assert curve.slm.accuracy_low == pytest.approx(0.4, abs=0.02)  # 0.5 ± 1.96 · 0.05
    assert curve.slm.accuracy_high == pytest.approx(0.6, abs=0.02)
    assert (curve.points[0].accuracy_low, curve.points[0].accuracy_high) == (1, 1)
    few = build_curve(half[:8], [0.9], "right")
    assert few is not None
    assert few.slm.accuracy_high - few.slm.accuracy_low > 2 * (curve.slm.accuracy_high - curve.slm.accuracy_low)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ([1, 2, 3], [1, 2, 3], 1),
        ([], [], 1),
        ([], [1], 0),
        ([1, 2], [1, 2, 3, 4], 0.5),
        ([1, 2, 3, 4], [1, 9, 3, 4], 0.75),
        ([1, 2, 3, 4], [1, 3, 4], 0.75),
        ([1, 3, 4], [1, 2, 3, 4], 0.75),
        ([1, 2, 3], [4, 5, 6], 0),
        ([2, 1], [1, 2], 0),
        ([1, 2, 3, 4, 5, 6], [6, 2, 3, 5, 1], 0.5),
    ],
)
def test_agreement_is_one_less_the_edit_distance_per_token(a, b, expected):
    assert agreement(a, b) == agreement(b, a) == expected


def test_agreement_is_the_textbooks_edit_distance():
    import random

    def textbook(a, b):
        row = list(range(len(b) + 1))
        for i, x in enumerate(a, 1):
            last, row[0] = row[0], i
            for j, y in enumerate(b, 1):
                last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (x != y))
        return row[-1]

    chance = random.Random(0)
    for _ in range(200):
        a, b = ([chance.randrange(4) for _ in range(chance.randrange(12))] for _ in range(2))
        assert agreement(a, b) == pytest.approx(1 - textbook(a, b) / max(1, len(a), len(b)))


def test_thresholds_follow_the_shares_of_a_measured_curve():
    def point(threshold, share):
        return OperatingPoint(threshold, 0.5, 0.4, 0.6, share, 1, 1, 1)

    curve = Curve("t", 1, "", "", "", "", point(0, 0), point(LLM_ONLY, 1), (point(0.9, 0.2), point(0.99, 0.5)))
    chosen = thresholds_of_curve(curve, 9)
    assert len(chosen) == 9 and list(chosen) == sorted(chosen)
    shares = [curve.at(threshold).llm_share for threshold in chosen]
    assert shares == pytest.approx([(i / 10) ** 1.5 for i in range(1, 10)], abs=0.01)


def test_thresholds_follow_the_scores_of_a_text_where_nothing_was_measured():
    scores = [n / 1000 for n in range(1000)]
    chosen = thresholds_of_scores(scores, 4)
    assert [sum(score < t for score in scores) / 1000 for t in chosen] == pytest.approx(
        [0.2**1.5, 0.4**1.5, 0.6**1.5, 0.8**1.5], abs=0.01
    )
    assert thresholds_of_scores([], 3) == (0.25, 0.5, 0.75)
    assert thresholds_of_scores([0.0] * 9, 3) == (0.25, 0.5, 0.75), "all certain of the LLM: nothing to tell apart"
    assert thresholds_of_scores([1.0] * 9, 3) == (1.0,)


def test_for_chance_a_threshold_is_a_share():
    assert even_thresholds(9) == (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


@pytest.mark.parametrize(
    ("value", "short"),
    [(0.5, 0.5), (1 / 3, 0.333), (0.93456, 0.9346), (0.99909782, 0.999098), (0.00012345, 0.000123), (1.0, 1.0)],
)
def test_a_threshold_keeps_the_digits_that_count(value, short):
    assert rounded(value) == short
