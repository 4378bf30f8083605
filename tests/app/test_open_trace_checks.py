"""Opened traces: one that this program wrote becomes a finished run; any other file is refused with its reason."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

import app.share.open_trace
from app.fields import link_query
from app.running.run import Run
from app.running.session import View
from app.share.export import html_page, markdown
from app.share.open_trace import opened_run
from app.stream.dashboard import dashboard_message
from app.stream.token_stream import token_message
from engine import UNITS, InvalidRequest, Request, Trace
from tests.support.fake_pair import FakePair

REQUEST = Request("echo one two three", threshold=0.8, acceptance=0.9, seed=4, max_new_tokens=6, alternatives=5)


BACK = "events.1.taken_back"


@pytest.fixture(scope="module")
def run() -> Run:
    """A run as the page has it when it is over."""
    done = Run(REQUEST)
    done.pair, done.state = FakePair(1e6), "done"
    done.prompt_tokens = done.pair.check(REQUEST)
    for event in done.pair.stream(REQUEST):
        done._add(event)
    done.finished.set()
    return done


@pytest.fixture(scope="module")
def trace(run: Run) -> Trace:
    return run.pair.trace(run.request, run.events)


def test_an_opened_trace_shows_what_the_run_showed(run: Run, trace: Trace):
    opened = opened_run(trace.to_json(), after=run)
    assert opened.request == REQUEST and not opened.active and opened.number > run.number
    for unit in UNITS:
        messages = [json.loads(dashboard_message(r, View(unit=unit)) or "") for r in (opened, run)]
        assert messages[0] == {**messages[1], "run": opened.id, "n": opened.number, "cuts": 0, "cost": None}
    shown = json.loads(token_message(opened, 0))
    assert (shown["state"], shown["finish"], shown["count"]) == ("done", "eos", 4)
    written = [token[:8] for token in json.loads(token_message(run, 0))["tokens"]]
    assert [token[:8] for token in shown["tokens"]] == written
    known = [[c.text for c in event.llm_alternatives] for event in trace.events]
    told = [[text for text, *_ in token[8]] for token in shown["tokens"]]
    assert told == known and any(known), "what was learned late is where it belongs"
    assert shown["fixed"], "there is nothing to go on with"


def test_an_opened_trace_can_be_taken_along_again(trace: Trace):
    opened = opened_run(trace.to_json())
    assert opened.pair.trace(opened.request, opened.events) == trace


def test_a_text_that_was_stopped_opens_as_stopped(trace: Trace):
    cut = replace(
        trace, events=trace.events[:2], text="".join(e.text for e in trace.events[:2]), finish_reason="cancelled"
    )
    assert opened_run(cut.to_json()).state == "stopped"


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        ("format", 2, "format 2"),
        ("text", "another", "text is not that of its tokens"),
        ("finish_reason", "length", "finish_reason is not that of the last token"),
        ("events", [], "tokens of the trace = 0"),
        ("events.0.finish_reason", "stop", "finish_reason is set before the last token"),
        ("events.1.role", "person", "events.1.role"),
        ("events.1.score", float("nan"), "events.1.score: Input should be a finite number"),
        ("events.1.score", 1.5, "events.1.score = 1.5"),
        ("events.1.threshold", float("inf"), "events.1.threshold: Input should be a finite number"),
        ("events.1.index", 7, "events.1.index = 7"),
        ("events.1.row", 3, "events.1.row = 3"),
        ("events.1.slm_fed", -1, "events.1.slm_fed = -1"),
        ("events.1.seconds", float("nan"), "events.1.seconds: Input should be a finite number"),
        ("events.1.slm_alternatives.0.2", 3, "events.1: probability of a candidate = 3.0"),
        ("events.1.revealed", [[0, "llm", []]], "events.1.revealed is not empty"),
        ("acceptance", 1.5, "acceptance = 1.5"),
        ("max_draft", 0, "max_draft = 0"),
        ("events.1.acceptance", float("nan"), "events.1.acceptance: Input should be a finite number"),
        ("events.1.ratio", 1.5, "events.1.ratio = 1.5"),
        ("events.1.ratio", float("inf"), "events.1.ratio: Input should be a finite number"),
        ("events.1.llm_head", -1, "events.1.llm_head = -1"),
        ("events.1.verdicts", [[0, 0.5]], "events.1.verdicts is not empty"),
        (f"{BACK}.0.ratio", -0.1, f"{BACK}.0.ratio = -0.1"),
        (f"{BACK}.0.index", 3, f"{BACK}.0.index = 3"),
        (f"{BACK}.0.text", "x" * 10_001, f"{BACK}.0: length of a text = 10001"),
        (f"{BACK}.0.taken_back", "itself", f"{BACK}.0.taken_back is not empty"),
        (BACK, "many", "tokens that were taken back = 20001"),
        ("llm_cost.pass_table", [[1, 0.5]], "llm_cost has one table of seconds without the other"),
        ("slm_cost.trunk_bytes", 10**400, "slm_cost = 1000"),
        ("llm_cost.pass_seconds", float("nan"), "llm_cost.pass_seconds: Input should be a finite number"),
        ("prompt", " ", "The prompt is empty"),
        ("policy", "magic", "policy = 'magic'"),
        ("threshold", 3, "threshold = 3.0"),
        ("sampling.temperature", float("nan"), "sampling.temperature: Input should be a finite number"),
        ("prices.slm", -1, "SLM price = -1"),
        ("slm", "x" * 1000, "length of slm = 1000"),
        ("prompt_tokens", None, "prompt_tokens"),
    ],
)
def test_a_trace_that_cannot_be_is_refused_by_the_value(trace: Trace, path: str, value: Any, reason: str):
    content = json.loads(trace.to_json())
    draft = content["events"][1]["taken_back"][0]
    value = [draft] if value == "itself" else [draft] * 20_001 if value == "many" else value
    with pytest.raises(InvalidRequest) as refused:
        opened_run(json.dumps(changed(content, path.split("."), value)))
    assert reason in str(refused.value)


@pytest.mark.parametrize(
    "text", ["", "{}", "[1]", "null", "{", "[" * 50_000, '{"prompt": "\\ud800"}', "PK\x03\x04\ufffd"]
)
def test_a_file_that_is_no_trace_is_refused(text: str):
    with pytest.raises(InvalidRequest, match="not a trace"):
        opened_run(text)


def test_a_file_that_is_too_large_is_refused(trace: Trace, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(app.share.open_trace, "MAX_BYTES", 1000)
    with pytest.raises(InvalidRequest, match="at most 1,000"):
        opened_run(trace.to_json())
    monkeypatch.setattr(app.share.open_trace, "MAX_BYTES", 10**6)
    monkeypatch.setattr(app.share.open_trace, "MAX_TOKENS", 3)
    with pytest.raises(InvalidRequest, match="from 1 to 3"):
        opened_run(trace.to_json())
    monkeypatch.setattr(app.share.open_trace, "MAX_PARTS", 100)
    for text in ("[" * 101, '{"x": [' + "{}," * 99):
        with pytest.raises(InvalidRequest, match="lists and objects of the file = 101 must be"):
            opened_run(text)


def test_whatever_stands_in_a_file_it_is_refused_or_it_can_be_shown(trace: Trace):
    content = json.loads(trace.to_json())
    content["events"] = content["events"][:2]
    content["events"][1]["finish_reason"] = content["finish_reason"] = "stop"
    content["text"] = "".join(event["text"] for event in content["events"])
    opened_run(json.dumps(content))  # so far it is a good one
    nasty = [
        None,
        -1,
        0,
        0.5,
        10**19,
        1e300,
        float("nan"),
        float("-inf"),
        "",
        "x",
        "\u2028</script>",
        "1e9",
        [],
        {},
        [[]],
        True,
    ]
    shown = refused = 0
    for path in paths(content):
        for value in nasty:
            try:
                run = opened_run(json.dumps(changed(content, path, value)))
            except InvalidRequest:
                refused += 1
                continue
            shown += 1
            for unit in UNITS:
                assert dashboard_message(run, View(unit=unit))
            assert token_message(run, 0) and html_page(run.pair.opened) and markdown(run.pair.opened)
            assert link_query(run.pair.opened)[0]
    assert shown > 100 and refused > 100


def paths(content: Any, above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Where something stands in a JSON value."""
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in items:
        yield (*above, str(key))
        yield from paths(value, (*above, str(key)))


def changed(content: Any, path: Any, value: Any) -> Any:
    """A JSON value with something else in one place."""
    if not path:
        return value
    key = int(path[0]) if isinstance(content, list) else path[0]
    new = list(content) if isinstance(content, list) else dict(content)
    new[key] = changed(content[key], path[1:], value)
    return new
