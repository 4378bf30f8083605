"""The report: tables between markers, two charts that need no legend, and whether all of it is up to date."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET

import pytest

from engine.errors import EngineError
from engine.setting import Setting
from tests.support.fake_results import POINTS, write_results
from trainer import TrainerError
from trainer.evaluation.rows import GENERAL, load_all
from trainer.evaluation.statistics import Estimate
from trainer.report.chart import Mark, Panel, draw
from trainer.report.report import report
from trainer.report.summary import summarise
from trainer.report.tables import (
    ablations_table,
    bytes_panels,
    differences_table,
    general_table,
    main_table,
    rerun_table,
    seconds_panels,
    seconds_table,
    short,
)

NAMES = ("main", "differences", "rerun", "alignment", "ablations", "seconds", "general")


@pytest.fixture
def folder(tmp_path):
    """Results of two tasks and general prompts, and the two documents around their markers."""
    results = tmp_path / "results" / "cpu"
    write_results(results, seconds={"llm": 2.0, "router": 1.5})
    write_results(results, {**POINTS, ("router", "router < 0.123456789"): (58, 0.5, 70)}, "products")
    write_results(results, {key: each for key, each in POINTS.items() if key[0] in ("slm", "llm", "router")}, GENERAL)
    sections = "\n".join(f"<!-- {name} -->\n<!-- /{name} -->" for name in NAMES)
    (tmp_path / "results.md").write_text(f"# By hand\n\n{sections}\n\nBy hand, too.\n")
    (tmp_path / "README.md").write_text("# Mine\n<!-- results -->\nold\n<!-- /results -->\n")
    return tmp_path


def places(folder):
    return {"results": folder / "results", "page": folder / "results.md", "readme": folder / "README.md"}


def test_it_writes_tables_charts_and_json_and_says_then_that_all_is_up_to_date(folder):
    assert len(report("cpu", **places(folder), write=False)) == 5
    written = report("cpu", **places(folder))
    assert report("cpu", **places(folder), write=False) == []
    names = {path.name for path in written}
    assert names == {"cpu.json", "cpu-bytes.svg", "cpu-seconds.svg", "results.md", "README.md"}
    page = (folder / "results.md").read_text()
    assert page.startswith("# By hand\n") and page.endswith("By hand, too.\n") and page.count("\n| ") > 20
    assert (
        "| SLM confidence | " in (folder / "README.md").read_text() and "old" not in (folder / "README.md").read_text()
    )
    assert json.loads((folder / "results" / "cpu.json").read_text())["tasks"]["sums"]["questions"] == 100


def test_what_was_changed_by_hand_or_measured_anew_is_named(folder):
    report("cpu", **places(folder))
    readme = folder / "README.md"
    readme.write_text(readme.read_text().replace("| random | ", "| random | 99 %, "))
    assert report("cpu", **places(folder), write=False) == [readme]
    write_results(folder / "results" / "cpu", {**POINTS, ("router", "router < 0.5"): (10, 0.1, 40)})
    assert {path.name for path in report("cpu", **places(folder), write=False)} > {"cpu.json", "results.md"}


def test_rows_of_the_aligned_pair_fill_a_section_of_their_own(folder):
    report("cpu", **places(folder))
    assert "Not measured yet" in (folder / "results.md").read_text()
    aligned = {key: (right + 7, share, size) for key, (right, share, size) in POINTS.items()}
    write_results(folder / "results" / "cpu-aligned", aligned, pair="Small (aligned) ⇄ Large · NF4")
    report("cpu", **places(folder))
    page = (folder / "results.md").read_text()
    main, beside = (page.split(f"<!-- {name} -->")[1].split(f"<!-- /{name} -->")[0] for name in ("main", "alignment"))
    assert "| SLM alone | 20 %" in main and "| SLM alone | 27 %" in beside and "share of the LLM's seconds" in beside
    assert "aligned" not in json.loads((folder / "results" / "cpu.json").read_text())["pair"]


def test_rows_that_were_written_anew_compare_the_default_with_slm_confidence_at_one_setting(folder):
    report("cpu", **places(folder))
    assert "<!-- rerun -->\nNot measured yet" in (folder / "results.md").read_text()
    again = rerun_table(summarise(load_all(folder / "results" / "cpu"), Setting("router", 0.6)))
    assert "| router, default setting | 60 % (" in again and "| SLM confidence, one setting for all tasks | " in again
    assert "| the router less SLM confidence | +0.0 (" in again


def test_a_document_without_its_markers_and_a_folder_without_rows_are_refused(folder, tmp_path):
    (folder / "README.md").write_text("# Mine\n")
    with pytest.raises(EngineError, match="<!-- results -->"):
        report("cpu", **places(folder))
    assert not (folder / "results" / "cpu.json").exists()
    with pytest.raises(TrainerError, match="no results"):
        report("gpu", **places(folder))


def test_tables_say_what_was_measured_and_which_differences_are_significant(folder):
    tasks = summarise(load_all(folder / "results" / "cpu"))
    assert re.search(r"\| SLM alone \| 20 % \(15 to \d+\)<br>for 90 % \|", main_table(tasks))
    beside = next(line for line in differences_table(tasks).splitlines() if line.startswith("| SLM alone"))
    assert "**+39.0 (" in beside and "**0.40 (" in beside
    worse = next(line for line in differences_table(tasks).splitlines() if line.startswith("| LLM alone"))
    assert "−1.0 (" in worse and "**−1.0" not in worse
    assert "acceptance, for the router" in ablations_table(tasks)
    assert "<br>75 % at `router < 0.6`" in seconds_table(tasks)
    assert "| router | `router < 0.5 @ 0.3` | 59 %" in general_table(tasks)


@pytest.mark.parametrize(
    ("setting", "shown"),
    [
        ("router < 0.123456789 @ 0.3/8", "router < 0.123 @ 0.3/8"),
        ("router < 5.87151e-05", "router < 5.87e-05"),
        ("router < 0.5", "router < 0.5"),
        ("llm < 0", "llm < 0"),
        ("confidence < 0 @ 1/3", "confidence < 0 @ 1/3"),
    ],
)
def test_thresholds_are_shown_in_three_digits(setting, shown):
    assert short(setting) == shown


def test_charts_name_every_mark_beside_it_ring_what_is_shipped_and_run_no_script(folder):
    tasks = summarise(load_all(folder / "results" / "cpu"), Setting("router", 0.6, 0.3))
    for panels, cost in (
        (bytes_panels(tasks), "bytes moved"),
        (seconds_panels(tasks, Setting("router", 0.6, 0.3)), "measured seconds"),
    ):
        chart = draw(panels, cost)
        texts = [each.text for each in ET.fromstring(chart).iter("{http://www.w3.org/2000/svg}text")]
        for panel in panels:
            assert panel.title in texts and {mark.name for mark in panel.marks} <= set(texts)
        assert "default" in texts and "script" not in chart and cost in chart
        assert draw(panels, cost) == chart


def test_names_in_a_crowd_do_not_lie_on_each_other_and_stay_in_the_panel():
    sure = Estimate(0.5, 0.4, 0.6)
    crowd = [Mark(f"method {n}", sure._replace(value=0.5 + n / 200), 0.6 + n / 300) for n in range(8)]
    chart = draw(
        [Panel("<sums & more>", [*crowd, Mark("LLM", sure, 1.0), Mark("SLM", sure._replace(value=0.1), 0.3)])], "x"
    )
    named = re.findall(r'<text x="([\d.]+)" y="([\d.]+)" stroke[^>]*>(method \d)', chart)
    boxes = [(float(x), float(y), float(x) + 7.3 * len(name)) for x, y, name in named]
    assert len(boxes) == 8 and all(left > 0 and right < 330 for left, _, right in boxes)
    for n, (left, base, right) in enumerate(boxes):
        for other in boxes[:n]:
            assert abs(base - other[1]) >= 13 or right <= other[0] or other[2] <= left
    assert "&lt;sums &amp; more&gt;" in chart
