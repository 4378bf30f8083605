"""A measured curve read between its points, and its file, which is believed only where it makes sense.

Every figure here is made up so that it can be checked by hand; none was measured. Damaged files are in `test_formats`.
"""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from engine import RouterError
from engine.models.files import sha256_of
from engine.operating_points import FILE, LLM_ONLY, MAX_BYTES, Curve, OperatingPoint, OperatingPoints
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


def test_above_acceptance_0_a_curve_begins_with_its_lowest_threshold_and_not_with_the_slm_alone():
    curved = curve(accepted(LOW), accepted(HIGH))
    assert curved.acceptance == 0.3 and curved.measured == (accepted(LOW), accepted(HIGH), accepted(LLM))
    assert curved.at(0) == accepted(LOW) and curved.at(1.5) == accepted(LLM)
    with pytest.raises(ValueError, match="one acceptance"):
        curve(LOW, accepted(HIGH))


# The file

UNTRAINED = {"confidence": (curve(LOW, max_draft=8), curve(HIGH))}
POINTS = OperatingPoints(HASH, (CURVE, curve(task="another", questions=1)), UNTRAINED)


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
    del content["untrained"]  # as an earlier version wrote it
    content["timed"] = content["curves"][0]["note"] = "of another version"
    assert OperatingPoints.from_json(json.dumps(content)) == replace(POINTS, untrained={})


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
