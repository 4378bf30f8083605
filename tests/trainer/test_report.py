"""The charts, the page of results and the README's table say what the summaries say, and touch nothing else."""

from __future__ import annotations

import re
import shutil
import struct
from typing import Any

import plotly.graph_objects as go
import pytest

from tests.trainer.test_record import POINTS, summary_of, write_evaluation
from trainer import TrainerError
from trainer.evaluation.method_names import label
from trainer.evaluation.record import read_evaluation
from trainer.evaluation.summary import summarise, write_summary
from trainer.report.charts import figures
from trainer.report.charts.figures import accuracy_over, gap_bars, overview, write_charts
from trainer.report.report import check, render, report

BEFORE, AFTER = "# A page\n\nBy hand, before.\n\n<!-- results -->", "<!-- /results -->\n\nBy hand, after.\n"


def quiet(_):
    pass


@pytest.fixture(scope="module")
def summary(tmp_path_factory):
    return summary_of(tmp_path_factory.mktemp("evaluation"), resamples=500)


@pytest.fixture
def no_exporter(monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("\nKaleido requires Google Chrome to be installed.\n\nMore.")

    monkeypatch.setattr(go.Figure, "write_image", fail)


@pytest.fixture
def place(tmp_path, summary, no_exporter):
    """The folder of one summary, and a page and a README with markers."""
    page, readme = tmp_path / "docs" / "results.md", tmp_path / "README.md"
    page.parent.mkdir()
    for path in (page, readme):
        path.write_text(f"{BEFORE}\nwhat stood here\n{AFTER}", encoding="utf-8")
    write_summary(summary, tmp_path / "assets" / "results")
    return tmp_path / "assets" / "results", page, readme


def rows(text, first):
    """The cells of the table row that starts with a cell, in every table that has one."""
    lines = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")
    ]
    return [line[1:] for line in lines if line[0] == first]


def section(summary, folder):
    return render([summary], folder, folder)


def drawn(figure) -> list[Any]:
    return list(figure.data)


def traces(figure) -> dict[str, Any]:
    return {trace.name: trace for trace in drawn(figure) if trace.name}


def changed(summary, **fields) -> Any:
    return {**summary, **fields}


def test_only_what_stands_between_the_markers_is_rewritten(place):
    results, page, readme = place
    report(results, page, readme, quiet)
    text = page.read_text(encoding="utf-8")
    assert text.startswith(BEFORE + "\n## Small ⇄ Large · NF4: sums, 100 questions\n")
    assert text.endswith("resamples of the questions.\n" + AFTER)
    short = readme.read_text(encoding="utf-8")
    assert short.startswith(BEFORE + "\n| task | questions | SLM only | LLM only | best learned point |")
    assert short.endswith("Small ⇄ Large · NF4, on two cores.\n" + AFTER)
    assert "what stood here" not in text + short


def test_links_of_the_page_lead_from_its_own_folder_to_the_charts(place):
    results, page, readme = place
    report(results, page, readme, quiet)
    links = re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8"))
    assert links == ["../assets/results/tiny--sums.html"]
    assert all((page.parent / link).exists() for link in links)


def test_a_second_report_changes_nothing_and_the_check_knows(place, summary):
    results, page, readme = place
    assert not check(results, page, readme)
    report(results, page, readme, quiet)
    first = page.read_bytes(), readme.read_bytes()
    assert check(results, page, readme)
    report(results, page, readme, quiet)
    assert (page.read_bytes(), readme.read_bytes()) == first
    write_summary(changed(summary, hardware="three cores"), results)
    assert not check(results, page, readme)
    assert (page.read_bytes(), readme.read_bytes()) == first


def test_the_check_looks_at_both_files(place):
    results, page, readme = place
    report(results, page, readme, quiet)
    for path in (page, readme):
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace("20.0 %", "21.0 %"), encoding="utf-8")
        assert not check(results, page, readme)
        path.write_text(text, encoding="utf-8")
    assert check(results, page, readme)


@pytest.mark.parametrize(
    ("text", "marker"),
    [
        ("no markers", "<!-- results --> 0 times"),
        ("<!-- results -->\n", "<!-- /results --> 0 times"),
        ("<!-- /results -->\n", "<!-- results --> 0 times"),
        ("<!-- results -->\n<!-- results -->\n<!-- /results -->\n", "<!-- results --> 2 times"),
        ("<!-- /results -->\n<!-- results -->\n", "<!-- /results --> before"),
    ],
)
@pytest.mark.parametrize("which", [1, 2])
def test_a_missing_marker_is_named_and_the_files_left_as_they_are(place, text, marker, which):
    results, page, readme = place
    place[which].write_text(text, encoding="utf-8")
    before = page.read_bytes(), readme.read_bytes()
    for call in (report, check):
        with pytest.raises(TrainerError, match=re.escape(marker)):
            call(results, page, readme)
    assert (page.read_bytes(), readme.read_bytes()) == before
    assert not list(results.glob("*.html"))


def test_without_summaries_or_without_a_readme_it_says_what_to_do(place, tmp_path):
    results, page, readme = place
    with pytest.raises(TrainerError, match="nowhere holds no summaries"):
        report(tmp_path / "nowhere", page, readme, quiet)
    with pytest.raises(TrainerError, match=r"absent\.md"):
        report(results, page, tmp_path / "absent.md", quiet)
    with pytest.raises(TrainerError, match=r"absent\.md"):
        report(results, tmp_path / "absent.md", readme, quiet)


def test_the_table_of_methods_has_the_point_nearest_to_25_percent_and_the_cost_against_the_llm_alone(summary, tmp_path):
    text = section(summary, tmp_path)
    share, accuracy, size, seconds, near_10, near_50, gap = rows(text, "**CITER round 2**")[0]
    assert (share, size, seconds, near_10, near_50) == ("25 %", "60 %", "0.6", "50.0 % at 10 %", "62.0 % at 50 %")
    assert re.fullmatch(r"60\.0 % \(5\d\.\d to (6|7)\d\.\d\)", accuracy)
    assert gap.startswith("94 % (")
    assert rows(text, "SLM only")[0][2:] == ["90 %", "0.9", "", "", ""]


def test_the_table_of_methods_says_no_llm_share_of_speculative_decoding(summary, tmp_path):
    share, accuracy, *_ = rows(section(summary, tmp_path), "speculative decoding")[0]
    assert share == "" and accuracy.startswith("60.0 % (")


def test_the_table_of_savings_has_intervals_and_the_papers_figures_and_says_who_does_not_get_there(summary, tmp_path):
    text = section(summary, tmp_path)
    against = rows(text, "SLM confidence")[1]
    assert re.fullmatch(r"\*\*21 % \(\d+ to \d+\)\*\*†?", against[0])  # 44 against 56 MB, and 15 % was to beat
    assert re.fullmatch(r"\*\*25 % \(\d+ to \d+\)\*\*†?", against[3])
    assert against[4] == "15 % (own)"
    assert rows(text, "SLM only")[1][:4] == ["reached by CITER round 2 alone"] * 4
    assert rows(text, "random")[1][0].startswith("55 % (")  # 44 against 97.6 MB, nearly the LLM alone
    assert rows(text, "random")[1][5] == "none so cheap"
    assert re.fullmatch(r"6\.7 points \(\d\.\d to \d+\.\d\)", against[5])
    assert rows(text, "speculative decoding")[1][3].startswith("−20 % (")
    assert "the LLM’s accuracy: 60.0 %" in text


def test_the_bars_of_the_tiny_pair_are_judged_and_those_of_others_are_not(summary, tmp_path):
    text = section(summary, tmp_path)
    assert "recovers 100 % (" in text
    assert "of the gap (bar: 60 %, met)" in text
    assert "(bar: 25 points, met), and their intervals do not overlap" in text
    assert "from SLM confidence 10.0 points (" in text
    other = section(changed(summary, preset="cpu"), tmp_path)
    assert "bar:" not in other
    assert "recovers 100 % (" in other


def test_it_says_plainly_where_a_baseline_without_training_wins_and_where_it_loses(summary, tmp_path):
    text = section(summary, tmp_path)
    # Speculative decoding has the LLM's accuracy for 50 MB; the router has 80 % of the gap for 44, the rest for more.
    assert re.search(r"a baseline without training wins: speculative decoding at 90\*?, 95\*?, 100\*? %\. CITER", text)
    assert re.search(r"CITER round 2 wins against: speculative decoding at 80\*? %; random at 80, 90, 95, 100 %;", text)
    assert "SLM confidence at 80, 90, 95, 100 %" in text


def test_a_router_that_is_beaten_everywhere_is_said_to_be(tmp_path):
    points = {key: value for key, value in POINTS.items() if key[0] in ("slm", "llm", "confidence", "citer-r2")}
    swapped = {"confidence": "citer-r2", "citer-r2": "confidence"}
    points = {(swapped.get(name, name), threshold): value for (name, threshold), value in points.items()}
    text = section(summary_of(tmp_path, points), tmp_path)
    assert (
        "a baseline without training wins: SLM confidence at 80, 90, 95, 100 %. CITER round 2 wins against none" in text
    )
    assert "from SLM confidence −10.0 points (−" in text
    assert rows(text, "SLM confidence")[1][0].startswith("−27 % (")  # 56 against 44 MB


def test_a_rival_with_a_single_threshold_is_not_compared_at_an_llm_share(tmp_path):
    points = {key: value for key, value in POINTS.items() if key[0] not in ("confidence", "random")}
    one = {("confidence", 0.6): (50, 0.3, 60), ("random", 0.6): (30, 0.3, 60)}
    text = section(summary_of(tmp_path, points | one), tmp_path)
    assert "At 25 % LLM share CITER round 2 has an accuracy of" in text and "from SLM confidence" not in text


def test_a_tie_is_won_by_nobody(tmp_path):
    twin = {("confidence", threshold): value for (name, threshold), value in POINTS.items() if name == "citer-r2"}
    points = {key: value for key, value in POINTS.items() if key[0] in ("slm", "llm", "citer-r2")}
    text = section(summary_of(tmp_path, points | twin), tmp_path)
    assert "no baseline without training wins. CITER round 2 wins against none of them." in text
    assert rows(text, "SLM confidence")[1][:4] == ["0 % (0 to 0)"] * 4


def test_a_main_method_of_one_threshold_is_compared_at_no_equal_bytes(tmp_path):
    few = {setting: point for setting, point in POINTS.items() if setting[0] != "citer-r2"}
    text = section(summary_of(tmp_path, {**few, ("citer-r2", 0.5): POINTS["citer-r2", 0.5]}), tmp_path)
    assert rows(text, "random")[1][5] == ""


def test_tuned_speculative_decoding_has_this_projects_own_bar_in_the_table_of_savings(tmp_path):
    text = section(summary_of(tmp_path, {**POINTS, ("assisted-tuned", 0.0): (60, 1.0, 99)}), tmp_path)
    *_, at_llm, bar, _ = rows(text, "speculative decoding, tuned")[1]
    assert at_llm.startswith("**") and bar == "15 % (own)"


def test_without_a_gap_the_savings_say_so(tmp_path):
    text = section(summary_of(tmp_path, {**POINTS, ("llm", 0.0): (20, 1.0, 100)}), tmp_path)
    assert rows(text, "LLM only")[1] == ["no gap", "no gap", "no gap", "60 % (60 to 60)", "", "none so cheap"]
    assert "recovers" not in text


def test_baselines_alone_have_a_table_and_no_comparison(tmp_path):
    points = {key: value for key, value in POINTS.items() if not key[0].startswith("citer")}
    text = section(summary_of(tmp_path, points), tmp_path)
    assert len(rows(text, "SLM confidence")) == 1
    assert "saves" not in text


def test_an_unknown_method_is_reported_and_drawn_under_its_own_name(tmp_path):
    points = {**POINTS, ("my rule (v2)", 0.4): (45, 0.3, 60), ("my rule (v2)", 0.6): (55, 0.6, 70)}
    summary = summary_of(tmp_path, points)
    assert rows(section(summary, tmp_path), "my rule (v2)")[0][0] == "30 %"
    assert "my rule (v2)" in traces(accuracy_over(summary, "llm_share"))


def test_seconds_of_different_machines_are_not_set_side_by_side(summary, tmp_path):
    text = section(changed(summary, hardware="two cores; three cores"), tmp_path)
    assert rows(text, "SLM only")[0][2:4] == ["90 %", ""]
    assert "seconds cannot be compared and are left out" in text


def test_it_names_command_revision_and_hardware(summary, tmp_path):
    text = section(changed(summary, command="python -m trainer\n  evaluate `x`"), tmp_path)
    assert "`python -m trainer evaluate 'x'`, revision 0123abc, on two cores; at most 64 new tokens" in text


def test_only_charts_that_exist_are_linked(summary, tmp_path):
    folder = tmp_path / "assets" / "results"
    folder.mkdir(parents=True)
    assert "](" not in render([summary], folder, tmp_path)
    (folder / "tiny--sums.html").touch()
    assert "[Interactive charts](assets/results/tiny--sums.html)" in render([summary], folder, tmp_path)
    (folder / "tiny--sums.png").touch()
    image = "![Accuracy over LLM share and over bytes](assets/results/tiny--sums.png)"
    assert f"[{image}](assets/results/tiny--sums.html)" in render([summary], folder, tmp_path)


def test_a_method_is_a_line_over_its_shares_and_what_has_no_threshold_is_a_labelled_point(summary):
    figure: Any = accuracy_over(summary, "llm_share")
    found = traces(figure)
    assert found["CITER round 2"].x == (0.1, 0.25, 0.5)
    assert found["CITER round 2"].y == (0.5, 0.6, 0.62)
    assert found["SLM only"].mode == found["LLM only"].mode == found["oracle"].mode == "markers+text"
    assert found["oracle"].text == ("oracle",)
    assert "speculative decoding" not in found
    assert figure.layout.xaxis.title.text == "LLM share of the tokens"
    assert figure.layout.legend.x > 1


def test_the_band_around_the_main_line_is_its_interval(summary):
    band = next(
        t for t in drawn(accuracy_over(summary, "llm_share")) if t.legendgroup == "citer-r2" and t.fill == "toself"
    )
    points = summary["methods"]["citer-r2"]["points"]
    high, low = [p["accuracy_high"] for p in points], [p["accuracy_low"] for p in points]
    assert band.x == (0.1, 0.25, 0.5, 0.5, 0.25, 0.1)
    assert band.y == (*high, *low[::-1])


def test_over_cost_a_line_follows_its_thresholds_even_where_cost_falls(tmp_path):
    points = {**POINTS, ("citer-r2", 0.8): (61, 0.6, 55)}
    found = traces(accuracy_over(summary_of(tmp_path, points), "bytes"))
    assert found["CITER round 2"].x == (40e6, 60e6, 70e6, 55e6)
    assert found["speculative decoding"].x == (50e6,)


def test_no_two_methods_look_the_same_without_colours(tmp_path):
    points = {**POINTS}
    for name in ("entropy", "margin", "query", "co-llm", "citer-shortcut", "citer-r3", "mine", "yours", "theirs"):
        points |= {(name, 0.1): (30, 0.2, 50), (name, 0.9): (50, 0.8, 80)}
    lines = [t for t in drawn(accuracy_over(summary_of(tmp_path, points), "llm_share")) if t.mode == "lines+markers"]
    assert len(lines) == 13
    assert len({(t.line.dash, t.marker.symbol) for t in lines}) == 13


def test_bars_of_the_gap_recovered_have_their_intervals(summary):
    bars = drawn(gap_bars(summary))[0]
    method = summary["methods"]["citer-r2"]
    place = bars.y.index("CITER round 2")
    assert bars.x[place] == method["gap_recovered"]
    assert bars.x[place] + bars.error_x.array[place] == pytest.approx(method["gap_recovered_high"])
    assert bars.x[place] - bars.error_x.arrayminus[place] == pytest.approx(method["gap_recovered_low"])
    assert list(bars.y) == ["random", "SLM confidence", "CITER round 1", "CITER round 2"]


def test_the_page_works_offline_and_is_the_same_file_again(summary, tmp_path, no_exporter):
    told = []
    page, script = write_charts(summary, tmp_path / "a", told.append)
    text = page.read_text(encoding="utf-8")
    assert re.findall(r"<script src=\"([^\"]*)\"", text) == ["plotly.min.js"]
    assert not re.search(r"(src|href)=.?https?:", text)
    assert script.stat().st_size > 1e6
    assert len(text) < 100_000
    assert "The answer is" not in text
    assert write_charts(summary, tmp_path / "b", quiet)[0].read_bytes() == page.read_bytes()
    assert told == [figures.PNG_HINT.format(reason="Kaleido requires Google Chrome to be installed.")]
    assert not list(tmp_path.glob("*/*.png"))


def test_what_a_summary_says_cannot_become_markup(summary, tmp_path, no_exporter):
    nasty = changed(summary, pair="<img src=x onerror=alert(1)>", hardware="</p><script>alert(1)</script>")
    text = write_charts(nasty, tmp_path, quiet)[0].read_text(encoding="utf-8")
    assert "<img" not in text
    assert "<script>alert" not in text


def test_the_png_shows_both_charts_with_one_legend(summary, tmp_path):
    names = [trace.name for trace in drawn(overview(summary)) if trace.showlegend]
    assert names == ["random", "SLM confidence", "CITER round 1", "CITER round 2"]
    pytest.importorskip("kaleido")
    if not any(shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome")):
        pytest.skip("no Chrome or Chromium on PATH")
    path = write_charts(summary, tmp_path, quiet)[-1]
    assert path.name == "tiny--sums.png"
    assert struct.unpack(">II", path.read_bytes()[16:24]) == (2400, 960)


@pytest.mark.parametrize("main", ["confidence", "random"])
def test_a_rule_without_training_may_be_the_main_method(main, tmp_path):
    found = summarise(read_evaluation(write_evaluation(tmp_path)), resamples=200, main=main)
    assert f"At 25 % LLM share {label(main)} has an accuracy of" in section(found, tmp_path)
