"""A text that was given out, as a file or a link, is opened again; anything else is refused with its reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import app.share.open_trace
from app.running.host import Host
from app.running.run import Run
from app.share.buttons import taken
from app.share.open_trace import opened_run
from engine import InvalidRequest, Request, Trace, build_request
from tests.support.browser import told
from tests.support.fake_pair import FakePair
from tests.support.paths import ROOT
from tests.support.questions import QUESTIONS

PROMPT = QUESTIONS[0][0]
ASKED = build_request("echo one two three", threshold=0.8, acceptance=0.9, seed=4, max_new_tokens=6, alternatives=5)


@pytest.fixture(scope="module")
def tiny_host(tiny_pair):
    """The tiny pair behind a page, in two rows, so that texts take turns in them."""
    host = Host(lambda preset, progress: tiny_pair, rows=2)
    host.start()
    yield host
    host.close()


def of_run(run: Run, host: Host, kind: str) -> str:
    assert run.start(host).finished.wait(120) and not run.error
    return taken(run.pair.trace(run.request, list(run.events)), kind) or ""


GIVERS: dict[str, Callable[[Request, Host], str]] = {
    "the page's trace": lambda asked, host: of_run(Run(asked), host, "json"),
    "the page's link": lambda asked, host: of_run(Run(asked), host, "link"),
    "the engine's batch": lambda asked, host: host.pair.generate_batch([replace(asked, seed=1), asked])[1].to_json(),
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
def test_every_text_is_opened_wherever_one_can_be(giver: str, tiny_host: Host, before: int, **dials: Any):
    asked = build_request(PROMPT, max_new_tokens=24, alternatives=2, **dials)
    others = [Run(replace(asked, prompt=f"{n} + {n} = ?", max_new_tokens=30)).start(tiny_host) for n in range(before)]
    text = GIVERS[giver](asked, tiny_host)
    assert all(other.finished.wait(120) for other in others)
    opened = opened_run(text).pair.opened
    assert opened == Trace.from_json(text) and opened.text == "".join(event.text for event in opened.events)
    again = opened_run(opened.to_json())
    assert again.pair.opened == opened and told(again), "and taken along again"


@pytest.fixture(scope="module")
def run() -> Run:
    """A run as the page has it when it is over."""
    host = Host(lambda preset, progress: FakePair(1e6))
    done = Run(ASKED).start(host)
    assert done.finished.wait(120)
    host.close()
    return done


@pytest.fixture(scope="module")
def trace(run: Run) -> Trace:
    return run.pair.trace(run.request, run.events)


def test_an_opened_trace_shows_what_the_run_showed(run: Run, trace: Trace):
    opened = opened_run(trace.to_json(), after=run)
    assert opened.request == ASKED and not opened.active and opened.fixed and opened.number > run.number
    messages = [told(each) for each in (opened, run)]
    assert messages[0]["cost"] == messages[1]["cost"]
    shown, written = (message["tokens"] for message in messages)
    assert [token[:5] for token in shown] == [token[:5] for token in written]
    known = [[candidate.text for candidate in event.llm_alternatives] for event in trace.events]
    assert [[text for text, *_ in token[5]] for token in shown] == known and any(known), "what was learned late, too"


def test_a_text_that_was_stopped_opens_as_stopped_and_an_old_one_as_it_was(trace: Trace):
    some = trace.events[:2]
    cut = replace(trace, events=some, text="".join(event.text for event in some), finish_reason="cancelled")
    assert opened_run(cut.to_json()).state == "stopped" and opened_run(trace.to_json()).state == "done"
    before_acceptance = ROOT / "tests" / "support" / "trace_before_acceptance.json"
    assert opened_run(before_acceptance.read_text("utf-8")).events == list(Trace.load(before_acceptance).events)


BACK = "events.1.taken_back"


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("format", 2, "format = 2"), ("policy", "magic", "magic"), ("text", "another", "text is not"),
        ("prices.slm", -1, "SLM price = -1"), ("slm", "x" * 1000, "slm = .x"),
        ("slm_cost.trunk_bytes", 10**400, "slm_cost"), ("events", [], "tokens of the trace = 0"),
        ("events.1.role", "person", "events.1.role"), ("events.1.index", 7, "events.1.index = 7"),
        ("events.1.row", 3, "events.1.row = 3"), ("events.1.seconds", float("nan"), "events.1.seconds"),
        ("events.1.slm_alternatives.0.2", 3.5, "slm_alternatives.0.*= 3.5"), ("events.1.llm_head", -1, "llm_head = -1"),
        ("events.1.revealed", [[0, "llm", []]], "events.1.revealed"), ("events.1.verdicts", [[0, 0.5]], "verdicts"),
        (f"{BACK}.0.ratio", -0.5, f"{BACK}.0.ratio = -0.5"), (f"{BACK}.0.index", 3, f"{BACK}.0.index = 3"),
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


def test_a_file_that_is_no_trace_or_too_large_is_refused(trace: Trace, monkeypatch):
    for text in ("", "[1]", "null", "{", "[" * 50_000, '{"prompt": "\\ud800"}', "PK\x03\x04\ufffd"):
        with pytest.raises(InvalidRequest, match="not a trace"):
            opened_run(text)
    for limit, value, named in (("MAX_PARTS", 100, "100"), ("MAX_TOKENS", 3, "tokens"), ("MAX_BYTES", 1000, "1,000")):
        monkeypatch.setattr(app.share.open_trace, limit, value)
        with pytest.raises(InvalidRequest, match=named):
            opened_run(trace.to_json())
        monkeypatch.undo()
