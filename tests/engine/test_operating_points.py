"""The file of measured curves, which is believed only where it makes sense.

Every figure here is made up so that it can be checked by hand; none was measured. Damaged files are in `test_formats`.
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest

from engine import RouterError
from engine.models.files import sha256_of
from engine.operating_points import FILE, MAX_BYTES, Curve, OperatingPoint, OperatingPoints
from engine.router import WEIGHTS, Router
from engine.setting import LLM_ONLY
from tests.support.routers import make_router

HASH = "0123456789abcdef" * 4


def point(threshold, accuracy, llm_share, cost):
    return OperatingPoint(threshold, accuracy, accuracy - 0.05, accuracy + 0.05, llm_share, cost)


SLM, LLM = point(0.0, 0.2, 0.0, 10.0), point(LLM_ONLY, 0.6, 1.0, 50.0)
LOW, HIGH = point(0.4, 0.3, 0.1, 14.0), point(0.95, 0.6, 0.5, 30.0)


def curve(*points, task="made-up", questions=300):
    return Curve(task, questions, "a ⇄ b", "none", "0", "-", SLM, LLM, points)


UNTRAINED = {"confidence": (curve(LOW), curve(replace(HIGH, acceptance=0.3)))}
POINTS = OperatingPoints(HASH, (curve(LOW, HIGH), curve(task="another", questions=1)), UNTRAINED)


def test_saved_points_load_equal_and_a_folder_without_them_has_none(tmp_path):
    assert OperatingPoints.load(tmp_path) is None
    POINTS.save(tmp_path)
    assert OperatingPoints.load(tmp_path) == POINTS
    assert (POINTS.of("router"), POINTS.of("confidence")) == (POINTS.curves, UNTRAINED["confidence"])
    for wrong in (replace(LOW, bytes=float("nan")), replace(LOW, accuracy=1.1), replace(LOW, threshold=3.0)):
        with pytest.raises(RouterError):
            OperatingPoints(HASH, (curve(wrong),)).save(tmp_path)
    assert OperatingPoints.load(tmp_path) == POINTS, "what could not be loaded is not saved"
    content = json.loads((tmp_path / FILE).read_text("utf-8"))
    del content["untrained"]  # as an earlier version wrote it
    content["timed"] = content["curves"][0]["max_draft"] = "of another version"
    (tmp_path / FILE).write_text(json.dumps(content), "utf-8")
    assert OperatingPoints.load(tmp_path) == replace(POINTS, untrained={})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("format", 2),
        ("router", "not a hash"),
        ("curves.0.questions", 0),
        ("curves.0.points.1.accuracy", 57),
        ("curves.0.points.1.accuracy_high", float("nan")),
        ("curves.0.points.1.threshold", 83),
        ("curves.0.points.1.bytes", -1),
        ("curves.0.points.1.llm_share", True),
        ("curves.0.points", [asdict(SLM)] * 1001),
    ],
)
def test_a_value_that_makes_no_sense_is_refused_with_file_field_and_the_way_out(tmp_path, field, value):
    content = place = json.loads(json.dumps(asdict(POINTS)))
    *way, last = [int(step) if step.isdigit() else step for step in field.split(".")]
    for step in way:
        place = place[step]
    place[last] = value
    (tmp_path / FILE).write_text(json.dumps(content))
    with pytest.raises(RouterError, match=f"json: {field}") as refused:
        OperatingPoints.load(tmp_path)
    assert str(tmp_path) in str(refused.value) and "delete" in str(refused.value)
    (tmp_path / FILE).write_text(json.dumps(asdict(POINTS)) + " " * MAX_BYTES)
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
