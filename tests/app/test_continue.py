"""What goes on from a text: by more tokens, from a sweep at once, and what is said where nothing can."""

from __future__ import annotations

import json
from contextlib import closing

import pytest

from app.running.host import Host
from app.running.session import Session
from app.stream.token_stream import token_message
from engine import InvalidRequest, Request, load, load_settings
from tests.support.browser import eventually
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
    assert run is not None and run.finished.wait(90) and run.error is None
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


def _asking(server):
    """The tiny pair with its LLM on a server, which it gives up soon."""
    return load("tiny", load_settings(llm_url=server.url, llm_patience=0.2))


def test_a_text_that_stopped_because_the_llms_server_was_gone_is_gone_on_with_once_it_is_back(tiny_pair):
    whole = tiny_pair.generate(Request(PROMPT, 1.01, max_new_tokens=24, alternatives=2))
    with served("sglang", tiny_pair, delay=0.02) as server, closing(_asking(server)) as pair:
        host, session = Host(lambda preset, progress: pair), Session()
        run = session.begin(Request(PROMPT, 1.01, max_new_tokens=24, alternatives=2), host)
        eventually(lambda: len(run.events) > 4)
        server.stop()
        assert run.finished.wait(90) and run.state == "failed" and run.error
        assert json.loads(token_message(run, 0))["more"], "Continue is offered"
        again = session.extend(1, host)
        assert again is not None and again.finished.wait(90)
        assert again.state == "failed" and len(again.events) >= len(run.events), "nothing is lost while it is gone"
        server.start()
        eventually(lambda: not pair.trouble)
        assert session.set_dials(1.01, 0.0, host) is not None, "nobody stopped it there"
        eventually(lambda: session.run is not None and session.run.state == "done")
        assert session.step(-1) is again
        rest = finished(session.extend(1, host))
        assert [(e.id, e.role) for e in rest.events] == [(e.id, e.role) for e in whole.events]
        host.close()
