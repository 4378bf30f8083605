"""Figures and meter as pure functions over events."""

from __future__ import annotations

import json
from dataclasses import replace

import plotly.graph_objects as go
import pytest

from app.figures import amount, machines, meter, percent, times_llm, tokens_per_second
from app.stream.dashboard import cost_figure, cost_points, score_figure, score_points
from engine import UNITS, Cost, Costs, Request, Role, cumulative
from tests.support.fake_pair import FakePair


@pytest.fixture(scope="module")
def events():
    return list(FakePair(5000).stream(Request("a palindrome", max_new_tokens=40)))


@pytest.fixture(scope="module")
def series(events):
    pair = FakePair()
    return list(cumulative(events, 22, pair.slm_cost, pair.llm_cost))


@pytest.mark.parametrize("unit", UNITS)
def test_figures_are_valid_plotly(events, series, unit):
    drawn = ((score_figure(), score_points(events)), (cost_figure(unit), cost_points(series, unit)))
    for figure, points in drawn:
        figure["data"] = [{**trace, **new} for trace, new in zip(figure["data"], points, strict=True)]
        go.Figure(figure)  # raises on an unknown property or value
        json.dumps(figure, allow_nan=False)


def test_every_scored_token_is_drawn_once_with_its_author(events):
    slm, llm, threshold = score_points(events)
    assert slm["x"] == [e.index + 1 for e in events if e.role is Role.SLM]
    assert llm["x"] == [e.index + 1 for e in events if e.role is Role.LLM]
    assert len(threshold["x"]) == len(events) and set(threshold["y"]) == {0.5}
    assert all(y < 0.5 for y in llm["y"]) and all(y >= 0.5 for y in slm["y"])


def test_points_sent_in_parts_are_those_sent_whole(events, series):
    for whole, part in (
        (score_points(events), [score_points(events[:17]), score_points(events, 17)]),
        (cost_points(series, "bytes"), [cost_points(series[:17], "bytes"), cost_points(series[17:], "bytes", 17)]),
    ):
        for trace, points in enumerate(whole):
            for axis in "xy":
                assert points[axis] == part[0][trace][axis] + part[1][trace][axis]


def test_a_policy_without_scores_draws_no_points():
    events = list(FakePair(5000).stream(Request("a palindrome", policy="slm", max_new_tokens=5)))
    assert score_points(events) == [{"x": [], "y": []}] * 3


def test_the_cost_curve_ends_at_the_cost_of_the_run(events, series):
    ends = [trace["y"][-1] for trace in cost_points(series, "flops")]
    total = series[-1]
    assert ends == pytest.approx([total.llm_only.flops, total.run.flops, total.slm_only.flops], rel=1e-4)


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (12_345_678_901, "bytes", "12.3 GB"),
        (999, "bytes", "999 B"),
        (4.5e15, "flops", "4.5 PFLOP"),
        (0, "flops", "0 FLOP"),
        (6.678, "seconds", "6.68 s"),
        (345.6, "seconds", "346 s"),
        (0.0123, "price", "0.0123"),
        (0.0000213, "price", "0.0000213"),
        (0, "price", "0"),
    ],
)
def test_amounts_have_three_digits_and_a_unit(value, unit, text):
    assert amount(value, unit).replace("\N{NARROW NO-BREAK SPACE}", " ") == text


@pytest.mark.parametrize(
    ("hardware", "said"),
    [
        ("2 threads of AMD EPYC", "2 threads of AMD EPYC"),
        ("1 thread of Intel(R) Xeon(R) Processor", "1 thread of Intel Xeon"),
        ("2 threads of EPYC; 2 threads of Intel(R) Xeon(R); 1 thread of EPYC", "1 or 2 threads of EPYC or Intel Xeon"),
        ("NVIDIA H100; 2 threads of EPYC", "NVIDIA H100; 2 threads of EPYC"),
    ],
)
def test_machines_are_named_once_as_people_name_them(hardware: str, said: str):
    assert machines(hardware) == said


def test_small_shares_are_not_rounded_away():
    assert [percent(share)[:-2] for share in (0, 0.0001, 0.004, 0.045, 0.22, 1)] == [
        "0",
        "<0.1",
        "0.4",
        "4.5",
        "22",
        "100",
    ]


def test_the_meter_says_what_a_run_saves_or_costs_more(events):
    cheap = Costs(Cost(bytes=40), Cost(bytes=20), Cost(bytes=100))
    shown = {
        name: str(text).replace("\N{NARROW NO-BREAK SPACE}", " ")
        for name, text in meter(events, cheap, "bytes").items()
    }
    assert shown["relative"] == "40 %" and shown["saves"] == "saves 60 %"
    assert meter(events, cheap, "bytes")["gauge"] == [0.4, 0.2, 1.0]
    dear = Costs(Cost(bytes=125), Cost(bytes=20), Cost(bytes=100))
    assert meter(events, dear, "bytes")["saves"].startswith("costs 25")
    assert meter(events, dear, "bytes")["gauge"] == [1.0, 0.16, 0.8]


def test_the_meter_says_that_the_bytes_of_an_llm_on_a_server_are_not_known(events):
    unknown = Costs(Cost(bytes=4e9, price=1.0), Cost(bytes=2e9, price=0.5), Cost(price=2.0))
    shown = meter(events, unknown, "bytes")
    assert "not known" in shown["llm"] and "not known" in shown["saves"] and shown["relative"] == "–"
    asked = meter(events, unknown, "price", served=True)["modelled"]
    assert f"{sum(event.llm_fed > 0 for event in events)} requests" in asked
    assert "CITER_LLM_CONFIG" in shown["modelled"] and "CITER" not in meter(events, unknown, "price")["modelled"]


def test_the_meter_of_nothing_shows_dashes():
    nothing = meter([], Costs(Cost(), Cost(), Cost()), "price")
    assert nothing["run"] == nothing["speed"] == nothing["share"] == "–"
    json.dumps(nothing, allow_nan=False)


def test_the_first_token_is_left_out_of_the_speed(events):
    assert tokens_per_second(events[:1]) is None
    assert tokens_per_second(events) == pytest.approx(39 / sum(e.seconds for e in events[1:]))


def test_a_cost_in_the_strip_is_rounded_once_as_on_the_meter(events):
    costs = Costs(Cost(bytes=38.451), Cost(), Cost(bytes=100.0))
    sent = times_llm(costs, "bytes")
    assert sent is not None and percent(sent) == meter(events, costs, "bytes")["relative"] == percent(0.38)


def test_how_fast_a_text_is_stays_unsaid_until_it_has_some_tokens_or_has_ended(events):
    costs = Costs(Cost(seconds=1.0), Cost(), Cost(seconds=2.0))
    assert [meter(events[:count], costs, "seconds")["faster"] for count in (1, 7, 8)] == ["–", "–", "2.0 times"]
    ended = [*events[:2], replace(events[2], finish_reason="eos")]
    assert meter(ended, costs, "seconds")["faster"] == "2.0 times"


@pytest.mark.parametrize(
    ("llm", "said"), [(1.004, "1.0"), (0.994, "0.99"), (0.789, "0.79"), (1.23, "1.2"), (9.94, "9.9"), (12.4, "12")]
)
def test_how_many_times_as_fast_has_two_digits(events, llm, said):
    costs = Costs(Cost(seconds=1.0), Cost(), Cost(seconds=llm))
    assert meter(events, costs, "seconds")["faster"] == f"{said} times"
