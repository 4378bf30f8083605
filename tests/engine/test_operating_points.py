"""A measured curve read between its points, and its file, which is believed only where it makes sense.

Every figure here is made up so that it can be checked by hand; none was measured. Damaged files are in `test_formats`.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from engine import InvalidRequest, RouterError
from engine.models.files import sha256_of
from engine.operating_points import FILE, LLM_ONLY, MAX_BYTES, Curve, OperatingPoint, OperatingPoints, TimedSetting
from engine.router import WEIGHTS, Router
from tests.support.routers import make_router

HASH = "0123456789abcdef" * 4


def point(threshold, accuracy, llm_share, cost):
    return OperatingPoint(threshold, accuracy, accuracy - 0.05, accuracy + 0.05, llm_share, cost, 2 * cost, cost / 10)


SLM, LLM = point(0.0, 0.2, 0.0, 10.0), point(LLM_ONLY, 0.6, 1.0, 50.0)
LOW, MIDDLE = point(0.4, 0.3, 0.1, 14.0), point(0.8, 0.5, 0.3, 20.0)
DIP, HIGH = point(0.9, 0.585, 0.25, 24.0), point(0.95, 0.6, 0.5, 30.0)


def curve(*points, **changes):
    about = {"task": "made-up", "questions": 300, "pair": "a ⇄ b", "command": "none", "revision": "0", "hardware": "-"}
    return Curve(**{**about, "slm": SLM, "llm": LLM, "points": points, **changes})


def accepted(each, acceptance=0.3):
    return replace(each, acceptance=acceptance)


def untimed(each):
    return replace(each, seconds=None)


CURVE = curve(LOW, MIDDLE, DIP, HIGH)


def test_a_curve_is_measured_at_its_points_and_straight_between_them():
    found = CURVE.at(0.6)
    about = (found.threshold, found.accuracy, found.accuracy_low, found.accuracy_high, found.llm_share)
    assert about == pytest.approx((0.6, 0.4, 0.35, 0.45, 0.2))
    assert (found.bytes, found.flops, found.seconds) == pytest.approx((17, 34, 1.7))
    assert [CURVE.at(each.threshold) for each in (LOW, MIDDLE, DIP, HIGH)] == [LOW, MIDDLE, DIP, HIGH]
    assert CURVE.at(0) == CURVE.at(-3) == SLM and CURVE.at(1.001) == CURVE.at(2) == LLM
    assert CURVE.at(0.975).llm_share == pytest.approx(0.75), "from the last one to the LLM, which begins above 1"


def test_points_are_sorted_and_the_ends_have_their_thresholds_whatever_they_were_recorded_with():
    odd = curve(LOW, slm=replace(SLM, threshold=0.5), llm=replace(LLM, threshold=0.0))
    assert (odd.slm, odd.llm) == (SLM, LLM)
    mixed = curve(HIGH, LOW, point(0.0, 0.9, 0.0, 1.0), point(1.2, 0.9, 1.0, 1.0))
    assert mixed.measured == (SLM, LOW, HIGH, LLM)
    for points in ((), (LOW,), (replace(LOW, llm_share=0.0), replace(MIDDLE, llm_share=0.0))):
        for value in (-1.0, 0.0, 0.4, 0.5, 1.0, 1.01, 3.0):
            assert 0.0 <= curve(*points).at(value).llm_share <= 1.0
            assert 0.0 <= curve(*points).for_share(value).threshold <= LLM_ONLY


def test_a_share_gives_the_lowest_threshold_that_has_it():
    for share, threshold in ((0.2, 0.6), (0.4, 0.93), (0.75, 0.975), (0.27, 0.74)):
        assert CURVE.for_share(share).threshold == pytest.approx(threshold)
        assert CURVE.for_share(share).llm_share == pytest.approx(share)
    assert CURVE.at(0.86).llm_share == pytest.approx(0.27), "it dips there, too"
    assert CURVE.for_share(0.3) == MIDDLE
    assert CURVE.for_share(0) == CURVE.for_share(-1) == SLM and CURVE.for_share(1) == CURVE.for_share(7) == LLM


def test_the_cheapest_point_that_is_hardly_worse_than_the_llm_is_a_measured_one():
    assert CURVE.cheapest_within() == CURVE.cheapest_within(unit="seconds") == DIP
    found = [CURVE.cheapest_within(points) for points in (0.01, 0.1, 1.0, -0.01)]
    assert found == [HIGH, MIDDLE, SLM, None], "better than the LLM was nobody"
    assert curve(LOW, MIDDLE).cheapest_within() == LLM, "where no threshold is good enough"
    twin = replace(DIP, threshold=0.91, accuracy=0.59)
    assert curve(DIP, twin, HIGH).cheapest_within() == twin, "of equally cheap points the most accurate"
    assert 0.26 - 0.02 > 0.24, "floating point: the reason for a tolerance"
    enough, llm = point(0.5, 0.24, 0.2, 12.0), point(LLM_ONLY, 0.26, 1.0, 50.0)
    assert curve(enough, llm=llm).cheapest_within(0.02) == enough


def test_the_cost_weight_moves_the_best_point_from_the_llm_to_the_slm():
    assert CURVE.best(0) == HIGH, "as good as the LLM, and cheaper"
    assert CURVE.best(1) == DIP, "0.585 - 24/50 is more than 0.5 - 20/50"
    assert CURVE.best(1.2) == MIDDLE, "0.5 - 1.2 · 20/50 is more than 0.585 - 1.2 · 24/50"
    assert CURVE.best(10) == SLM
    for best in CURVE.best_points():
        for weight in (best.low + 1e-6, best.low + 0.1 if best.high is None else best.high - 1e-6):
            assert CURVE.best(weight) == best.point
    free = {"bytes": 0.0, "flops": 0.0, "seconds": 0.0}
    assert curve(slm=replace(SLM, **free), llm=replace(LLM, **free)).best(1.0).accuracy == 0.6
    wrong: list[Any] = [-0.1, float("nan"), float("inf"), "1"]
    for weight in wrong:
        with pytest.raises(InvalidRequest, match="cost_weight = "):
            CURVE.best(weight)


def test_a_unit_that_was_not_measured_is_refused_by_name_and_the_rest_is_read_as_before():
    without = curve(*map(untimed, (LOW, MIDDLE, DIP, HIGH)), slm=untimed(SLM), llm=untimed(LLM))
    assert CURVE.units == ("bytes", "flops", "seconds") and without.units == ("bytes", "flops")
    assert without.at(0.6) == untimed(CURVE.at(0.6)) and without.for_share(0.2) == untimed(CURVE.for_share(0.2))
    for unit in ("price", "seconds"):
        with pytest.raises(InvalidRequest, match=f"'{unit}'.* bytes, flops"):
            without.best(1, unit)


def test_above_acceptance_0_a_curve_begins_with_its_lowest_threshold_and_not_with_the_slm_alone():
    curved = curve(accepted(LOW), accepted(HIGH))
    assert curved.acceptance == 0.3 and curved.measured == (accepted(LOW), accepted(HIGH), accepted(LLM))
    assert curved.at(0) == curved.for_share(0) == accepted(LOW) and curved.at(1.5) == accepted(LLM)
    with pytest.raises(ValueError, match="one acceptance"):
        curve(LOW, accepted(HIGH))


# The file

TIMED = TimedSetting("router", "made-up", 20, 0.8, 0.3, "auto", 1.12)
UNTRAINED = {"confidence": (curve(LOW, max_draft=8), curve(HIGH))}
POINTS = OperatingPoints(HASH, (CURVE, curve(task="another", questions=1)), UNTRAINED, (TIMED,))


def test_saved_points_load_equal_and_a_folder_without_them_has_none(tmp_path):
    assert OperatingPoints.load(tmp_path) is None
    POINTS.save(tmp_path)
    assert OperatingPoints.load(tmp_path) == POINTS
    assert (POINTS.of("router"), POINTS.of("confidence")) == (POINTS.curves, UNTRAINED["confidence"])
    for wrong in (replace(LOW, bytes=float("nan")), replace(LOW, accuracy=0.1), replace(LOW, threshold=3.0)):
        with pytest.raises(RouterError):
            OperatingPoints(HASH, (curve(wrong),)).save(tmp_path)
    assert OperatingPoints.load(tmp_path) == POINTS, "what could not be loaded is not saved"
    content = json.loads(POINTS.to_json())
    del content["timed"], content["untrained"]  # as an earlier version wrote it
    content["note"] = content["curves"][0]["note"] = "of a later version"
    assert OperatingPoints.from_json(json.dumps(content)) == replace(POINTS, timed=(), untrained={})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("format", 2),
        ("router", "not a hash"),
        ("curves.0.questions", 0),
        ("curves.0.points.1.accuracy", 57),
        ("curves.0.points.1.accuracy_high", float("nan")),
        ("curves.0.points.1.threshold", 83),
        ("curves.0.points.1.seconds", -1),
        ("curves.0.points.1.flops", True),
        ("timed.0.times", 0),
        ("curves.0.points", [json.loads(POINTS.to_json())["curves"][0]["slm"]] * 1001),
    ],
)
def test_a_value_that_makes_no_sense_is_refused_with_file_field_and_the_way_out(tmp_path, field, value):
    content = place = json.loads(POINTS.to_json())
    *way, last = [int(step) if step.isdigit() else step for step in field.split(".")]
    for step in way:
        place = place[step]
    place[last] = value
    (tmp_path / FILE).write_text(json.dumps(content))
    with pytest.raises(RouterError, match=f"json: {field}") as refused:
        OperatingPoints.load(tmp_path)
    assert str(tmp_path) in str(refused.value) and "delete" in str(refused.value)
    (tmp_path / FILE).write_text(POINTS.to_json() + " " * MAX_BYTES)
    with pytest.raises(RouterError, match="1,000,000"):
        OperatingPoints.load(tmp_path)


def test_a_router_carries_the_points_of_its_own_weights_and_a_pair_those_of_its_own_llm(random_pair, tmp_path):
    make_router(random_pair).save(tmp_path)
    POINTS.save(tmp_path)
    router = Router.load(tmp_path)
    assert router.operating_points is None and router.warning is not None and FILE in router.warning
    for llm in (random_pair.llm_name, "huge"):
        make_router(random_pair, llm=llm).save(tmp_path)
        measured = replace(POINTS, router=sha256_of(tmp_path / WEIGHTS))
        measured.save(tmp_path)
        router = Router.load(tmp_path)
        assert router.operating_points == measured and router.warning is None
        random_pair.use_router(router)
        try:
            assert random_pair.operating_points == (None if llm == "huge" else measured)
        finally:
            random_pair.use_router(None)
