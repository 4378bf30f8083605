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


def plain(fields: dict) -> dict[str, str]:
    return {name: " ".join(str(text).split()) for name, text in fields.items()}


@pytest.mark.parametrize("unit", UNITS)
def test_figures_are_valid_plotly(events, series, unit):
    drawn = ((score_figure(), score_points(events)), (cost_figure(unit), cost_points(series, unit)))
    for figure, points in drawn:
        figure["data"] = [{**trace, **new} for trace, new in zip(figure["data"], points, strict=True)]
        go.Figure(figure)  # raises on an unknown property or value
        json.dumps(figure, allow_nan=False)


def test_every_scored_token_is_drawn_once_with_its_author_and_the_curve_ends_at_the_cost_of_the_run(events, series):
    slm, llm, threshold = score_points(events)
    assert slm["x"] == [e.index + 1 for e in events if e.role is Role.SLM]
    assert llm["x"] == [e.index + 1 for e in events if e.role is Role.LLM]
    assert len(threshold["x"]) == len(events) and set(threshold["y"]) == {0.5}
    ends = [trace["y"][-1] for trace in cost_points(series, "flops")]
    total = series[-1]
    assert ends == pytest.approx([total.llm_only.flops, total.run.flops, total.slm_only.flops], rel=1e-4)


def test_points_sent_in_parts_are_those_sent_whole(events, series):
    for whole, part in (
        (score_points(events), [score_points(events[:17]), score_points(events, 17)]),
        (cost_points(series, "bytes"), [cost_points(series[:17], "bytes"), cost_points(series[17:], "bytes", 17)]),
    ):
        for trace, points in enumerate(whole):
            for axis in "xy":
                assert points[axis] == part[0][trace][axis] + part[1][trace][axis]


def test_amounts_have_three_digits_and_a_unit():
    told = [amount(12_345_678_901, "bytes"), amount(999, "bytes"), amount(0, "flops"), amount(6.678, "seconds")]
    assert [" ".join(each.split()) for each in told] == ["12.3 GB", "999 B", "0 FLOP", "6.68 s"]
    assert amount(0.0000213, "price") == "0.0000213"


def test_machines_are_named_once_as_people_name_them():
    assert machines("2 threads of A; 2 threads of B(R) Processor; 1 thread of A") == "1 or 2 threads of A or B"
    assert machines("NVIDIA H100; 2 threads of A") == "NVIDIA H100; 2 threads of A"


def test_the_meter_says_what_a_run_saves_or_costs_more(events):
    cheap = Costs(Cost(bytes=40), Cost(bytes=20), Cost(bytes=100))
    shown = plain(meter(events, cheap, "bytes"))
    assert shown["relative"] == "40 %" and shown["saves"] == "saves 60 %"
    assert meter(events, cheap, "bytes")["gauge"] == [0.4, 0.2, 1.0]
    dear = Costs(Cost(bytes=125), Cost(bytes=20), Cost(bytes=100))
    assert meter(events, dear, "bytes")["saves"].startswith("costs 25")
    assert meter(events, dear, "bytes")["gauge"] == [1.0, 0.16, 0.8]
    rounded = Costs(Cost(bytes=38.451), Cost(), Cost(bytes=100.0))
    assert percent(times_llm(rounded, "bytes") or 0) == meter(events, rounded, "bytes")["relative"] == percent(0.38)


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


def test_a_speed_leaves_the_first_token_out_and_is_said_once_there_are_some_or_the_text_has_ended(events):
    assert tokens_per_second(events[:1]) is None
    assert tokens_per_second(events) == pytest.approx(39 / sum(e.seconds for e in events[1:]))
    costs = Costs(Cost(seconds=1.0), Cost(), Cost(seconds=2.0))
    assert [meter(events[:count], costs, "seconds")["faster"] for count in (1, 7, 8)] == ["–", "–", "2.0 times"]
    ended = [*events[:2], replace(events[2], finish_reason="eos")]
    assert meter(ended, costs, "seconds")["faster"] == "2.0 times"
    slower = Costs(Cost(seconds=1.0), Cost(), Cost(seconds=0.789))
    assert meter(events, slower, "seconds")["faster"] == "0.79 times"
