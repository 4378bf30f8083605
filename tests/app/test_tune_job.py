"""The job that writes a visitor's prompts at many thresholds, without a browser."""

from __future__ import annotations

import json

import pytest

from app.running.host import Host
from app.tune.curve import PromptResult, TextResult
from app.tune.prompts import parse
from app.tune.tab import read_prompts
from app.tune.tuning import Tuning, progress
from engine import InvalidRequest, Request
from tests.support.tune_tab import CSV, MANY


@pytest.fixture(scope="module")
def pair(tiny_pair):
    """The tiny pair."""
    return tiny_pair


def tuning(text: str = CSV, **options) -> Tuning:
    count, rows = options.pop("count", 3), parse(text).rows
    return Tuning(rows, Request(rows[0].prompt, policy="router", max_new_tokens=8, **options), count, None)


def test_progress_says_how_much_is_done_and_how_long_it_will_take(pair, monkeypatch):
    host, job = Host(lambda preset, progress: pair), tuning(MANY)
    monkeypatch.setattr("time.monotonic", lambda: 160.0)
    assert progress(job, host) == "Waiting for the models to load; the prompts start by themselves."
    job.state = "running"
    assert progress(job, host) == "0 of 80 prompts · choosing thresholds by the scores of the first …"
    job.began = 100.0
    assert progress(job, host) == "0 of 80 prompts"
    job.tokens, job.thresholds = 12, (0.2, 0.5, 0.7)
    assert progress(job, host) == "0 of 80 prompts · 12 of at most 3,200 tokens"
    result = PromptResult(0, (TextResult("", True, 1.0, 6, 0, 0.0, 0.0, 0.0),) * 5)
    job.results, job.tokens = [result] * 20, 600
    assert progress(job, host) == "20 of 80 prompts · 600 of about 2,400 tokens, about 3 min left"
    job.cancel.set()
    assert progress(job, host) == "20 of 80 prompts · stopping …"
    job.state = "stopped"
    assert progress(job, host) == "20 of 80 prompts"


def test_groups_are_small_and_whole(pair):
    job = tuning(MANY, count=9)
    job.pair, job.thresholds = pair, tuple(n / 10 for n in range(1, 10))
    groups = list(job._groups())
    assert [number for group in groups for number in group] == list(range(80))
    assert {len(group) for group in groups} == {4}, "44 rows"
    job.thresholds = tuple(n / 100 for n in range(1, 100))
    assert {len(group) for group in job._groups()} == {1}, "a prompt is never split"


def test_by_chance_each_prompt_has_draws_of_its_own_which_are_the_same_in_each_of_its_texts():
    rows = parse("One\nTwo").rows
    job = Tuning(rows, Request("One", policy="random"), 3, None)
    job.thresholds = (0.2, 0.5)
    one, two = ({asked.seed for asked in job._requests(row.prompt)} for row in rows)
    assert len(one) == len(two) == 1 and one != two


@pytest.mark.parametrize("count", [0, 26, 2.5, True, None, float("nan")])
def test_a_number_of_thresholds_out_of_range_is_refused(count):
    with pytest.raises(InvalidRequest, match="thresholds = "):
        tuning(count=count)


def test_a_file_that_did_not_arrive_whole_is_refused():
    assert "did not arrive whole" in json.loads(read_prompts({"name": "a.csv", "file": "%%%"}))["error"]
    assert json.loads(read_prompts({}))["error"].startswith("Your prompts: there is nothing")
