"""What goes on from a text: by more tokens, and what is said where nothing can."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace

import pytest

from app.running.host import Host
from app.running.session import Session
from engine import InvalidRequest, Request, Setting
from tests.support.fake_pair import FakePair, request

PROMPT = "Ben has $20. Ben earns $15. Ben spends $9. How much money is it now?"


def finished(run):
    assert run is not None and run.finished.wait(90) and run.error is None
    return run


def text(run) -> list[tuple]:
    return [(event.id, event.role) for event in run.events]


@pytest.mark.parametrize("acceptance", [0.0, 0.6])
def test_a_text_that_is_gone_on_with_is_that_of_the_longer_limit(tiny_pair, acceptance: float):
    asked = Request(PROMPT, Setting("router", 0.9, acceptance), alternatives=2, max_new_tokens=40)
    with closing(Host(lambda preset, progress: tiny_pair)) as host:
        session = Session()
        short = finished(session.begin(replace(asked, max_new_tokens=12), host))
        assert short.extendable
        assert text(finished(session.extend(28, host))) == text(tiny_pair.generate(asked))
        assert session.step(-1) is short, "a step like any other"


def test_a_number_that_is_none_is_refused_and_a_whole_text_is_not_gone_on_with(host, pair: FakePair, monkeypatch):
    session = Session()
    full = finished(session.begin(request(max_new_tokens=10), host))
    with pytest.raises(InvalidRequest, match="max_new_tokens = 0"):
        session.extend(0, host)
    assert session.run is full
    monkeypatch.setattr(pair, "context", full.prompt_tokens + 10)
    assert session.extend(10, host) is None, "the context is full"
    finished(session.begin(request("echo it is all there"), host))
    assert session.extend(10, host) is None
