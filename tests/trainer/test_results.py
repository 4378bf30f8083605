"""Rows on disk, and what they say: one Parquet file a task, read by anyone, and a summary of what was judged."""

from __future__ import annotations

import json
from dataclasses import replace

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.events import Role
from engine.setting import Setting
from tests.support.fake_results import POINTS, results_of, rows_of, write_results
from trainer import TrainerError
from trainer.evaluation.rows import GENERAL, ROUTER, About, authors_of, load_all, load_results, read_rows, write_rows
from trainer.evaluation.statistics import common_settings
from trainer.report.summary import ABLATIONS, ALL, DEFAULT, ONE_SETTING, summarise

ABOUT = About("Small ⇄ Large", "tiny", "sums", 64, {"router": "abc"})


# --- on disk


def test_rows_are_read_back_as_they_were_also_by_datasets_and_are_the_same_bytes_in_any_order(tmp_path, monkeypatch):
    rows = [replace(row, llm_passes=None, authors=None) if row.method == "slm" else row for row in rows_of()]
    write_rows(tmp_path / "one.parquet", rows, ABOUT)
    write_rows(tmp_path / "other.parquet", rows[::-1], ABOUT)
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "other.parquet").read_bytes()
    found, about = read_rows(tmp_path / "one.parquet")
    assert about == ABOUT and sorted(map(str, found)) == sorted(map(str, rows))
    loaded = datasets.load_dataset(
        "parquet", data_files=str(tmp_path / "one.parquet"), cache_dir=str(tmp_path / "cache"), split="train"
    )
    assert loaded.num_rows == len(rows) and loaded[0]["setting"] == found[0].setting


def test_they_become_arrays_of_setting_by_question(tmp_path):
    results = results_of(tmp_path, seconds={"llm": 2.0})
    assert len(results.questions) == 100 and set(results.settings) == set(POINTS)
    for number, key in enumerate(results.settings):
        right, share, size = POINTS[key.method, key.setting]
        assert results.right[number].sum() == right and results.bytes[number].mean() == size * 1e6
        assert results.llm_tokens[number].sum() / results.tokens[number].sum() == pytest.approx(share)
    assert (results.seconds == 2.0).sum() == 10
    with pytest.raises(TrainerError, match="'chess'"):
        results.of("chess")


def test_a_file_that_lacks_an_answer_or_has_it_twice_or_is_none_is_refused_by_name(tmp_path):
    path, rows = tmp_path / "sums.parquet", rows_of()
    for wrong, told in ((rows[:-1], "has 0 answers to q099"), ([*rows, rows[0]], "has 2 answers to q000")):
        write_rows(path, wrong, ABOUT)
        with pytest.raises(TrainerError, match=told):
            load_results(path)
    path.write_bytes(b"PAR1 no")
    with pytest.raises(TrainerError, match=r"sums\.parquet is damaged"):
        load_results(path)
    pq.write_table(pa.table({"question": ["q"]}), path)
    with pytest.raises(TrainerError, match="is damaged"):
        load_results(path)


def test_a_folder_is_of_one_pair_and_not_empty(tmp_path):
    with pytest.raises(TrainerError, match="no results"):
        load_all(tmp_path)
    write_results(tmp_path)
    write_results(tmp_path, task="products", pair="Other ⇄ Large")
    with pytest.raises(TrainerError, match="Other ⇄ Large"):
        load_all(tmp_path)


def test_authors_are_lengths_of_runs_the_slms_first():
    class Event:
        def __init__(self, role):
            self.role = role

    assert authors_of(map(Event, [Role.SLM, Role.SLM, Role.LLM, Role.SLM])) == [2, 1, 1]  # pyright: ignore
    assert authors_of(map(Event, [Role.LLM])) == [0, 1]  # pyright: ignore


# --- what they say


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    """Two tasks and general prompts; a setting of the router was measured on all of them."""
    folder = tmp_path_factory.mktemp("results")
    late = {**POINTS, ("router", "router < 0.9"): (58, 0.5, 70)}
    later = {key: value for key, value in late.items() if key != ("router", "router < 0.5 @ 0.3")}
    some = {key: value for key, value in POINTS.items() if key[0] in ("slm", "llm", "router")}
    return {
        "sums": results_of(folder, POINTS, seconds={"llm": 2.0, "router": 1.0, "random": 3.0}),
        "products": results_of(folder, later, "products"),
        GENERAL: results_of(folder, some, GENERAL, questions=60),
    }


def test_a_method_is_judged_at_the_cheapest_setting_that_recovers_enough_of_the_gap(tasks):
    found = summarise(tasks)
    assert found.settings["sums", "router"] == ("router < 0.5 @ 0.3",) * 2
    right, size = found.measured("sums", "router")
    assert right.value == pytest.approx(0.59) and size.value == 0.36
    assert found.settings["sums", "confidence"] == ("confidence < 0.7",) * 2
    assert found.measured("sums", "llm")[1] == (1, 1, 1) and found.count("sums") == 100


def test_the_router_is_compared_on_the_same_questions_and_the_mean_of_the_tasks_has_no_general_prompts(tasks):
    found = summarise(tasks)
    beside = found.compared("sums", ROUTER, "confidence")
    assert beside is not None
    assert beside.right.value == pytest.approx(-0.01) and beside.bytes.value == pytest.approx(36 / 80)
    assert found.compared("sums", ROUTER, "query") is None, "it was not measured"
    assert found.tasks == [ALL, "sums", "products"]
    assert found.count(ALL) == 200 and found.measured(ALL, "slm")[0].value == pytest.approx(0.2)
    both = [found.measured(name, ROUTER)[1].value for name in ("sums", "products")]
    assert found.measured(ALL, ROUTER)[1].value == pytest.approx(sum(both) / 2)
    assert summarise({"sums": tasks["sums"]}).tasks == ["sums"], "one task is its own mean"


def test_one_setting_for_all_tasks_is_chosen_among_those_that_were_measured_on_each(tasks):
    graded = [tasks["sums"], tasks["products"]]
    assert set(common_settings(graded, ROUTER)) == {"router < 0.5", "router < 0.6", "router < 0.6 @ 0.3"}
    found = summarise(tasks)
    for name in ("sums", "products"):
        assert found.settings[name, ONE_SETTING["router"]] == ("router < 0.6 @ 0.3",) * 2
    assert not found.has(GENERAL, ONE_SETTING["router"])


def test_ablations_seconds_and_where_the_page_starts_are_there_where_they_were_measured(tasks):
    found = summarise(tasks, Setting("router", 0.6, 0.3))
    acceptance = found.compared("sums", *ABLATIONS["acceptance, for the router"])
    assert acceptance is not None
    assert acceptance.right.value == pytest.approx(-0.01) and acceptance.bytes.value == pytest.approx(36 / 60)
    assert found.compared("sums", *ABLATIONS["rollouts, at acceptance 0"]) is None
    timed = {each.method: each for each in found.timed["sums"]}
    assert timed["router"].seconds.value == 0.5 and timed["random"].seconds.value == 1.5
    assert (timed["router"].questions, found.timed["products"]) == (10, [])
    assert found.measured("sums", DEFAULT)[0].value == pytest.approx(0.61)
    assert not summarise(tasks, Setting("router", 0.1, 0.3)).has("sums", DEFAULT)


def test_a_summary_is_small_json(tasks):
    text = json.dumps(summarise(tasks).as_json(), allow_nan=False)
    assert len(text) < 100_000 and '"mean of the tasks"' in text
