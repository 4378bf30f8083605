"""A measured curve read between its points, and its file, which is believed only where it makes sense.

Every figure here is made up so that it can be checked by hand; none was measured.
"""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise

import pytest

from engine import InvalidRequest, RouterError
from engine.operating_points import FILE, LLM_ONLY, MAX_BYTES, Curve, OperatingPoint, OperatingPoints, TimedSetting
from engine.router import WEIGHTS, Router
from engine.weights.cache_folder import sha256_of
from tests.engine.test_router import make_router

HASH = "0123456789abcdef" * 4


def point(threshold, accuracy, llm_share, cost):
    return OperatingPoint(threshold, accuracy, accuracy - 0.05, accuracy + 0.05, llm_share, cost, 2 * cost, cost / 10)


SLM, LLM = point(0.0, 0.2, 0.0, 10.0), point(LLM_ONLY, 0.6, 1.0, 50.0)
LOW, MIDDLE = point(0.4, 0.3, 0.1, 14.0), point(0.8, 0.5, 0.3, 20.0)
DIP, HIGH = point(0.9, 0.585, 0.25, 24.0), point(0.95, 0.6, 0.5, 30.0)


def curve(*points, **changes):
    about = {"task": "made-up", "questions": 300, "pair": "a ⇄ b", "command": "none", "revision": "0", "hardware": "-"}
    return Curve(**{**about, "slm": SLM, "llm": LLM, "points": points, **changes})


CURVE = curve(LOW, MIDDLE, DIP, HIGH)


def test_between_measured_thresholds_every_figure_is_on_a_straight_line():
    found = CURVE.at(0.6)
    assert found.threshold == 0.6
    assert found.accuracy == pytest.approx(0.4)
    assert (found.accuracy_low, found.accuracy_high) == (pytest.approx(0.35), pytest.approx(0.45))
    assert found.llm_share == pytest.approx(0.2)
    assert (found.bytes, found.flops, found.seconds) == (pytest.approx(17), pytest.approx(34), pytest.approx(1.7))


def test_a_measured_threshold_gives_what_was_measured():
    for measured in (LOW, MIDDLE, DIP, HIGH):
        assert CURVE.at(measured.threshold) == measured


def test_threshold_0_is_the_slm_and_above_1_is_the_llm():
    assert CURVE.at(0) == CURVE.at(-3) == SLM
    assert CURVE.at(1.001) == CURVE.at(2) == LLM
    assert CURVE.at(0.2).llm_share == pytest.approx(0.05), "on the way from the SLM to the first measured threshold"
    assert CURVE.at(0.975).llm_share == pytest.approx(0.75), "and from the last one to the LLM, which begins above 1"


def test_the_ends_have_their_thresholds_whatever_they_were_recorded_with():
    odd = curve(LOW, slm=replace(SLM, threshold=0.5), llm=replace(LLM, threshold=0.0))
    assert (odd.slm, odd.llm) == (SLM, LLM)
    assert curve(llm=replace(LLM, threshold=1.5)).llm.threshold == 1.5


def test_points_are_sorted_and_those_that_are_ends_are_left_out():
    mixed = curve(HIGH, LOW, point(0.0, 0.9, 0.0, 1.0), point(1.2, 0.9, 1.0, 1.0))
    assert [p.threshold for p in mixed.points] == [0.0, 0.4, 0.95, 1.2]
    assert mixed.measured == (SLM, LOW, HIGH, LLM)


def test_a_share_gives_the_threshold_that_has_it():
    assert CURVE.for_share(0.2).threshold == pytest.approx(0.6)
    assert CURVE.for_share(0.4).threshold == pytest.approx(0.93)
    assert CURVE.for_share(0.75).threshold == pytest.approx(0.975)
    for share in (0.03, 0.1, 0.27, 0.3, 0.45, 0.9):
        found = CURVE.for_share(share)
        assert found.llm_share == pytest.approx(share)
        assert CURVE.at(found.threshold).llm_share == pytest.approx(share)


def test_of_several_thresholds_with_one_share_the_lowest_counts():
    assert CURVE.at(0.86).llm_share == pytest.approx(CURVE.at(0.74).llm_share) == pytest.approx(0.27)
    assert CURVE.for_share(0.27).threshold == pytest.approx(0.74)
    assert CURVE.for_share(0.3) == MIDDLE


def test_shares_outside_the_curve_are_its_ends():
    assert CURVE.for_share(0) == CURVE.for_share(-1) == SLM
    assert CURVE.for_share(1) == CURVE.for_share(7) == LLM


def test_the_cheapest_within_two_points_is_measured_and_hardly_worse_than_the_llm():
    assert CURVE.cheapest_within() == CURVE.cheapest_within(unit="seconds") == DIP
    assert CURVE.cheapest_within(0.01) == HIGH
    assert CURVE.cheapest_within(0.1) == MIDDLE
    assert CURVE.cheapest_within(1.0) == SLM


def test_where_no_threshold_is_good_enough_the_llm_itself_is_the_cheapest():
    assert curve(LOW, MIDDLE).cheapest_within() == LLM
    assert CURVE.cheapest_within(-0.01) is None, "better than the LLM was nobody"


def test_just_two_points_below_is_within_two_points():
    assert 0.26 - 0.02 > 0.24, "floating point: the reason for a tolerance"
    enough, llm = point(0.5, 0.24, 0.2, 12.0), point(LLM_ONLY, 0.26, 1.0, 50.0)
    assert curve(enough, llm=llm).cheapest_within(0.02) == enough


def test_of_equally_cheap_points_the_most_accurate_is_taken():
    twin = replace(DIP, threshold=0.91, accuracy=0.59)
    assert curve(DIP, twin, HIGH).cheapest_within() == twin


def test_the_cost_weight_moves_the_best_point_from_the_llm_to_the_slm():
    assert CURVE.best(0) == HIGH, "as good as the LLM, and cheaper"
    assert CURVE.best(1) == DIP, "0.585 − 24/50 is more than 0.5 − 20/50"
    assert CURVE.best(1.2) == MIDDLE, "0.5 − 1.2 · 20/50 is more than 0.585 − 1.2 · 24/50"
    assert CURVE.best(10) == SLM
    costs = [CURVE.best(weight / 10, unit).bytes for unit in ("flops", "seconds") for weight in range(30)]
    assert all(a >= b for a, b in pairwise(costs[:30])) and costs[:30] == costs[30:]


def test_a_free_llm_leaves_only_accuracy_to_compare():
    free = {"bytes": 0.0, "flops": 0.0, "seconds": 0.0}
    assert curve(slm=replace(SLM, **free), llm=replace(LLM, **free)).best(1.0).accuracy == 0.6


@pytest.mark.parametrize("weight", [-0.1, float("nan"), float("inf"), "1"])
def test_a_cost_weight_that_is_none_is_refused(weight):
    with pytest.raises(InvalidRequest, match="cost_weight = "):
        CURVE.best(weight)


def test_a_unit_that_was_not_measured_is_refused_by_name():
    for ask in (lambda: CURVE.cheapest_within(unit="price"), lambda: CURVE.best(1, "price"), lambda: LOW.cost("")):
        with pytest.raises(InvalidRequest, match=r"was not measured: choose one of bytes, flops, seconds"):
            ask()


def untimed(each):
    return replace(each, seconds=None)


def test_where_seconds_cannot_be_compared_the_rest_is_read_as_before_and_they_are_refused():
    without = curve(*map(untimed, (LOW, MIDDLE, DIP, HIGH)), slm=untimed(SLM), llm=untimed(LLM))
    assert CURVE.units == ("bytes", "flops", "seconds") and without.units == ("bytes", "flops")
    assert without.at(0.6) == untimed(CURVE.at(0.6))
    assert without.for_share(0.2) == untimed(CURVE.for_share(0.2))
    assert without.best_points() == [best._replace(point=untimed(best.point)) for best in CURVE.best_points()]
    with pytest.raises(InvalidRequest, match=r"'seconds' was not measured: choose one of bytes, flops$"):
        without.best(1, "seconds")
    assert replace(CURVE, points=(untimed(LOW),)).units == ("bytes", "flops"), "known of some is known of none"
    assert OperatingPoints.from_json(OperatingPoints(HASH, (without,)).to_json()).curves == (without,)


def test_beside_a_routers_curves_stand_those_of_policies_without_training():
    points = OperatingPoints(HASH, (CURVE,), {"confidence": (curve(LOW, max_draft=8), curve(HIGH))})
    assert OperatingPoints.from_json(points.to_json()) == points
    assert points.of("router") == (CURVE,)
    assert [each.points for each in points.of("confidence")] == [(LOW,), (HIGH,)]
    assert points.of("random") == ()
    old = json.loads(points.to_json())
    del old["untrained"]
    assert OperatingPoints.from_json(json.dumps(old)).of("confidence") == (), "a file from before they were shipped"


@pytest.mark.parametrize(
    "points",
    [
        (),
        (LOW,),
        (LOW, replace(HIGH, threshold=LOW.threshold)),
        (replace(LOW, threshold=0.0), replace(LOW, threshold=1.0), replace(HIGH, threshold=1.0)),
        (replace(LOW, threshold=2.0),),
        (replace(LOW, llm_share=0.0), replace(MIDDLE, llm_share=0.0)),
        (replace(LOW, llm_share=1.0), replace(MIDDLE, llm_share=1.0)),
    ],
)
def test_a_curve_of_few_or_equal_points_can_be_read_everywhere(points):
    small = curve(*points)
    for value in (-1.0, 0.0, 0.1, 0.4, 0.5, 1.0, 1.01, 3.0):
        assert 0.0 <= small.at(value).llm_share <= 1.0
        assert 0.0 <= small.for_share(value).threshold <= LLM_ONLY
    assert small.cheapest_within() is not None
    assert small.best(0.5) in small.measured


def test_a_pair_without_a_gap_in_share_can_be_read():
    flat = curve(slm=replace(SLM, llm_share=0.5), llm=replace(LLM, llm_share=0.5))
    assert flat.for_share(0.2) == flat.slm and flat.for_share(0.9) == flat.llm


def accepted(each, acceptance=0.3):
    return replace(each, acceptance=acceptance)


def test_above_acceptance_0_a_curve_begins_with_its_lowest_threshold_and_not_with_the_slm_alone():
    curved = curve(accepted(LOW), accepted(HIGH))
    assert curved.acceptance == 0.3
    assert curved.measured == (accepted(LOW), accepted(HIGH), accepted(LLM))
    assert curved.at(0) == curved.at(0.2) == curved.for_share(0) == accepted(LOW)
    assert curved.at(0.9).acceptance == pytest.approx(0.3)
    assert curved.at(1.5) == accepted(LLM), "LLM-only is the same text at any acceptance"
    assert curved.slm == SLM, "what the SLM alone costs stays known"


def test_a_measured_threshold_of_0_is_where_a_curve_above_acceptance_0_begins():
    speculative = accepted(point(0.0, 0.55, 0.2, 22.0))
    curved = curve(accepted(HIGH), speculative)
    assert curved.measured[0] == curved.at(0) == speculative
    assert curved.cheapest_within(0.05) == speculative
    assert curved.at(0.475).bytes == pytest.approx(26)


def test_a_curve_is_at_one_acceptance():
    with pytest.raises(ValueError, match=r"points of acceptance 0\.0, 0\.3: a curve is at one acceptance"):
        curve(LOW, accepted(HIGH))
    text = OperatingPoints(HASH, (curve(accepted(LOW), accepted(HIGH)),)).to_json()
    OperatingPoints.from_json(text)
    with pytest.raises(RouterError, match="a curve is at one acceptance"):
        OperatingPoints.from_json('"acceptance": 0.4'.join(text.rsplit('"acceptance": 0.3', 1)))


def test_files_from_before_there_was_an_acceptance_are_at_0():
    content = json.loads(OperatingPoints(HASH, (CURVE,)).to_json())
    for each in content["curves"][0]["points"]:
        del each["acceptance"]
    assert OperatingPoints.from_json(json.dumps(content)).curves == (CURVE,)


def test_of_points_at_one_threshold_the_later_counts():
    twice = curve(LOW, replace(HIGH, threshold=LOW.threshold))
    assert twice.at(LOW.threshold).llm_share == HIGH.llm_share


# The file:

TIMED = TimedSetting("router", "made-up", 20, 0.8, 0.3, "auto", 1.12)
POINTS = OperatingPoints(HASH, (CURVE, curve(task="another", questions=1)), timed=(TIMED,))


def test_saved_points_load_equal(tmp_path):
    POINTS.save(tmp_path)
    assert OperatingPoints.load(tmp_path) == POINTS
    content = json.loads((tmp_path / FILE).read_text("utf-8"))
    assert list(content) == ["format", "router", "curves", "untrained", "timed"] and content["format"] == 1
    assert content["curves"][0]["points"][0] == {
        "threshold": 0.4, "accuracy": 0.3, "accuracy_low": 0.25, "accuracy_high": 0.35, "llm_share": 0.1,
        "bytes": 14.0, "flops": 28.0, "seconds": 1.4, "acceptance": 0.0,
    }  # fmt: skip


def test_a_folder_without_the_file_has_no_points(tmp_path):
    assert OperatingPoints.load(tmp_path) is None


def test_a_file_from_before_settings_were_timed_has_none():
    content = json.loads(POINTS.to_json())
    del content["timed"]
    assert OperatingPoints.from_json(json.dumps(content)) == replace(POINTS, timed=())


def test_whole_numbers_unsorted_points_and_unknown_fields_are_read():
    content = json.loads(POINTS.to_json())
    content["curves"][0]["points"].reverse()
    content["curves"][0]["points"][0]["bytes"] = 30
    content["note"] = content["curves"][0]["note"] = "of a later version"
    assert OperatingPoints.from_json(json.dumps(content)) == POINTS


def _set(path, value):
    def damage(content):
        at = content
        *way, last = path
        for step in way:
            at = at[step]
        at[last] = value

    return damage


FIRST = ("curves", 0, "points", 1)


@pytest.mark.parametrize(
    ("damage", "field"),
    [
        (_set(("format",), 2), "format"),
        (_set(("router",), "not a hash"), "router"),
        (_set(("router",), None), "router"),
        (_set(("curves",), {}), "curves"),
        (_set(("curves", 0, "questions"), 0), "curves.0.questions"),
        (_set(("curves", 0, "questions"), 12.5), "curves.0.questions"),
        (_set(("curves", 0, "task"), "x" * 101), "curves.0.task"),
        (_set(("curves", 0, "task"), ""), "curves.0.task"),
        (_set(("curves", 0, "hardware"), ["a"]), "curves.0.hardware"),
        (_set(("curves", 0, "slm"), None), "curves.0.slm"),
        (_set((*FIRST, "accuracy"), 57), "curves.0.points.1.accuracy"),
        (_set((*FIRST, "accuracy"), "0.5"), "curves.0.points.1.accuracy"),
        (_set((*FIRST, "accuracy_low"), 0.51), "curves.0.points.1: .*accuracy_low ≤ accuracy"),
        (_set((*FIRST, "accuracy_high"), float("nan")), "curves.0.points.1.accuracy_high"),
        (_set((*FIRST, "llm_share"), -0.1), "curves.0.points.1.llm_share"),
        (_set((*FIRST, "threshold"), 83), "curves.0.points.1.threshold"),
        (_set((*FIRST, "bytes"), float("inf")), "curves.0.points.1.bytes"),
        (_set((*FIRST, "seconds"), -1), "curves.0.points.1.seconds"),
        (_set((*FIRST, "flops"), True), "curves.0.points.1.flops"),
        (_set(("timed", 0, "times"), float("inf")), "timed.0.times"),
        (_set(("timed", 0, "times"), 0), "timed.0.times"),
        (_set(("timed", 0, "max_draft"), 0), "timed.0.max_draft"),
        (_set(("timed", 0, "acceptance"), 1.5), "timed.0.acceptance"),
        (_set(("timed", 0, "policy"), ""), "timed.0.policy"),
        (lambda content: content["curves"][1]["llm"].pop("flops"), "curves.1.llm.flops"),
        (_set(("curves", 0, "points"), [json.loads(POINTS.to_json())["curves"][0]["slm"]] * 1001), "curves.0.points"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused_with_file_and_field(tmp_path, damage, field):
    content = json.loads(POINTS.to_json())
    damage(content)
    (tmp_path / FILE).write_text(json.dumps(content))
    with pytest.raises(RouterError, match=rf"operating_points\.json: {field}") as refused:
        OperatingPoints.load(tmp_path)
    assert str(tmp_path) in str(refused.value) and "delete the file" in str(refused.value)


@pytest.mark.parametrize("content", [b"", b"{", b"null", b"[]", b"\xff\xfe\x00", b"[" * 100_000, b"\x80\x04K\x01."])
def test_a_file_that_is_something_else_is_refused(tmp_path, content):
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(RouterError, match=r"operating_points\.json: the file: "):
        OperatingPoints.load(tmp_path)


def test_a_file_beyond_the_limit_is_not_parsed(tmp_path):
    text = POINTS.to_json()
    (tmp_path / FILE).write_text(text + " " * (MAX_BYTES - len(text.encode())))
    assert OperatingPoints.load(tmp_path) == POINTS
    (tmp_path / FILE).write_text(text + " " * (MAX_BYTES - len(text.encode()) + 1))
    with pytest.raises(RouterError, match=r"operating_points\.json cannot be read: it has more than 1,000,000 bytes"):
        OperatingPoints.load(tmp_path)


def test_a_folder_in_the_files_place_is_refused(tmp_path):
    (tmp_path / FILE).mkdir()
    with pytest.raises(RouterError, match="cannot be read"):
        OperatingPoints.load(tmp_path)


def test_what_could_not_be_loaded_is_not_saved(tmp_path):
    POINTS.save(tmp_path)
    for wrong in (replace(LOW, bytes=float("nan")), replace(LOW, accuracy=0.1), replace(LOW, threshold=3.0)):
        with pytest.raises(RouterError):
            OperatingPoints(HASH, (curve(wrong),)).save(tmp_path)
    assert OperatingPoints.load(tmp_path) == POINTS


# The file in a router's folder:


@pytest.fixture
def folder(random_pair, tmp_path):
    make_router(random_pair).save(tmp_path / "r")
    return tmp_path / "r"


def _measured(folder):
    return replace(POINTS, router=sha256_of(folder / WEIGHTS))


def test_a_router_carries_its_points_and_so_does_its_pair(random_pair, folder):
    assert Router.load(folder).operating_points is None
    _measured(folder).save(folder)
    router = Router.load(folder)
    assert router.operating_points == _measured(folder) and router.warning is None
    assert random_pair.operating_points is None
    random_pair.use_router(router)
    try:
        assert random_pair.operating_points is router.operating_points
    finally:
        random_pair.use_router(None)


def test_points_measured_with_other_weights_are_left_out_with_a_warning(folder):
    POINTS.save(folder)
    router = Router.load(folder)
    assert router.operating_points is None
    assert router.warning is not None and "operating_points.json" in router.warning and "test" in router.warning


def test_with_another_llm_than_the_measured_one_the_pair_has_no_points(random_pair, tmp_path):
    make_router(random_pair, llm="huge").save(tmp_path)
    _measured(tmp_path).save(tmp_path)
    random_pair.use_router(Router.load(tmp_path))
    try:
        assert random_pair.router.operating_points is not None and random_pair.operating_points is None
    finally:
        random_pair.use_router(None)


def test_a_router_with_damaged_points_is_refused(folder):
    (folder / FILE).write_text('{"format": 1}')
    with pytest.raises(RouterError, match=r"operating_points\.json: router: Field required"):
        Router.load(folder)
