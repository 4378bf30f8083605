"""A text that was given out, as a file or a link, is opened again; anything else is refused with its reason."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import app.share.open_trace
from app.api import ApiRun
from app.fields import FIELDS
from app.handlers import Handlers
from app.running.host import Host
from app.running.run import Run
from app.running.session import SWEEP, View
from app.running.sessions import Sessions
from app.share.buttons import _ShareHandlers, taken
from app.share.export import trace_json
from app.share.link import link_json
from app.share.open_trace import opened_run
from app.share.swept import opened_sweep, swept_of
from app.stream.dashboard import dashboard_message
from app.stream.token_stream import token_message
from app.sweep import Sweep, sweep_message
from engine import InvalidRequest, Prices, Request, Trace, build_request, load_settings
from engine.events import taken_back
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
    return json.loads(taken(run.pair.trace(run.request, list(run.events)), None, kind) or "")["text"]


GIVERS: dict[str, Callable[[Request, Host], str]] = {
    "the page's trace": lambda asked, host: of_run(Run(asked), host, "json"),
    "the page's link": lambda asked, host: of_run(Run(asked), host, "link"),
    "a program's text": lambda asked, host: of_run(ApiRun(asked), host, "json"),
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
    assert again.pair.opened == opened and token_message(again, 0), "and taken along again"


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
    messages = [json.loads(dashboard_message(each, View()) or "") for each in (opened, run)]
    assert messages[0] == {**messages[1], "run": opened.id, "n": opened.number, "cuts": 0, "cost": None}
    shown, written = (json.loads(token_message(each, 0))["tokens"] for each in (opened, run))
    assert [token[:8] for token in shown] == [token[:8] for token in written]
    known = [[candidate.text for candidate in event.llm_alternatives] for event in trace.events]
    assert [[text for text, *_ in token[8]] for token in shown] == known and any(known), "what was learned late, too"


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
        ("format", 2, "format 2"), ("policy", "magic", "magic"), ("text", "another", "text is not"),
        ("prices.slm", -1, "SLM price = -1"), ("slm", "x" * 1000, "length of slm = 1000"),
        ("slm_cost.trunk_bytes", 10**400, "slm_cost"), ("events", [], "tokens of the trace = 0"),
        ("events.1.role", "person", "events.1.role"), ("events.1.index", 7, "events.1.index = 7"),
        ("events.1.row", 3, "events.1.row = 3"), ("events.1.seconds", float("nan"), "events.1.seconds"),
        ("events.1.slm_alternatives.0.2", 3.5, "events.1: .* = 3.5"), ("events.1.llm_head", -1, "llm_head = -1"),
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


@pytest.fixture(scope="module")
def sweep(tiny_host) -> Sweep:
    """The tiny pair's texts at many settings."""
    done = Sweep(build_request(PROMPT, max_new_tokens=16, max_draft=8), [], Prices(), "both").start(tiny_host)
    assert done.finished.wait(120) and not done.error
    return done


def text_of(sweep: Sweep) -> Trace:
    """The text of which most was taken back."""
    row = max(range(len(sweep.events)), key=lambda row: taken_back(sweep.events[row]))
    return sweep.pair.trace(sweep.at(row), sweep.events[row])


@pytest.fixture(scope="module")
def swept(sweep: Sweep) -> str:
    """A text of the sweep as a file that has the sweep beside it."""
    return trace_json(text_of(sweep), "", swept_of(sweep, text_of(sweep).request))


def test_a_swept_text_takes_its_sweep_along(sweep: Sweep):
    text = text_of(sweep)
    told = swept_of(sweep, text.request)
    assert told is not None and swept_of(sweep, replace(text.request, seed=5)) is None, "another text's is not its own"
    for written in (trace_json(text, "", told), link_json(text, told)):
        run = opened_run(written)
        opened = opened_sweep(written, run, Prices())
        assert opened is not None and not opened.active and Trace.from_json(written).text == text.text
        before, after = (json.loads(sweep_message(each, 0)[0]) for each in (sweep, opened))
        assert after["beside"] == run.id and before["beside"] is None
        for name in ("over", "points", "leaves", "replaced"):
            assert after[name] == before[name], name
        assert [node[1:] for node in after["nodes"]] == [node[1:] for node in before["nodes"]]
        again = swept_of(opened, run.request)
        assert again is not None and again["leaves"] == told["leaves"], "it can be passed on"


def test_an_opened_sweep_is_the_newest_and_is_priced_only_at_its_own_prices(swept: str):
    sessions, host = Sessions(), Host(lambda *_, **__: None)
    session = sessions.enter("a window")
    sharing = _ShareHandlers(host, sessions, [None] * len(FIELDS))
    run, opened, figures = asyncio.run(sharing._read(swept, session))
    begun = session.jobs[SWEEP] = Sweep(run.request, [], Prices(), "both", opened)
    *_, message = sharing._show(session, run, opened, figures)
    assert opened is not None and json.loads(message)["n"] == opened.number > begun.number
    handlers = Handlers(host, sessions, load_settings(), [None] * len(FIELDS))
    window: Any = SimpleNamespace(session_hash="a window")
    told = [handlers.set_view("price", Prices().slm, times * Prices().llm, window)[-1] for times in (4, 1)]
    other, own = (json.loads(message)["figures"] for message in told)
    assert [row[:-1] for row in other] == [row[:-1] for row in own] and {row[-1] for row in other} == {None}
    assert own == [list(row) for row in opened.figures if row]


def test_a_sweep_that_would_keep_a_browser_busy_is_refused(swept: str):
    content = json.loads(swept)
    run, good = opened_run(swept), content["sweep"]
    ring = [[5, *good["nodes"][0][1:]], *good["nodes"][1:]]
    chain = [[i - 1, "x", 0.5] for i in range(19_000)]
    for change, named in (
        ({"nodes": ring}, "nodes.0"),
        ({"points": [[0, 0]] * 101}, "settings"),
        ({"nodes": chain, "leaves": [18_999] * len(good["points"]), "replaced": []}, "all texts"),
        ({"leaves": [len(good["nodes"])] * len(good["points"])}, "leaves"),
        ({"leaves": good["leaves"][1:]}, "leaves"),
        ({"replaced": [[0, 1.5]]}, "ratio"),
    ):
        with pytest.raises(InvalidRequest, match=named):
            opened_sweep(json.dumps({**content, "sweep": {**good, **change}}), run, Prices())
