"""A text that was given out is opened by everything that takes one; any other file is refused with its reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import app.share.open_trace
from app.api import ApiRun
from app.running.host import Host
from app.running.run import Run
from app.running.session import View
from app.share.buttons import taken
from app.share.open_trace import opened_run
from app.stream.dashboard import dashboard_message
from app.stream.token_stream import token_message
from app.sweep import Sweep
from engine import UNITS, InvalidRequest, Prices, Request, Trace
from engine.events import taken_back
from tests.support.fake_pair import FakePair
from tests.support.paths import ROOT

PROMPT = "Ben has $20. Ben earns $15. Ben spends $9. How much money is it now?"
ASKED = Request("echo one two three", threshold=0.8, acceptance=0.9, seed=4, max_new_tokens=6, alternatives=5)


@pytest.fixture(scope="module")
def tiny_host(tiny_pair):
    """The tiny pair behind a page, in two rows, so that texts take turns in them."""
    host = Host(lambda preset, progress: tiny_pair, rows=2)
    host.start()
    yield host
    host.close()


# ---- every text that is given out is opened ----


def of_run(run: Run, host: Host, kind: str) -> str:
    assert run.start(host).finished.wait(120) and not run.error
    return json.loads(taken(run.pair.trace(run.request, list(run.events)), None, kind) or "")["text"]


def of_sweep(asked: Request, host: Host) -> str:
    sweep = Sweep(replace(asked, max_new_tokens=10), [], Prices(), "threshold").start(host)
    assert sweep.finished.wait(120) and not sweep.error
    row = max(range(len(sweep.events)), key=lambda row: taken_back(sweep.events[row]))
    return sweep.pair.trace(sweep.at(row), sweep.events[row]).to_json()


def of_batch(asked: Request, host: Host) -> str:
    others = [replace(asked, seed=1), replace(asked, prompt="3 + 4 = ?")]
    return host.pair.generate_batch([*others, asked])[2].to_json()


GIVERS: dict[str, Callable[[Request, Host], str]] = {
    "the page's trace": lambda asked, host: of_run(Run(asked), host, "json"),
    "the page's link": lambda asked, host: of_run(Run(asked), host, "link"),
    "a program's text": lambda asked, host: of_run(ApiRun(asked), host, "json"),
    "a sweep's text": of_sweep,
    "the engine's batch": of_batch,
}


@pytest.mark.parametrize("giver", GIVERS)
@settings(max_examples=8)
@example(acceptance=0.6, threshold=0.2, max_draft="auto", before=2)  # much is taken back, in another row than the first
@given(
    acceptance=st.sampled_from([0.0, 0.1, 0.3, 0.6, 0.9, 1.0]),
    threshold=st.sampled_from([0.0, 0.5, 0.99, 1.01]),
    max_draft=st.sampled_from(["auto", 1, 8]),
    before=st.integers(1, 3),
)
def test_every_text_is_opened_wherever_one_can_be(
    giver: str, tiny_host: Host, acceptance, threshold, max_draft, before
):
    asked = Request(PROMPT, threshold, acceptance=acceptance, max_draft=max_draft, max_new_tokens=24, alternatives=2)
    others = [Run(replace(asked, prompt=f"{n} + {n} = ?", max_new_tokens=30)).start(tiny_host) for n in range(before)]
    text = GIVERS[giver](asked, tiny_host)
    assert all(other.finished.wait(120) for other in others)
    opened = opened_run(text).pair.opened
    assert opened == Trace.from_json(text) and opened.text == "".join(event.text for event in opened.events)
    again = opened_run(opened.to_json())
    assert again.pair.opened == opened and token_message(again, 0), "and taken along again"


# ---- what an opened text is ----


@pytest.fixture(scope="module")
def run() -> Run:
    """A run as the page has it when it is over."""
    done = Run(ASKED)
    done.pair, done.state = FakePair(1e6), "done"
    done.prompt_tokens = done.pair.check(ASKED)
    for event in done.pair.stream(ASKED):
        done._add(event)
    done.finished.set()
    return done


@pytest.fixture(scope="module")
def trace(run: Run) -> Trace:
    return run.pair.trace(run.request, run.events)


def test_an_opened_trace_shows_what_the_run_showed(run: Run, trace: Trace):
    opened = opened_run(trace.to_json(), after=run)
    assert opened.request == ASKED and not opened.active and opened.fixed and opened.number > run.number
    for unit in UNITS:
        messages = [json.loads(dashboard_message(r, View(unit=unit)) or "") for r in (opened, run)]
        assert messages[0] == {**messages[1], "run": opened.id, "n": opened.number, "cuts": 0, "cost": None}
    shown, written = (json.loads(token_message(each, 0)) for each in (opened, run))
    assert [token[:8] for token in shown["tokens"]] == [token[:8] for token in written["tokens"]]
    known = [[candidate.text for candidate in event.llm_alternatives] for event in trace.events]
    told = [[text for text, *_ in token[8]] for token in shown["tokens"]]
    assert told == known and any(known), "what was learned late is where it belongs"


def test_a_text_that_was_stopped_opens_as_stopped_and_an_old_one_as_it_was(trace: Trace):
    some = trace.events[:2]
    cut = replace(trace, events=some, text="".join(event.text for event in some), finish_reason="cancelled")
    assert opened_run(cut.to_json()).state == "stopped" and opened_run(trace.to_json()).state == "done"
    before_acceptance = ROOT / "tests" / "support" / "trace_before_acceptance.json"
    assert opened_run(before_acceptance.read_text("utf-8")).events == list(Trace.load(before_acceptance).events)


NAN, BACK = float("nan"), "events.1.taken_back"


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("format", 2, "format 2"), ("prompt", " ", "prompt is empty"), ("policy", "magic", "magic"),
        ("threshold", 3.5, "threshold = 3.5"), ("prices.slm", -1, "SLM price = -1"), ("text", "another", "text is not"),
        ("sampling.temperature", NAN, "sampling.temperature"), ("slm", "x" * 1000, "length of slm = 1000"),
        ("llm_cost.pass_table", [[1, 0.5]], "llm_cost"), ("slm_cost.trunk_bytes", 10**400, "slm_cost"),
        ("events", [], "tokens of the trace = 0"), ("events.0.finish_reason", "stop", "finish_reason"),
        ("events.1.role", "person", "events.1.role"), ("events.1.index", 7, "events.1.index = 7"),
        ("events.1.row", 3, "events.1.row = 3"), ("events.1.acceptance", 1.5, "events.1.acceptance = 1.5"),
        ("events.1.slm_entropy", 65, "events.1.slm_entropy = 65"), ("events.1.seconds", NAN, "events.1.seconds"),
        ("events.1.slm_alternatives.0.2", 3.5, "events.1: .* = 3.5"), ("events.1.llm_head", -1, "llm_head = -1"),
        ("events.1.revealed", [[0, "llm", []]], "events.1.revealed"), ("events.1.verdicts", [[0, 0.5]], "verdicts"),
        (f"{BACK}.0.ratio", -0.5, f"{BACK}.0.ratio = -0.5"), (f"{BACK}.0.index", 3, f"{BACK}.0.index = 3"),
        (f"{BACK}.0.row", 25, f"{BACK}.0.row = 25"), (f"{BACK}.0.text", "x" * 10_001, f"{BACK}.0: .* = 10001"),
        (f"{BACK}.0.taken_back", "a draft", f"{BACK}.0.taken_back"), (BACK, "too many", "20001"),
    ],
)  # fmt: skip
def test_a_value_that_cannot_be_is_refused_by_its_place(trace: Trace, path: str, value: Any, named: str):
    content = json.loads(trace.to_json())
    draft = content["events"][1]["taken_back"][0]
    *above, last = [int(part) if part.isdecimal() else part for part in path.split(".")]
    there = content
    for part in above:
        there = there[part]
    there[last] = {"a draft": [{**draft, "index": 2}], "too many": [draft] * 20_001}.get(str(value), value)
    with pytest.raises(InvalidRequest, match=named):
        opened_run(json.dumps(content))


@pytest.mark.parametrize("text", ["", "[1]", "null", "{", "[" * 50_000, '{"prompt": "\\ud800"}', "PK\x03\x04\ufffd"])
def test_a_file_that_is_no_trace_is_refused(text: str):
    with pytest.raises(InvalidRequest, match="not a trace"):
        opened_run(text)


@pytest.mark.parametrize(
    ("limit", "value", "named"), [("MAX_BYTES", 1000, "1,000"), ("MAX_TOKENS", 3, "tokens"), ("MAX_PARTS", 100, "100")]
)
def test_a_file_that_is_too_large_is_refused_before_it_is_read(trace: Trace, monkeypatch, limit, value, named):
    opened_run(trace.to_json())
    monkeypatch.setattr(app.share.open_trace, limit, value)
    with pytest.raises(InvalidRequest, match=named):
        opened_run(trace.to_json())
