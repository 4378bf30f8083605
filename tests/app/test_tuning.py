"""Tune without a browser: from prompts to a curve whose numbers are those of the texts that the pair writes."""

from __future__ import annotations

from typing import Any

import pytest

from app.running.host import Host
from app.tune.curve import CurvePoint, PromptResult, Quality, TextResult, curve
from app.tune.prompts import parse
from app.tune.tuning import Tuning
from engine import InvalidRequest, build_request, costs, llm_share
from engine.grading import agreement, is_right
from engine.setting import LLM_ONLY
from tests.support.questions import CSV, MANY, QUESTIONS

TOKENS = 30


def tuning(text: str = CSV, count: int = 3, **options) -> Tuning:
    rows = parse(text).rows
    return Tuning(rows, build_request(rows[0].prompt, **{"max_new_tokens": 8, **options}), count, None)


@pytest.mark.parametrize(("policy", "acceptance"), [("router", 0.0), ("router", 0.6), ("confidence", 0.0)])
def test_every_point_is_the_mean_of_the_texts_that_the_pair_writes_there(tiny_pair, policy: str, acceptance: float):
    job = tuning(policy=policy, acceptance=acceptance, max_new_tokens=TOKENS)
    job.work(Host(lambda preset, progress: tiny_pair))
    places = [0.0, *job.thresholds, LLM_ONLY]
    (questions, right), (_, same) = (curve(job.results, places, kind) for kind in ("right", "same"))
    assert job.state == "done" and questions == 4
    ids = [[e.id for e in tiny_pair.generate(p, policy="llm", max_new_tokens=TOKENS).events] for p, _ in QUESTIONS]
    names = ["slm", *[policy] * (len(job.thresholds)), "llm"]
    for name, point, agreed in zip(names, right, same, strict=True):
        dials = {"policy": name, "threshold": point.threshold, "acceptance": acceptance, "max_new_tokens": TOKENS}
        traces = [tiny_pair.generate(prompt, **dials) for prompt, _ in QUESTIONS]
        graded = [is_right(trace.text, answer) for trace, (_, answer) in zip(traces, QUESTIONS, strict=True)]
        run = [costs(t.events, t.prompt_tokens, tiny_pair.slm_cost, tiny_pair.llm_cost).run for t in traces]
        alike = [agreement([e.id for e in t.events], alone) for t, alone in zip(traces, ids, strict=True)]
        assert point.llm_share == pytest.approx(llm_share([event for trace in traces for event in trace.events]))
        assert (point.quality, agreed.quality) == pytest.approx((sum(graded) / 4, sum(alike) / 4))
        assert point.bytes == pytest.approx(sum(cost.bytes for cost in run) / 4)


def test_progress_says_how_much_is_done_and_how_long_it_will_take(monkeypatch):
    job = tuning(MANY)
    monkeypatch.setattr("time.monotonic", lambda: 160.0)
    job.state, job.began, job.tokens, job.thresholds = "running", 100.0, 600, (0.2, 0.5, 0.7)
    job.results = [PromptResult(0, (one(None, tokens=6),) * 5)] * 20
    assert all(part in job.progress for part in ("20 of 80", "600", "2,400", "3 min"))


def test_by_chance_each_prompt_has_draws_of_its_own_which_are_the_same_in_each_of_its_texts():
    job = tuning("One\nTwo", policy="random")
    job.thresholds = (0.2, 0.5)
    one, two = ({asked.seed for asked in job._requests(row.prompt)} for row in job.rows)
    assert len(one) == len(two) == 1 and one != two
    for count in (0, 26, 2.5, True, None, float("nan")):
        with pytest.raises(InvalidRequest, match="thresholds = "):
            tuning(count=count)  # pyright: ignore[reportArgumentType]


# ---- from single results to a curve ----


def one(right: bool | None, llm_tokens: int = 1, tokens: int = 10, cost: float = 1.0, same: float = 0.5) -> TextResult:
    return TextResult("", right, same, tokens, llm_tokens, cost)


def curve_of(*prompts: Any, kind: Quality = "right") -> tuple[int, list[CurvePoint]]:
    """Of prompts, each with its texts by SLM-only, at 0.9, and by LLM-only."""
    return curve([PromptResult(n, texts) for n, texts in enumerate(prompts)], [0.0, 0.9, LLM_ONLY], kind)


def written(*right: bool | None) -> Any:
    return tuple(one(each, same=same) for each, same in zip(right, (0.2, 0.6, 1.0), strict=True))


def test_accuracy_is_of_the_prompts_that_have_an_answer_and_agreement_of_all():
    nobody_knows = written(None, None, None)
    some = [written(False, True, True), written(False, False, True), nobody_knows, written(True, True, True)]
    (asked, right), (all_asked, same) = curve_of(*some), curve_of(*some, kind="same")
    assert (asked, all_asked) == (3, 4)
    assert [point.quality for point in right] == pytest.approx([1 / 3, 2 / 3, 1])
    assert [point.quality for point in same] == pytest.approx([0.2, 0.6, 1.0])
    assert [point.threshold for point in right] == [0.0, 0.9, LLM_ONLY]
    assert curve_of(kind="same") == curve_of(nobody_knows) == (0, [])


def test_shares_are_of_all_tokens_costs_per_prompt_and_intervals_those_of_the_binomial():
    _, (_, point, _) = curve_of(*((one(True), one(True, *each), one(True)) for each in ((1, 10, 10), (30, 90, 30))))
    assert (point.llm_share, point.bytes) == (31 / 100, 20)
    _, (half, all_right, _) = curve_of(*(written(n % 2 == 0, True, True) for n in range(100)))
    assert (all_right.low, all_right.high) == pytest.approx((0.963, 1), abs=1e-3)
    assert (half.low, half.high) == pytest.approx((0.4, 0.6), abs=0.02)  # 0.5 ± 1.96 · 0.05
    _, few = curve_of(*[written(False, True, True)] * 4)
    assert few[1].low == pytest.approx(0.51, abs=0.01), "four of four are not certain"
