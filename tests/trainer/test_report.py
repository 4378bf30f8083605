"""The generated pages and the model card are what they were, as a whole; charts hold the points they are drawn from.

After a change that is meant, `python -m tests.trainer.test_report` writes the pages in `golden/` anew: read the
difference before it is committed.
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import plotly.graph_objects as go
import pytest

from engine.router import RouterCard
from tests.support.fake_results import ABOVE_0, MORE, plane_of, timed
from trainer import TrainerError
from trainer.__main__ import main
from trainer.evaluation.seconds import write_seconds
from trainer.evaluation.summary import write_summary
from trainer.evaluation.transfer import TransferSummary, load_transfer, write_transfer
from trainer.fit.card import render_card
from trainer.report.charts.answers import write_answers
from trainer.report.charts.figures import accuracy_over, plane_charts, write_charts
from trainer.report.charts.panels import write_panels
from trainer.report.report import check, render, render_short, report
from trainer.settings import FitSettings
from trainer.ship import curves_of

GOLDEN = Path(__file__).with_name("golden")
BEFORE, AFTER = "# A page\n\nBy hand, before.\n\n<!-- results -->", "<!-- /results -->\n\nBy hand, after.\n"
LEARNED = ("citer-r2", 0.3, "auto", 0.5)


def quiet(_):
    pass


def transferred() -> TransferSummary:
    def estimate(value: float) -> Any:
        return {"value": value, "low": value - 0.05, "high": value + 0.05, "unreached": 0.0, "p_value": None}

    def curve(threshold: float, share: float, agreed: float, moved: float) -> Any:
        cost = {"bytes": moved * 1e8, "flops": moved * 1e9, "seconds": moved}
        point = {"threshold": threshold, "llm_share": share, "agreement": estimate(agreed)}
        return {"points": [{**point, "bytes_ratio": estimate(moved), "cost": cost}], "at_budget": {}, "beside": {}}

    methods = {"slm": curve(0, 0, 0.3, 0.4), "llm": curve(0, 1, 1, 1), "confidence": curve(0.5, 0.4, 0.6, 0.7)}
    methods["confidence"]["at_budget"] = {share: estimate(float(share)) for share in ("0.6", "0.75", "0.9")}
    methods["citer-r2"] = curve(0.7, 0.5, 0.8, 0.75)
    methods["citer-r2"]["at_budget"] = {share: estimate(float(share) + 0.1) for share in ("0.6", "0.75", "0.9")}
    methods["citer-r2"]["beside"] = {share: estimate(0.1) for share in ("0.6", "0.75", "0.9")}
    about = {"pair": "Small ⇄ Large · NF4", "preset": "tiny", "prompts": 80, "max_new_tokens": 64}
    return {**about, "command": "transfer", "revision": "0123abc", "hardware": "a laptop", "methods": methods}  # type: ignore[typeddict-item]


def made_in(folder: Path) -> tuple[list[Any], list[Any], Path]:
    """Summaries of two tasks, their measured seconds, and a folder of results with all of it."""
    results = folder / "results"
    points = {**ABOVE_0, **MORE}
    summaries = [plane_of(folder / task, points, 300, task=task) for task in ("sums", "words")]
    for summary in summaries:
        write_summary(summary, results)
    several = [timed((*LEARNED, 1.25), ("confidence", 0.0, "auto", 0.7, 1.1), task=each["task"]) for each in summaries]
    for each in several:
        write_seconds(each, results)
    write_transfer(transferred(), results)
    return summaries, several, results


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return made_in(tmp_path_factory.mktemp("report"))


@pytest.fixture
def pictures(monkeypatch):
    """Pictures without a browser to draw them."""
    monkeypatch.setattr(go.Figure, "write_image", lambda figure, path, **_: Path(path).write_bytes(b"png"))


def card(summaries: list[Any]) -> str:
    """Of a router with everything that a card can say: rounds, a start, curves."""
    done = {"policy": "citer-r1", "threshold": 0.8, "budget": 2, "tokens": 600, "slm_right": 0.55}
    splits = {"train": 160, "stop": 20, "test": 20}
    training = {**asdict(FitSettings(cost_weight=0.02)), "method": "citer", "round": 2, "command": "fit --labels l"}
    training |= {"reference": "llm", "quantisation": "fp32", "data": "ab" * 32, "questions": splits, "tokens": splits}
    metrics = {"auc": 0.95, "auc_top_probability": 0.9, "ece": 0.1, "preferred_slm": 0.6}
    training |= {"rollouts": [done]}
    about = RouterCard("mine", "small", "large", 16, "0" * 64, True, training=training, metrics=metrics)
    about = replace(about, threshold=0.6, acceptance=0.3, description="A test.")
    return render_card(about, [curve for each in summaries for curve in curves_of(each, "citer-r2")])


def pages(summaries: list[Any], several: list[Any], results: Path) -> dict[str, str]:
    benchmarks = results.parent / "benchmarks"
    benchmarks.mkdir(exist_ok=True)
    about = {"command": "bench", "revision": "abc", "machine": {"processor": "a laptop", "threads": 2, "gpu": None}}
    step = {"unprofiled": 20.0, "parts": {"router": 0.5, "lm_head": 2.14}}
    (benchmarks / "tiny-profile.json").write_text(json.dumps({**about, "steps": {"SLM": step, "LLM": step}}), "utf-8")
    with patch("trainer.report.report.BENCHMARKS", benchmarks):
        page = render(summaries, results, results.parent)
    return {"results.md": page, "readme.md": render_short(summaries), "card.md": card(summaries)}


@pytest.mark.parametrize("name", ["results.md", "readme.md", "card.md"])
def test_a_generated_page_is_the_golden_one(made, name):
    found = pages(*made)[name]
    assert found + "\n" == (GOLDEN / name).read_text("utf-8"), "if it is meant: python -m tests.trainer.test_report"


@pytest.fixture
def place(made, tmp_path, pictures) -> tuple[Path, Path, Path]:
    """A folder of one summary, and a page and a README with markers."""
    page, readme = tmp_path / "docs" / "results.md", tmp_path / "README.md"
    page.parent.mkdir()
    for path in (page, readme):
        path.write_text(f"{BEFORE}\nwhat stood here\n{AFTER}", "utf-8")
    write_summary(made[0][0], tmp_path / "results")
    return tmp_path / "results", page, readme


def test_only_what_stands_between_the_markers_is_written_and_the_check_knows_either_page(place, capsys):
    results, page, readme = place
    assert not check(*place)
    report(*place, tell=quiet)
    for path in (page, readme):
        text = path.read_text("utf-8")
        assert text.startswith(BEFORE) and text.endswith(AFTER) and "what stood here" not in text and "sums" in text
        assert check(*place)
        path.write_text(text.replace("sums", "sumz", 1), "utf-8")
        assert not check(*place), path
        where = [f"--{name}={each}" for name, each in zip(("results", "page", "readme"), place, strict=True)]
        assert main(["report", "--check", *where]) == 2 and "trainer report" in capsys.readouterr().err
        path.write_text(text, "utf-8")
    before = [path.read_bytes() for path in (page, readme, *sorted(results.iterdir()))]
    report(*place, tell=quiet)
    assert [path.read_bytes() for path in (page, readme, *sorted(results.iterdir()))] == before


def test_a_missing_marker_or_no_summaries_are_named_and_the_files_left_as_they_are(place, tmp_path):
    results, page, readme = place
    readme.write_text(readme.read_text("utf-8").replace("<!-- /results -->", ""), "utf-8")
    before = page.read_bytes(), readme.read_bytes()
    with pytest.raises(TrainerError, match=r"README\.md.*/results"):
        report(*place, tell=quiet)
    assert (page.read_bytes(), readme.read_bytes()) == before and not list(results.glob("*.html"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(TrainerError, match="trainer evaluate"):
        report(tmp_path / "empty", page, readme, quiet)


def test_links_lead_to_charts_that_exist(place):
    report(*place, tell=quiet)
    text = place[1].read_text("utf-8")
    assert "](../results/tiny--sums.png)" in text and "](../results/tiny--sums.html)" in text
    for path in place[0].glob("*.png"):
        path.unlink()
    report_without = render([json.loads((place[0] / "tiny--sums.json").read_text("utf-8"))], place[0], place[1].parent)
    assert ".png" not in report_without and "](../results/tiny--sums.html)" in report_without


def traces(figure: Any) -> dict[str, Any]:
    return {trace.name: trace for trace in figure.data if trace.name and trace.hoverinfo != "skip"}


def test_a_chart_holds_every_point_of_the_summary(made):
    summary = made[0][0]
    for x in ("llm_share", "bytes"):
        drawn = traces(accuracy_over(summary, x))
        points = summary["methods"]["citer-r2"]["points"]
        assert sorted(zip(drawn["CITER round 2"].x, drawn["CITER round 2"].y, strict=True)) == sorted(
            (point[x], point["accuracy"]) for point in points
        )
        assert {"SLM only", "LLM only", "SLM confidence", "random"} <= drawn.keys()
    plane = traces(plane_charts(summary)["citer-r2"])
    front = summary["plane"]["front"]
    assert list(plane["front of the whole plane"].y) == [point["accuracy"] for point in front]
    assert list(plane["acceptance 0.3"].x) == [36e6, 52e6]


def test_charts_work_offline_and_what_a_summary_says_cannot_become_markup(made, tmp_path, pictures):
    hostile: Any = {**made[0][0], "pair": "<script>alert(1)</script>", "hardware": "<img src=x onerror=alert(1)>"}
    written = write_charts(hostile, tmp_path, quiet)
    assert {path.name for path in written} >= {"tiny--sums.html", "tiny--sums.png", "plotly.min.js"}
    page = (tmp_path / "tiny--sums.html").read_text("utf-8")
    assert "<script>alert" not in page and "<img" not in page and "&lt;script&gt;" in page
    assert 'src="plotly.min.js"' in page and "https://cdn" not in page


def test_panels_and_answers_are_written_for_several_tasks_and_without_an_exporter_a_word_says_how(
    made, tmp_path, monkeypatch, pictures
):
    summaries, several, _ = made
    panels = {path.name for path in write_panels("tiny", summaries, several, tmp_path, quiet)}
    assert panels == {f"tiny-tasks{each}" for each in (".html", ".png", "-seconds.html", "-seconds.png")}
    answered = {path.name.removeprefix("tiny-answer-") for path in write_answers("tiny", summaries, several, tmp_path)}
    assert answered == {"units.png", "speculative.png", "rounds.png", "jointly.png", "away.png"}

    def missing(*_, **__):
        raise RuntimeError("no browser")

    monkeypatch.setattr(go.Figure, "write_image", missing)
    told: list[str] = []
    assert not [path for path in write_charts(summaries[0], tmp_path, told.append) if path.suffix == ".png"]
    assert "kaleido" in told[0] and "no browser" in told[0]


def test_what_was_measured_reads_back(made):
    assert load_transfer(made[2] / "tiny.transfer.json") == transferred()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        everything = made_in(Path(folder))
        GOLDEN.mkdir(exist_ok=True)
        for name, text in pages(*everything).items():
            (GOLDEN / name).write_text(text + "\n", "utf-8")
            sys.stdout.write(f"wrote {GOLDEN / name}\n")
