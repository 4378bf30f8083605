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
def test_figures_are_valid_plotly_and_what_is_sent_in_parts_is_what_is_sent_whole(events, series, unit):
    for figure, whole, parts in (
        (score_figure(), score_points(events), (score_points(events[:17]), score_points(events, 17))),
        (
            cost_figure(unit),
            cost_points(series, unit),
            (cost_points(series[:17], unit), cost_points(series[17:], unit, 17)),
        ),
    ):
        figure["data"] = [{**trace, **new} for trace, new in zip(figure["data"], whole, strict=True)]
        go.Figure(figure)  # raises on an unknown property or value
        json.dumps(figure, allow_nan=False)
        for trace, first, rest in zip(whole, *parts, strict=True):
            assert all(trace[axis] == first[axis] + rest[axis] for axis in "xy")


def test_every_scored_token_is_drawn_once_with_its_author_and_the_curve_ends_at_the_cost_of_the_run(events, series):
    *authors, threshold = score_points(events)
    for drawn, role in zip(authors, (Role.SLM, Role.LLM), strict=True):
        assert drawn["x"] == [event.index + 1 for event in events if event.role is role]
    assert len(threshold["x"]) == len(events) and set(threshold["y"]) == {0.5}
    total = series[-1]
    wanted = [total.llm_only.flops, total.run.flops, total.slm_only.flops]
    assert [trace["y"][-1] for trace in cost_points(series, "flops")] == pytest.approx(wanted, rel=1e-4)


def test_amounts_have_three_digits_and_a_unit_and_machines_are_named_once():
    told = [amount(12_345_678_901, "bytes"), amount(999, "bytes"), amount(0, "flops"), amount(6.678, "seconds")]
    assert [" ".join(each.split()) for each in told] == ["12.3 GB", "999 B", "0 FLOP", "6.68 s"]
    assert amount(0.0000213, "price") == "0.0000213"
    assert machines("2 threads of A; 2 threads of B(R) Processor; 1 thread of A") == "1 or 2 threads of A or B"
    assert machines("NVIDIA H100; 2 threads of A") == "NVIDIA H100; 2 threads of A"


def test_the_meter_says_what_a_run_saves_or_costs_more(events):
    for run, relative, says, gauge in (
        (40, 0.4, "saves 60", [0.4, 0.2, 1.0]),
        (38.451, 0.38, "saves 62", [0.38451, 0.2, 1.0]),
        (125, 1.25, "costs 25", [1.0, 0.16, 0.8]),
    ):
        cost = Costs(Cost(bytes=run), Cost(bytes=20), Cost(bytes=100))
        shown = meter(events, cost, "bytes")
        assert shown["relative"] == percent(relative) == percent(times_llm(cost, "bytes") or 0)
        assert shown["saves"].startswith(says) and shown["gauge"] == pytest.approx(gauge, abs=1e-3)


def test_the_meter_says_that_the_bytes_of_an_llm_on_a_server_are_not_known(events):
    unknown = Costs(Cost(bytes=4e9, price=1.0), Cost(bytes=2e9, price=0.5), Cost(price=2.0))
    shown = meter(events, unknown, "bytes")
    assert "not known" in shown["llm"] and "not known" in shown["saves"] and shown["relative"] == "–"
    asked = meter(events, unknown, "price", served=True)["modelled"]
    assert f"{sum(event.llm_fed > 0 for event in events)} requests" in asked
    assert "CITER_LLM_CONFIG" in shown["modelled"] and "CITER" not in meter(events, unknown, "price")["modelled"]


def test_a_speed_leaves_the_first_token_out_and_is_said_once_there_are_some_or_the_text_has_ended(events):
    assert tokens_per_second(events[:1]) is None
    assert tokens_per_second(events) == pytest.approx(39 / sum(e.seconds for e in events[1:]))
    costs, slower = (Costs(Cost(seconds=1.0), Cost(), Cost(seconds=llm)) for llm in (2.0, 0.789))
    assert [meter(events[:count], costs, "seconds")["faster"] for count in (1, 7, 8)] == ["–", "–", "2.0 times"]
    ended = [*events[:2], replace(events[2], finish_reason="eos")]
    assert meter(ended, costs, "seconds")["faster"] == "2.0 times"
    assert meter(events, slower, "seconds")["faster"] == "0.79 times"
    nothing = meter([], Costs(Cost(), Cost(), Cost()), "price")
    assert nothing["run"] == nothing["speed"] == nothing["share"] == "–" and json.dumps(nothing, allow_nan=False)
