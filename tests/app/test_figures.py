"""Figures as pure functions: what a text costs beside the LLM alone, and where the slider stands."""

from __future__ import annotations

from itertools import pairwise
from operator import mul

import pytest

from app.figures import MEASURED, cost_parts
from app.scale import scale_of
from engine import build_request, costs
from engine.operating_points import OperatingPoints
from engine.setting import LLM_ONLY
from tests.support.fake_pair import FakePair
from tests.support.points import CURVE


@pytest.fixture(scope="module")
def pair():
    return FakePair(5000)


def parts_of(pair, **asked):
    trace = pair.generate(build_request("a palindrome", max_new_tokens=40, **asked))
    return trace, cost_parts(trace.events, trace.prompt_tokens, pair.slm_cost, pair.llm_cost)


def test_both_parts_of_a_cost_are_together_what_the_engine_says_and_counts_give_its_price(pair):
    trace, (*parts, counts) = parts_of(pair)
    whole = costs(trace.events, trace.prompt_tokens, pair.slm_cost, pair.llm_cost)
    for unit, both in zip(MEASURED, parts, strict=True):
        if unit != "seconds":  # modelled here, measured there
            assert both and sum(both) == pytest.approx(
                getattr(whole.run, unit) / getattr(whole.llm_only, unit), rel=1e-3
            )
    prices = [trace.prices.slm * trace.prices.reading_ratio, trace.prices.slm]
    prices += [trace.prices.llm * trace.prices.reading_ratio, trace.prices.llm]
    run, alone = (sum(map(mul, of, prices)) / 1e6 for of in (counts[:4], [0, 0, *counts[4:]]))
    assert (run, alone) == pytest.approx((whole.run.price, whole.llm_only.price))


def test_at_the_sliders_ends_only_one_model_is_paid_for(pair):
    *parts, (slm_read, slm_written, *large) = parts_of(pair, threshold=LLM_ONLY)[1]
    assert parts == [(0, 1)] * 3 and slm_read == slm_written == 0 and large[:2] == large[2:]
    *parts, (_, _, llm_read, llm_written, *_) = parts_of(pair, threshold=0)[1]
    assert all(both and both[1] == 0 < both[0] < 1 for both in parts) and llm_read == llm_written == 0
    assert parts == [*parts_of(pair, policy="slm")[1][:3]], "Compare says the same: the router is not run"


@pytest.mark.parametrize("threshold", [0, 0.9, LLM_ONLY])
def test_beside_a_shorter_text_of_the_llm_a_text_costs_more(pair, threshold):
    trace = pair.generate(build_request("a palindrome", max_new_tokens=40, threshold=threshold))
    shorter = pair.generate(build_request("a palindrome", max_new_tokens=10, threshold=LLM_ONLY))
    whole, beside = (costs(each.events, each.prompt_tokens, pair.slm_cost, pair.llm_cost) for each in (trace, shorter))
    parts = cost_parts(trace.events, trace.prompt_tokens, pair.slm_cost, pair.llm_cost, alone=len(shorter.events))
    moved = whole.llm_only if threshold == LLM_ONLY else whole.run
    exact = 0.02 if threshold == 0 else 1e-3  # at the left end the router is not charged
    assert parts.flops and sum(parts.flops) == pytest.approx(moved.flops / beside.llm_only.flops, rel=exact)
    assert parts.tokens[4:] == (trace.prompt_tokens - 1, len(shorter.events))
    assert len(trace.events) > 2 * len(shorter.events)


def test_positions_of_the_slider_rise_in_threshold_and_follow_the_measured_share():
    points = OperatingPoints("0" * 64, (CURVE,), {"confidence": (CURVE,)})
    for policy, start in (("router", 0.87), ("confidence", None), ("random", None)):
        scale = scale_of(points, policy, start)
        assert len(scale) == 101 and (scale[0], scale[-1]) == (0, LLM_ONLY)
        assert all(low < high for low, high in pairwise(scale)) and (start is None or start in scale)
    scale = scale_of(points, "router")
    assert [scale[round(100 * point.llm_share)] for point in CURVE.points] == pytest.approx([0.6, 0.9, 0.97])
    assert scale_of(None, "confidence")[1:-1] == [round(n / 100, 2) for n in range(1, 100)], (
        "where nothing was measured"
    )
