"""What a router is shipped with: its curves, where on them it starts, and a card that says what was measured."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from engine.operating_points import Curve, OperatingPoint, Quality
from engine.pair import ROUTERS
from engine.router import Router
from tests.support.fake_results import ABOVE_0, plane_of, timed
from trainer import TrainerError
from trainer.__main__ import main
from trainer.evaluation.seconds import write_seconds
from trainer.evaluation.summary import write_summary
from trainer.labels.rollouts import fingerprint
from trainer.ship import (
    beside_confidence,
    check_measured,
    curve_of,
    curves_of,
    operating_point,
    ship,
    timed_settings,
    untrained_curves,
)

TINY = ROUTERS / "tiny"


@pytest.fixture(scope="module")
def plane(tmp_path_factory) -> Any:
    return plane_of(tmp_path_factory.mktemp("plane"), resamples=500)


def routed(*routed, slm=0.2, acceptance=0.0, task="sums", quality: Quality = "right"):
    """A router's curve of these (threshold, accuracy, bytes); the LLM is right in 60 %."""

    def point(threshold, accuracy, size):
        return OperatingPoint(threshold, accuracy, 0.0, 1.0, 0.5, size, 0.0, 0.0, acceptance)

    about = dict.fromkeys(("pair", "command", "revision", "hardware"), "-")
    points = tuple(point(*each) for each in routed)
    return Curve(task, 100, **about, slm=point(0, slm, 10), llm=point(2, 0.6, 100), points=points, quality=quality)


# --- where it starts


@pytest.mark.parametrize(
    ("curves", "start"),
    [
        ([routed((0.2, 0.57, 30), (0.4, 0.58, 50), (0.6, 0.61, 70))], 0.4),  # the cheapest within two points
        ([routed((0.2, 0.5, 30), (0.4, 0.57, 50), (0.6, 0.57, 40))], 0.6),  # none is: the best, the cheaper of two
        ([routed((0.2, 0.59, 30), (0.6, 0.62, 70), slm=0.59)], 0.2),  # the SLM alone is as good and cheaper
        ([routed((0.2, 0.59, 130), (0.6, 0.62, 170))], 0.2),  # the LLM alone is cheaper than all that routes
        ([routed((0.0, 0.6, 20), (0.4, 0.61, 60), acceptance=0.3)], 0.4),  # not at the SLM's own drafts
    ],
)
def test_a_router_starts_at_its_cheapest_routed_point_within_two_points_of_the_llm(curves, start):
    assert operating_point(curves)[0] == start


def test_a_router_for_several_tasks_starts_where_their_mean_accuracy_is_within_two_points_of_the_llm():
    early = routed((0.2, 0.6, 40), (0.9, 0.6, 90))

    def with_late(*points):
        return operating_point([early, routed(*points, task="products")])

    assert with_late((0.2, 0.2, 20), (0.6, 0.54, 50), (0.9, 0.58, 70)) == (0.9, 0), "0.6 lacks three points on average"
    assert with_late((0.2, 0.2, 20), (0.6, 0.56, 50), (0.9, 0.58, 70)) == (0.9, 0), "0.6 was not measured on both"
    assert with_late((0.1, 0.2, 20), (0.6, 0.56, 50), (0.95, 0.58, 70)) == (0.6, 0), "nothing was: it is read between"


def test_a_router_starts_at_the_acceptance_that_gets_there_on_all_tasks_for_the_fewest_bytes():
    plain, verified = routed((0.9, 0.6, 70)), routed((0.4, 0.6, 50), acceptance=0.3)
    assert operating_point([plain, verified]) == (0.4, 0.3)
    assert operating_point([plain, routed((0.4, 0.6, 80), acceptance=0.3)]) == (0.9, 0)
    assert operating_point([plain, routed((0.4, 0.5, 20), acceptance=0.3)]) == (0.9, 0), "it is not as right"
    other = routed((0.9, 0.6, 70), task="products")
    assert operating_point([plain, other, verified]) == (0.9, 0), "products were not measured at that acceptance"
    late = routed((0.8, 0.6, 40), acceptance=0.3, task="products")
    assert operating_point([plain, other, verified, late]) == (0.9, 0), "at 0.3 no threshold was measured on both"
    with pytest.raises(TrainerError, match="acceptance"):
        operating_point([plain, replace(late, points=late.points)])


def test_a_router_starts_only_where_free_text_was_measured_and_confidence_is_not_surely_better():
    plain, verified = routed((0.9, 0.6, 60)), routed((0.4, 0.6, 40), (0.7, 0.6, 50), acceptance=0.3)
    free = [routed((0.9, 0.5, 60), task="free-text", quality="same")]
    assert operating_point([plain, verified, *free]) == (0.9, 0), "at 0.3 it was not"
    free.append(routed((0.6, 0.5, 50), task="free-text", quality="same", acceptance=0.3))
    assert operating_point([plain, verified, *free]) == (0.7, 0.3), "its first threshold there is 0.6"

    def beside(threshold, high):
        estimate = {"value": -0.1, "low": -0.2, "high": high, "unreached": 0.0, "p_value": None}
        return {"acceptance": 0.0, "max_draft": "auto", "threshold": threshold, "accuracy": estimate}

    sums = routed((0.2, 0.6, 30), (0.5, 0.6, 40), (0.9, 0.6, 60))
    curves: list[Curve] = [sums, routed((0.2, 0.5, 30), (0.9, 0.6, 60), task="free-text", quality="same")]
    known: Any = {"free-text": [beside(0.3, -0.01), beside(0.9, 0.01)]}
    assert operating_point(curves) == (0.2, 0)
    assert operating_point(curves, known) == (0.9, 0), "the point nearest to 0.5 is that of 0.3"
    assert operating_point(curves, known | {"sums": [beside(0.9, -0.01)]}) == (0.2, 0), "nothing would be left"


# --- what is shipped


def test_a_curve_is_that_of_an_acceptance_with_its_longest_drafts_and_the_slms_own_at_threshold_0(plane, tmp_path):
    at_0, at_a_third = curves_of(plane, "citer-r2")
    assert (at_0.acceptance, at_0.max_draft) == (0, None) and (at_a_third.acceptance, at_a_third.max_draft) == (
        0.3,
        "auto",
    )
    assert [(point.threshold, point.accuracy) for point in at_a_third.points] == [(0.5, 0.59), (0.6, 0.61)]
    more = {("confidence", 0.5, 0.1, 4): (57, 0.2, 46), ("confidence", 0.5, 0.1, 8): (58, 0.2, 46)}
    drafts = {("slm", 0.0, 0.1, 8): (55, 0.1, 44)}
    curve = curve_of(plane_of(tmp_path, {**ABOVE_0, **more, **drafts}, 20), "confidence", 0.1)
    assert curve.max_draft == 8 and [(p.threshold, p.accuracy) for p in curve.points] == [(0.0, 0.55), (0.5, 0.58)]
    with pytest.raises(TrainerError, match=r"citer-r2@0\.6"):
        curve_of(plane, "citer-r2", 0.6)


def apart(measured: Any) -> Any:
    """The same, of two machines."""
    return {**measured, "hardware": "a laptop; a server"}


def test_seconds_are_shipped_only_where_all_stages_ran_on_one_machine(plane):
    alike, joined = curve_of(plane, "citer-r2"), curve_of(apart(plane), "citer-r2")
    assert alike.units == ("bytes", "flops", "seconds") and joined.units == ("bytes", "flops")
    assert {point.seconds for point in (*joined.points, joined.slm, joined.llm)} == {None}
    several = timed(("citer-r2", 0.3, "auto", 0.6, 1.25), ("confidence", 0.0, "auto", 0.5, 0.8))
    assert [
        (each.policy, each.threshold, each.acceptance, each.times) for each in timed_settings([several], "citer-r2")
    ] == [
        ("router", 0.6, 0.3, pytest.approx(0.8)),
        ("confidence", 0.5, 0.0, pytest.approx(1.25)),
    ]
    assert timed_settings([apart(several)], "citer-r2") == []


def test_a_shipped_router_carries_its_curves_and_those_of_what_needs_no_training(plane, tmp_path):
    untrained, curves = untrained_curves([plane]), curves_of(plane, "citer-r2")
    assert {name: [each.acceptance for each in own] for name, own in untrained.items()} == {
        "confidence": [0.0, 0.3, 1.0],
        "random": [0.0],
    }
    beside = beside_confidence([plane], "citer-r2")
    shipped = ship(TINY, curves, tmp_path / "mine", untrained, beside)
    router = Router.load(tmp_path / "mine")
    points: Any = router.operating_points
    assert router.warning is None and router.card == shipped.card and router.name == "mine"
    assert list(points.of("router")) == curves and list(points.of("confidence")) == untrained["confidence"]
    at = curves[[0.0, 0.3].index(shipped.card.acceptance)].at(shipped.card.threshold)
    assert at.accuracy >= curves[0].llm.accuracy - 0.02 and at.bytes < curves[0].llm.bytes
    card = (tmp_path / "mine" / "README.md").read_text("utf-8")
    assert f"{at.accuracy:.1%}" in next(line for line in card.splitlines() if line.startswith("| sums |"))


def test_what_is_shipped_is_the_router_that_was_measured_and_results_are_of_one_pair(plane):
    check_measured(TINY, "citer-r2", [plane])  # of which the router is not known
    named: Any = {**plane, "routers": {"citer-r2": fingerprint(Router.load(TINY).network), "citer-r1": "another"}}
    check_measured(TINY, "citer-r2", [named])
    with pytest.raises(TrainerError, match="citer-r1"):
        check_measured(TINY, "citer-r1", [named])
    with pytest.raises(TrainerError, match="Other"):
        other: Any = {**named, "pair": "Other ⇄ Large"}
        check_measured(TINY, "citer-r2", [named, other])


def test_the_command_ships_from_files_with_what_was_timed_beside_them(plane, tmp_path, capsys):
    path = write_summary(plane, tmp_path)
    write_seconds(timed(("citer-r2", 0.3, "auto", 0.6, 1.25)), tmp_path)
    asked = ["ship", "--router", str(TINY), "--method", "citer-r2", "--summaries", str(path)]
    assert main([*asked, "--acceptance", "0.3", "--out", str(tmp_path / "mine")]) == 0
    points = json.loads((tmp_path / "mine" / "operating_points.json").read_text())
    assert [curve["task"] for curve in points["curves"]] == ["sums"]
    assert [(each["policy"], each["threshold"]) for each in points["timed"]] == [("router", 0.6)]
    assert json.loads((tmp_path / "mine" / "router.json").read_text())["acceptance"] == 0.3
    assert main([*asked[:4], "citer-r9", *asked[5:], "--out", str(tmp_path / "no")]) == 2
    assert "citer-r9" in capsys.readouterr().err and not (tmp_path / "no").exists()
