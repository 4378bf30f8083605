"""What goes on from a text: by more tokens, from a sweep at once, and what is said where nothing can."""

from __future__ import annotations

import json

import pytest

from app.running.host import Host
from app.running.session import SWEEP, Session
from app.stream.token_stream import token_message
from app.stream.updates import GAP_SECONDS, slow_because, waiting_for
from app.sweep import Sweep, SweepRun
from engine import InvalidRequest, Prices, Request
from tests.engine.test_served import loaded
from tests.support.browser import Site, eventually, expect, window
from tests.support.fake_llm_server import served
from tests.support.fake_pair import FakePair, request

PROMPT = "Ben has $20. Ben earns $15. Ben spends $9. How much money is it now?"


@pytest.fixture
def session(host) -> Session:
    """A window with a text that ended at its limit."""
    session = Session()
    finished(session.begin(request(max_new_tokens=10), host))
    return session


def finished(run):
    assert run is not None and run.finished.wait(20) and run.error is None
    return run


@pytest.mark.parametrize("acceptance", [0.0, 0.6])
def test_a_text_that_is_gone_on_with_is_that_of_the_longer_limit(tiny_pair, acceptance: float):
    host, session = Host(lambda preset, progress: tiny_pair), Session()
    asked = {"threshold": 0.9, "policy": "router", "acceptance": acceptance, "alternatives": 2}
    short = finished(session.begin(Request(PROMPT, max_new_tokens=12, **asked), host))
    assert short.extendable
    longer = finished(session.extend(28, host))
    whole = tiny_pair.generate(Request(PROMPT, max_new_tokens=40, **asked))
    assert [(e.id, e.role) for e in longer.events] == [(e.id, e.role) for e in whole.events]
    assert session.step(-1) is short, "a step like any other"
    host.close()


def test_a_number_that_is_none_is_refused_and_a_whole_text_is_not_gone_on_with(
    session: Session, host, pair: FakePair, monkeypatch
):
    text = session.run
    with pytest.raises(InvalidRequest, match="max_new_tokens = 0"):
        session.extend(0, host)
    assert session.run is text
    finished(session.begin(request("echo it is all there"), host))
    assert session.extend(10, host) is None
    full = finished(session.begin(request("a palindrome", max_new_tokens=10), host))
    monkeypatch.setattr(pair, "context", full.prompt_tokens + 10)
    assert session.extend(10, host) is None, "the context is full"


def test_a_text_that_stopped_because_the_llms_server_was_gone_is_gone_on_with_once_it_is_back(tiny_pair):
    whole = tiny_pair.generate(Request(PROMPT, 1.01, max_new_tokens=24, alternatives=2))
    with served("sglang", tiny_pair, delay=0.02) as server, loaded(server, llm_patience=0.2) as pair:
        host, session = Host(lambda preset, progress: pair), Session()
        run = session.begin(Request(PROMPT, 1.01, max_new_tokens=24, alternatives=2), host)
        eventually(lambda: len(run.events) > 4)
        server.stop()
        assert run.finished.wait(20) and run.state == "failed" and "The text so far stays" in (run.error or "")
        assert json.loads(token_message(run, 0))["more"], "Continue is offered"
        again = session.extend(1, host)
        assert again is not None and again.finished.wait(20)
        assert again.state == "failed" and len(again.events) >= len(run.events), "nothing is lost while it is gone"
        server.start()
        eventually(lambda: not pair.trouble, 20)
        assert session.set_dials(1.01, 0.0, host) is not None, "nobody stopped it there"
        eventually(lambda: session.run is not None and session.run.state == "done", 20)
        assert session.step(-1) is again
        rest = finished(session.extend(1, host))
        assert [(e.id, e.role) for e in rest.events] == [(e.id, e.role) for e in whole.events]
        host.close()


def test_a_text_of_a_sweep_is_there_before_any_model_has_read_it(host, pair: FakePair):
    session = Session()
    sweep = session.begin_job(SWEEP, Sweep(request(), [], Prices(), "threshold"), host)
    assert sweep.finished.wait(20)
    row = 3
    run = session.continue_from(SweepRun(sweep, row), sweep.points[row].threshold, 0.0, host)
    assert [event.id for event in run.events] == [event.id for event in sweep.events[row]]
    assert finished(run).state == "done"


def test_a_text_whose_row_was_taken_says_that_it_waits_and_one_that_gets_no_token_says_why(host, pair: FakePair):
    session = Session()
    pair.tokens_per_second = 20
    run = session.begin(request(max_new_tokens=60), host)
    eventually(lambda: run.events)
    assert waiting_for(run, host) == "" and "takes longer than usual" in slow_because(run, host)
    host.scheduler.rows = 3
    assert slow_because(run, host).startswith("Writing: 2 other texts")
    handle = run.handle
    handle.state = "waiting"
    assert run.paused and run.message_state(whole=False) == "waiting"
    assert waiting_for(run, host).startswith("Others are served first: place ")
    handle.state = "running"
    assert run.message_state(whole=False) == "running"
    session.close()
    finished(run)


def test_continue_is_offered_where_the_limit_ended_the_text_and_writes_on(browser, site: Site, pair: FakePair):
    pair.tokens_per_second = 300
    with window(browser, site) as shown:
        shown.write("echo whole")
        expect(shown.page.locator(".stream-more").first).to_be_hidden()
        text = shown.write("a palindrome")
        expect(shown.page.locator(".stream-state").first).to_contain_text("token limit")
        shown.page.click(".stream-more")
        eventually(lambda: len(shown.tokens()) == 120 and shown.page.is_visible(".stream-more"))
        assert shown.text().startswith(text)
        shown.page.click("text=↶ Undo")
        eventually(lambda: shown.text() == text)
        assert shown.errors == []


def test_a_gap_in_a_text_is_explained_and_the_share_runs_with_the_count(browser, site: Site, pair: FakePair):
    pair.tokens_per_second = 8  # so that it is still being written on a busy machine
    with window(browser, site) as shown:
        shown.ask("a palindrome")
        shown.page.wait_for_selector(".t >> nth=10")
        told = shown.page.evaluate(_TOLD)
        assert told["count"] == told["headline"] == told["meter"], told
        pair.tokens_per_second = 1 / (2 * GAP_SECONDS)
        shown.page.wait_for_selector("text=takes longer than usual", timeout=20_000)
        pair.tokens_per_second = 300
        shown.wait_state("done")


# Within one frame, while the text grows: the share beside the text, in the headline, and in the meter.
_TOLD = """() => new Promise((resolve) => {
  const share = (selector) => document.querySelector(selector)?.textContent.match(/[0-9.]+(?=\\s*%)/)?.[0];
  let left = 30;
  const look = () => {
    const told = { count: share('.key-llm'), headline: share('.headline b'), meter: share('[data-field="share"]') };
    if (left-- === 0 || new Set(Object.values(told)).size > 1) resolve(told); else setTimeout(look, 30);
  };
  look();
})"""
