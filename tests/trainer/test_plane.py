"""The plane of threshold and acceptance, from answers on disk to the tables of the page of results, by hand."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import plotly.graph_objects as go
import pytest

from engine.operating_points import TimedSetting
from engine.pair import ROUTERS
from engine.router import Router
from tests.trainer.test_record import POINTS, close, lines, summary_of, write_evaluation
from trainer import TrainerError
from trainer.evaluation.method_names import SPECULATIVE
from trainer.evaluation.plane import ANY, AT_0, LEARNED, WHOLE
from trainer.evaluation.record import read_evaluation
from trainer.evaluation.summary import load_summary, summarise, write_summary
from trainer.labels.rollouts import fingerprint
from trainer.report.charts.figures import plane_charts, write_charts
from trainer.report.plane_report import FAMILIES
from trainer.report.report import render
from trainer.report.start_report import start_section
from trainer.shards import JOINT
from trainer.ship import beside_confidence, check_measured, curve_of, curves_of, ship, untrained_curves

TINY = ROUTERS / "tiny"

# (method, threshold, acceptance, max_draft): right answers of 100, LLM share, bytes.
ABOVE_0 = {
    ("assisted-tuned", 0.5, 1.0, 4): (60, 0.4, 48),
    ("slm", 0.0, 0.3, 5): (56, 0.2, 45),
    ("confidence", 0.3, 0.3, "auto"): (52, 0.1, 42),
    ("confidence", 0.5, 0.3, "auto"): (58, 0.2, 44),
    ("confidence", 0.5, 1.0, "auto"): (60, 0.3, 47),
    ("citer-r2", 0.5, 0.3, "auto"): (59, 0.1, 36),
    ("citer-r2", 0.6, 0.3, "auto"): (61, 0.2, 52),
}


def write_plane(folder, points=None):
    """The evaluation of the other tests, and above acceptance 0 answers that say what was taken back."""
    write_evaluation(folder)
    written = []
    for (method, threshold, acceptance, draft), figures in (points or ABOVE_0).items():
        more = {"acceptance": acceptance, "max_draft": draft, "llm_passes": 7, "taken_back": 3}
        written += [{**line, **more} for line in lines({(method, threshold): figures})]
    (folder / "plane-00000.jsonl").write_text("".join(json.dumps(line) + "\n" for line in written), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def plane_summary(tmp_path_factory):
    return summarise(read_evaluation(write_plane(tmp_path_factory.mktemp("plane"))), 500)


def test_answers_from_before_there_was_an_acceptance_are_at_0_and_do_not_know_their_passes(tmp_path):
    points = read_evaluation(write_plane(tmp_path)).points
    old = next(point for point in points if point.method == "confidence")
    assert (old.acceptance, old.max_draft, old.answers[0].taken_back) == (0.0, "auto", None)
    new = next(point for point in points if point.method == "slm" and point.acceptance)
    assert (new.acceptance, new.max_draft, new.column("taken_back").mean()) == (0.3, 5, 3.0)
    assert len(points) == len(POINTS) + len(ABOVE_0)


def test_a_point_without_all_answers_is_named_with_its_acceptance(tmp_path):
    path = write_plane(tmp_path) / "plane-00000.jsonl"
    path.write_bytes(path.read_bytes()[:-1].rpartition(b"\n")[0])
    with pytest.raises(TrainerError, match=r"citer-r2@0\.3 at threshold 0\.6 has 99 of 100 answers"):
        read_evaluation(tmp_path)


def test_the_methods_of_a_summary_are_those_of_acceptance_0_and_speculative_decoding(tmp_path, plane_summary):
    plain = summary_of(tmp_path, resamples=500)
    assert "plane" not in plain
    assert list(plane_summary["methods"]) == [
        *list(plain["methods"])[:4],
        "assisted-tuned",
        *list(plain["methods"])[4:],
    ]
    assert all(plane_summary["methods"][name] == plain["methods"][name] for name in plain["methods"])


def test_curves_are_one_for_each_method_and_acceptance_with_the_same_methods_at_0(plane_summary):
    curves = plane_summary["plane"]["curves"]
    assert list(curves) == [
        "slm@0.3/5",
        "confidence",
        "confidence@0.3",
        "confidence@1",
        "citer-r2",
        "citer-r2@0.3",
    ]
    assert [point["threshold"] for point in curves["confidence@0.3"]] == [0.3, 0.5]
    assert curves["confidence"][0]["taken_back"] is None
    assert curves["confidence@1"][0]["taken_back"] == 3


def test_the_front_is_cheapest_first_and_each_point_more_accurate_than_all_cheaper_ones(plane_summary):
    front = plane_summary["plane"]["front"]
    assert [(point["method"], point["acceptance"], point["accuracy"]) for point in front] == [
        ("citer-r2", 0.3, 0.59),
        ("confidence", 1.0, 0.6),
        ("citer-r2", 0.3, 0.61),
        ("citer-r2", 0.0, 0.62),
    ]
    assert all(point["method"] != "oracle" for point in front), "it is cheapest of all, and nobody can run it"


def test_the_least_cost_of_a_family_is_that_of_its_cheapest_measured_point(plane_summary):
    plane = plane_summary["plane"]
    assert plane["targets"] == {"llm": 0.59, "0.8": 0.52, "0.9": 0.56, "0.95": 0.58}
    least = {
        family: {name: each["point"] and each["point"]["bytes"] / 1e6 for name, each in reached.items()}
        for family, reached in plane["families"].items()
    }
    assert least == {
        "plane": {"llm": 36, "0.8": 36, "0.9": 36, "0.95": 36},
        "acceptance-0": {"llm": 60, "0.8": 60, "0.9": 60, "0.95": 60},
        "assisted-tuned": {"llm": 48, "0.8": 48, "0.9": 48, "0.95": 48},
        "assisted": {"llm": 50, "0.8": 50, "0.9": 50, "0.95": 50},
        "confidence": {"llm": 47, "0.8": 42, "0.9": 44, "0.95": 44},
        "learned": {"llm": 36, "0.8": 36, "0.9": 36, "0.95": 36},
        "confidence-0": {"llm": 80, "0.8": 80, "0.9": 80, "0.95": 80},
    }
    tuned = plane["families"]["assisted-tuned"]["llm"]
    assert tuned["ratio"]["bytes"]["value"] == close(36 / 48)
    assert tuned["ratio"]["seconds"]["value"] == close(36 / 48)
    best = plane["families"]["plane"]["llm"]
    assert best["difference"] is not None and best["difference"]["value"] == close(-0.01)
    assert best["ratio"]["bytes"]["value"] == 1


def test_resamples_choose_their_own_points_so_the_interval_knows_of_the_choice(plane_summary):
    """One question decides whether the cheapest point is within a point of the LLM: often it is not."""
    cost = plane_summary["plane"]["families"]["plane"]["llm"]["cost"]["bytes"]
    assert (cost["low"], cost["value"], cost["high"]) == (36e6, 36e6, 47e6)


def test_a_family_that_does_not_get_there_says_so(tmp_path):
    points = {**ABOVE_0, ("assisted-tuned", 0.5, 1.0, 4): (57, 0.4, 48)}
    summary = summarise(read_evaluation(write_plane(tmp_path, points)), 100)
    plane: Any = summary.get("plane")
    reached = plane["families"]["assisted-tuned"]["llm"]
    assert reached["point"] is None and reached["cost"]["bytes"]["value"] is None
    assert "| **speculative decoding, tuned** | not reached |" in render([summary], tmp_path, tmp_path)


def test_a_router_ships_a_curve_for_each_acceptance_that_begins_where_no_router_is_asked(plane_summary):
    curve = curve_of(plane_summary, "citer-r2", 0.3)
    assert curve.acceptance == 0.3
    assert [(point.threshold, point.accuracy) for point in curve.measured[:-1]] == [(0.5, 0.59), (0.6, 0.61)]
    assert curve_of(plane_summary, "citer-r2").acceptance == 0
    with pytest.raises(TrainerError, match=r"no citer-r2@0\.6: evaluate it at that acceptance"):
        curve_of(plane_summary, "citer-r2", 0.6)


def test_a_router_ships_what_was_measured_at_drafts_of_a_length(tmp_path):
    points = {("confidence", 0.5, 0.1, length): (value, 0.2, 46) for length, value in ((4, 57), (8, 58))}
    summary = summarise(read_evaluation(write_plane(tmp_path, {**ABOVE_0, **points})), 20)
    curves = curves_of(summary, "confidence")
    assert [(curve.acceptance, curve.points[0].accuracy) for curve in curves][:2] == [(0.0, 0.4), (0.1, 0.58)]


def test_a_curve_above_acceptance_0_says_how_long_its_drafts_were(plane_summary, tmp_path):
    at_0, at_a_third, at_1 = curves_of(plane_summary, "confidence")
    assert (at_0.max_draft, at_a_third.max_draft, at_1.max_draft) == (None, "auto", "auto")
    points = {**ABOVE_0, ("confidence", 0.5, 0.1, 8): (58, 0.2, 46)}
    summary = summarise(read_evaluation(write_plane(tmp_path, points)), 20)
    assert curve_of(summary, "confidence", 0.1).max_draft == 8


def test_seconds_are_shipped_only_where_all_stages_ran_on_one_machine(plane_summary):
    alike = curve_of(plane_summary, "citer-r2", 0.3)
    assert alike.units == ("bytes", "flops", "seconds")
    two: Any = {**plane_summary, "hardware": JOINT.join(["a laptop", "a server"])}
    joined = curve_of(two, "citer-r2", 0.3)
    assert joined.units == ("bytes", "flops")
    assert {point.seconds for point in (*joined.points, joined.slm, joined.llm)} == {None}
    assert [point.bytes for point in joined.points] == [point.bytes for point in alike.points]


def test_beside_a_router_are_shipped_the_curves_of_what_needs_no_training(plane_summary, tmp_path):
    untrained = untrained_curves([plane_summary])
    assert {name: [curve.acceptance for curve in curves] for name, curves in untrained.items()} == {
        "confidence": [0.0, 0.3, 1.0],
        "random": [0.0],
    }
    shipped = ship(TINY, curves_of(plane_summary, "citer-r2"), tmp_path / "mine", untrained)
    points: Any = Router.load(tmp_path / "mine").operating_points
    assert shipped.card.threshold == Router.load(tmp_path / "mine").card.threshold
    assert [curve.acceptance for curve in points.of("router")] == [0.0, 0.3]
    assert [curve.points for curve in points.of("confidence")] == [curve.points for curve in untrained["confidence"]]
    assert points.of("entropy") == ()
    card = (tmp_path / "mine" / "README.md").read_text()
    at = points.of("router")[[0.0, 0.3].index(shipped.card.acceptance)].at(shipped.card.threshold)
    row = next(line for line in card.splitlines() if line.startswith(f"| {plane_summary['task']} |"))
    assert f"{at.accuracy:.1%}" in row and f"acceptance {shipped.card.acceptance:g}" in card


def test_every_point_of_the_main_method_stands_beside_slm_confidence_at_equal_bytes(tmp_path, plane_summary):
    points = plane_summary["comparisons"]["beside_confidence"]["citer-r2"]
    values = {(each["acceptance"], each["threshold"]): each["accuracy"]["value"] for each in points}
    # SLM confidence is right in 40, 50 and 60 of 100 for 40, 50 and 80; nothing of it is as cheap as 36.
    rule = {40: 0.4, 60: 0.5 + 0.1 * 10 / 30, 70: 0.5 + 0.1 * 20 / 30, 52: 0.5 + 0.1 * 2 / 30}
    at_0 = {(0.0, 0.5): close(0.5 - rule[40]), (0.0, 0.6): close(0.6 - rule[60]), (0.0, 0.7): close(0.62 - rule[70])}
    assert values == {**at_0, (0.3, 0.5): None, (0.3, 0.6): close(0.61 - rule[52])}
    without = {key: value for key, value in POINTS.items() if key[0] != "confidence"}
    assert "beside_confidence" not in summary_of(tmp_path, without)["comparisons"]


def shipped_in(summary, folder, start=(0.6, 0.3)):
    """The tiny router, shipped with a summary's curves as one that starts at a threshold and an acceptance."""
    curves = [curve for curve in curves_of(summary, "citer-r2") if curve.acceptance == start[1]]
    router = ship(TINY, curves, folder, beside=beside_confidence([summary], "citer-r2"))
    assert (router.card.threshold, router.card.acceptance) == start
    return folder


def test_a_card_says_how_the_start_stands_beside_slm_confidence_and_on_which_tasks_it_is_surely_worse(tmp_path):
    points = {("confidence", 0.5, 0.3, "auto"): (58, 0.2, 44), ("citer-r2", 0.6, 0.3, "auto"): (61, 0.2, 52)}
    summary: Any = summarise(read_evaluation(write_plane(tmp_path / "e", points)), 500)
    card = (shipped_in(summary, tmp_path / "mine") / "README.md").read_text()
    row = next(line for line in card.splitlines() if line.startswith("| sums |"))
    assert re.search(r"\| 10\.3 points \([^)]*\)†? \|$", row) and "beside SLM confidence at equal bytes |" in card
    assert "it is worse on none of them." in card
    (own,) = (each for each in summary["comparisons"]["beside_confidence"]["citer-r2"] if each["acceptance"])
    own["accuracy"] |= {"value": -0.1, "low": -0.2, "high": -0.01}
    own["threshold"] = 0.57
    card = (shipped_in(summary, tmp_path / "other") / "README.md").read_text()
    assert "| −10.0 points (−20.0 to −1.0), at threshold 0.57 |" in card and "it is worse on sums." in card
    del summary["comparisons"]["beside_confidence"]
    card = (shipped_in(summary, tmp_path / "before") / "README.md").read_text()
    assert "| sums |" in card and "beside SLM confidence" not in card and "worse on" not in card


def test_a_card_says_what_of_the_llms_seconds_the_timed_setting_nearest_to_the_start_took(plane_summary, tmp_path):
    curves = [curve for curve in curves_of(plane_summary, "citer-r2") if curve.acceptance == 0.3]
    near, far = (TimedSetting("router", "sums", 20, threshold, 0.3, "auto", 1.09) for threshold in (0.57, 0.2))
    others = [replace(near, threshold=0.6, times=2, **other) for other in ({"acceptance": 0}, {"policy": "confidence"})]
    ship(TINY, curves, tmp_path / "mine", timed=[far, near, *others])
    card = (tmp_path / "mine" / "README.md").read_text()
    row = next(line for line in card.splitlines() if line.startswith("| sums |"))
    assert "| seconds of LLM only, measured |" in card and row.endswith("| 109 % (20 questions), at threshold 0.57 |")
    ship(TINY, curves, tmp_path / "mine", timed=others)
    assert "seconds" not in (tmp_path / "mine" / "README.md").read_text()


def test_what_is_shipped_is_the_router_that_was_measured_and_results_are_of_one_pair(plane_summary):
    check_measured(TINY, "citer-r2", [plane_summary])  # of which the router is not known
    own = fingerprint(Router.load(TINY).network)
    named: Any = {**plane_summary, "routers": {"citer-r2": own, "citer-r1": "another"}}
    check_measured(TINY, "citer-r2", [named])
    with pytest.raises(TrainerError, match="citer-r1 in the results of sums is another router than"):
        check_measured(TINY, "citer-r1", [named])
    other: Any = {**plane_summary, "pair": "Other ⇄ Large"}
    with pytest.raises(TrainerError, match="ship those of one pair"):
        check_measured(TINY, "citer-r2", [plane_summary, other])


def test_a_start_that_is_cheaper_than_all_of_slm_confidence_has_no_difference(plane_summary, tmp_path):
    card = (shipped_in(plane_summary, tmp_path / "mine", (0.5, 0.3)) / "README.md").read_text()
    assert "| none so cheap |" in card and "it is worse on none of them." in card


def test_the_page_of_results_says_where_the_router_starts_that_was_shipped_from_them(
    plane_summary, tmp_path, monkeypatch
):
    folder = shipped_in(plane_summary, tmp_path / "tiny", (0.5, 0.3))
    text = start_section([plane_summary], folder)
    monkeypatch.setattr("trainer.report.report.ROUTERS", tmp_path)
    products: Any = {**plane_summary, "task": "products"}
    assert text in render([plane_summary, products], tmp_path, tmp_path)
    assert text.startswith("Where the shipped router `tiny` starts: threshold 0.5, acceptance 0.3,")
    assert "| sums | 100 | 20.0% | 60.0% | 59.0% | 10.0% | 36.0% | none so cheap |" in text
    other: Any = {**plane_summary, "revision": "of other answers"}
    assert start_section([other], folder) == "" == start_section([plane_summary], tmp_path / "none")


def test_what_the_slm_drafts_without_a_router_is_threshold_0_of_every_curve(tmp_path):
    points = {**ABOVE_0, ("slm", 0.0, 0.3, "auto"): (57, 0.2, 46)}
    curve = curve_of(summarise(read_evaluation(write_plane(tmp_path, points)), 20), "citer-r2", 0.3)
    assert [point.accuracy for point in curve.measured] == [0.57, 0.59, 0.61, 0.6]


def test_a_summary_with_a_plane_reads_back(tmp_path, plane_summary):
    assert load_summary(write_summary(plane_summary, tmp_path)) == plane_summary


def test_the_page_of_results_has_the_plane_in_three_tables_and_without_one_none(tmp_path, plane_summary):
    text = render([plane_summary], tmp_path, tmp_path)
    assert "| the LLM’s accuracy, less 1 point: 59.0 % | 80 % of the gap: 52.0 % |" in text
    assert "| **the whole plane** | 36 %, citer-r2@0.3 < 0.5; −1.0 points (−" in text, "paired with LLM-only"
    tuned = r"\| 48 %, assisted-tuned < 0\.5, drafts of 3; 0\.0 points \([^)]*\); the plane 75 % \("
    assert re.search(r"\| \*\*speculative decoding, tuned\*\* " + tuned, text)
    assert "| SLM confidence | 0.3: 40.0 % at 40 %<br>0.5: 50.0 % at 50 %<br>0.7: 60.0 % at 80 % | 0.3: 52.0 %" in text
    assert "| no router, the SLM always drafts / 5 |  | 0: 56.0 % at 45 % |  |" in text
    assert "| confidence@1 < 0.5 | 60.0 % (" in text
    assert "| 7.0 | 3.0 |" in text
    without = {name: value for name, value in plane_summary.items() if name != "plane"}
    assert "acceptance" not in render([without], tmp_path, tmp_path)  # type: ignore[list-item]


def test_thresholds_that_lie_close_to_each_other_and_to_1_are_told_apart_in_every_table(tmp_path):
    close_to_1 = {
        ("confidence", 0.99993, 0.3, "auto"): (52, 0.1, 42),
        ("confidence", 0.99996, 0.3, "auto"): (58, 0.2, 44),
        ("citer-r2", 0.99996, 0.3, "auto"): (59, 0.1, 36),
    }
    text = render([summarise(read_evaluation(write_plane(tmp_path, close_to_1)), 100)], tmp_path, tmp_path)
    assert "0.9999: 52.0 % at 42 %<br>0.99996: 58.0 % at 44 %" in text
    assert "| citer-r2@0.3 < 0.99996 | 59.0 % (" in text
    assert "36 %, citer-r2@0.3 < 0.99996;" in text


def traces(figure) -> dict[str, Any]:
    return {trace.name: trace for trace in figure.data}


def test_the_planes_chart_has_a_line_per_acceptance_tuned_speculative_decoding_and_the_front(plane_summary):
    figures = plane_charts(plane_summary)
    assert list(figures) == ["citer-r2", "confidence"], "the main method first, and none with one acceptance"
    confidence = traces(figures["confidence"])
    lines = ["acceptance 0", "acceptance 0.3", "acceptance 1"]
    assert [name for name in confidence if name.startswith("acceptance")] == lines
    assert confidence["acceptance 0.3"].x == (42e6, 44e6) and confidence["acceptance 0.3"].y == (0.52, 0.58)
    assert (
        len(
            {(trace.line.color, trace.line.dash, trace.marker.symbol) for trace in (confidence[name] for name in lines)}
        )
        == 3
    )
    tuned = confidence["speculative decoding, tuned"]
    assert (tuned.x, tuned.y, tuned.mode) == ((48e6,), (0.6,), "markers+text")
    assert "speculative decoding" not in confidence, "untuned"
    front = plane_summary["plane"]["front"]
    for figure in figures.values():
        drawn = traces(figure)["front of the whole plane"]
        assert drawn.x == tuple(point["bytes"] for point in front) and drawn.line.shape == "hv"
        assert "citer-r2@0.3 < 0.5" in drawn.text


def test_an_evaluation_at_one_acceptance_has_no_chart_of_a_plane(tmp_path):
    assert plane_charts(summary_of(tmp_path, resamples=50)) == {}
    one = {key: value for key, value in ABOVE_0.items() if key[0] == "assisted-tuned"}
    assert plane_charts(summarise(read_evaluation(write_plane(tmp_path / "one", one)), 50)) == {}


def test_the_report_writes_the_planes_chart_and_links_it(plane_summary, tmp_path, monkeypatch):
    monkeypatch.setattr(go.Figure, "write_image", lambda figure, path, **options: path.write_bytes(b"PNG"))
    page, _, image, plane = write_charts(plane_summary, tmp_path, lambda line: None)
    assert (image.name, plane.name) == ("tiny--sums.png", "tiny--sums-plane.png")
    assert "CITER round 2 over the plane of threshold and acceptance" in page.read_text(encoding="utf-8")
    assert "![Accuracy over bytes, by acceptance](tiny--sums-plane.png)" in render([plane_summary], tmp_path, tmp_path)
    plane.unlink()
    assert "sums-plane" not in render([plane_summary], tmp_path, tmp_path)


def test_every_family_of_a_plane_has_a_name_in_its_table():
    assert set(FAMILIES) == {WHOLE, "acceptance-0", *SPECULATIVE, LEARNED, *ANY, *AT_0}
