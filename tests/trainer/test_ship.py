"""What a router is shipped with: its curves, where on them it starts, and a card that says what was measured."""

from __future__ import annotations

import json

import pytest

from engine.models.sources import ROUTERS
from engine.router import Router
from tests.support.fake_results import POINTS, results_of, write_results
from trainer import TrainerError
from trainer.__main__ import main
from trainer.evaluation.rows import GENERAL
from trainer.evaluation.statistics import is_worse_than_confidence
from trainer.labels.rollouts import fingerprint
from trainer.ship import curves_of, operating_point, ship

TINY = ROUTERS / "tiny"
ENDS = {("slm", "slm < 0"): (20, 0.0, 10), ("llm", "llm < 0"): (60, 1.0, 100)}


def measured(folder, task="sums", more=None, **routed):
    """A task where the router has (right of 100, MB) at these thresholds, t5 for 0.5 and t5a3 for acceptance 0.3."""
    points = {
        ("router", f"router < 0.{name[1]}" + (f" @ 0.{name[3]}" if "a" in name else "")): (right, 0.3, size)
        for name, (right, size) in routed.items()
    }
    return results_of(folder, {**ENDS, **(more or {}), **points}, task)


def test_a_router_starts_at_its_cheapest_setting_that_recovers_nine_tenths_of_the_gap(tmp_path):
    assert str(operating_point([measured(tmp_path, t2=(55, 30), t4=(57, 50), t6=(61, 70))])) == "router < 0.4"
    assert str(operating_point([measured(tmp_path, t2=(50, 30), t4=(54, 50))])) == "router < 0.4", "none does: the best"
    assert str(operating_point([measured(tmp_path, t9=(60, 70), t4a3=(60, 50))])) == "router < 0.4 @ 0.3"


def test_a_router_for_several_tasks_starts_at_a_setting_that_was_measured_on_each(tmp_path):
    sums = measured(tmp_path, t2=(60, 20), t4=(60, 40), t9=(60, 90))
    products = measured(tmp_path, "products", t3=(60, 10), t4=(54, 50), t9=(60, 70))
    assert str(operating_point([sums, products])) == "router < 0.4", "each task counts alike"
    with pytest.raises(TrainerError, match="no setting was measured on all"):
        operating_point([measured(tmp_path, t2=(60, 20)), measured(tmp_path, "products", t3=(60, 10))])


def test_a_router_starts_nowhere_where_confidence_is_significantly_better_if_anything_is_left(tmp_path):
    rule = {("confidence", "confidence < 0.5"): (60, 0.3, 30)}
    sums = measured(tmp_path, t2=(58, 35), t4=(60, 60))
    general = measured(tmp_path, GENERAL, rule, t2=(40, 40), t4=(58, 50))
    assert is_worse_than_confidence(general, "router", "router < 0.2")
    assert not is_worse_than_confidence(general, "router", "router < 0.4")
    assert not is_worse_than_confidence(sums, "router", "router < 0.2"), "the rule was not measured"
    assert str(operating_point([sums])) == "router < 0.2" and str(operating_point([sums, general])) == "router < 0.4"
    all_worse = measured(tmp_path, GENERAL, rule, t2=(30, 40), t4=(30, 50))
    assert str(operating_point([sums, all_worse])) == "router < 0.2"


def test_a_curve_is_that_of_an_acceptance_with_its_longest_drafts(tmp_path):
    more = {
        ("confidence", "confidence < 0.5 @ 0.1/4"): (57, 0.2, 46),
        ("confidence", "confidence < 0.5 @ 0.1/8"): (58, 0.2, 45),
    }
    results = results_of(tmp_path, {**POINTS, **more})
    at_0, at_a_third = curves_of(results, "router")
    assert (at_0.acceptance, at_a_third.acceptance, at_0.quality) == (0, 0.3, "right")
    assert [(point.threshold, point.accuracy) for point in at_a_third.points] == [(0.5, 0.59), (0.6, 0.61)]
    drafts = curves_of(results, "confidence")[1]
    assert [point.accuracy for point in drafts.points] == [0.58]
    assert (at_0.slm.accuracy, at_0.llm.accuracy, at_0.llm.bytes) == (0.2, 0.6, 1e8)
    assert (at_0.revision, at_0.hardware) == ("0123abc", "a laptop")


def test_a_shipped_router_carries_its_curves_those_of_what_needs_no_training(tmp_path):
    results = results_of(tmp_path)
    shipped = ship(TINY, [results], tmp_path / "mine")
    router = Router.load(tmp_path / "mine")
    assert router.warning is None and router.card == shipped.card and router.name == "mine"
    assert (router.card.threshold, router.card.acceptance) == (0.5, 0.3)
    points = router.operating_points
    assert points is not None and list(points.of("router")) == curves_of(results, "router")
    assert [curve.acceptance for curve in points.of("confidence")] == [0.0] and len(points.of("random")) == 1
    card = (tmp_path / "mine" / "README.md").read_text("utf-8")
    assert "59.0%" in next(line for line in card.splitlines() if line.startswith("| sums |"))


def test_what_is_shipped_is_the_router_that_was_measured_and_results_are_of_one_pair(tmp_path):
    own = fingerprint(Router.load(TINY).network)
    ship(TINY, [results_of(tmp_path, routers={"router": own, "shortcut": "another"})], tmp_path / "mine")
    for wrong, named in (
        ([results_of(tmp_path, routers={"router": "another"})], "another router"),
        ([results_of(tmp_path), results_of(tmp_path, task="products", pair="Other ⇄ Large")], "Other"),
        ([results_of(tmp_path, ENDS)], "'router'"),
    ):
        with pytest.raises(TrainerError, match=named):
            ship(TINY, wrong, tmp_path / "no")
        assert not (tmp_path / "no").exists()


def test_the_command_ships_from_a_folder_of_rows(tmp_path, capsys):
    write_results(tmp_path / "rows")
    asked = ["ship", "--router", str(TINY), "--results", str(tmp_path / "rows")]
    assert main([*asked, "--out", str(tmp_path / "mine")]) == 0
    assert json.loads((tmp_path / "mine" / "router.json").read_text())["acceptance"] == 0.3
    assert main([*asked, "--method", "citer-r9", "--out", str(tmp_path / "no")]) == 2
    assert "citer-r9" in capsys.readouterr().err and not (tmp_path / "no").exists()
