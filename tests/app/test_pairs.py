"""The pair that the page's tests stand before keeps what a real pair keeps, and has what the page uses."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from app.running.host import Host
from app.running.session import Session
from engine import InvalidRequest, Role, Trace, at_dials, fold_revealed
from tests.support.fake_pair import FakePair, request
from tests.support.paths import ROOT

QUESTION = "Start with 12. Add 30. What is the result?"
TESTS_OWN = {"tokens_per_second", "prefill_seconds", "requests", "tokens", "open_streams", "writing", "pause"}
TESTS_OWN |= {"write", "stream", "generate"}
FILES_OWN = {"opened"}  # of a text from a file, whose pair is none


@pytest.fixture(scope="module", params=["fake", "tiny"])
def pair(request, tiny_pair) -> Any:
    return FakePair(1e6) if request.param == "fake" else tiny_pair


@pytest.fixture
def host(pair) -> Iterator[Host]:
    host = Host(lambda preset, progress: pair)
    host.wait(threading.Event())
    yield host
    host.close()


def text(trace: Trace) -> list[tuple[int, Role]]:
    return [(event.id, event.role) for event in trace.events]


def used_by(*places: str) -> set[str]:
    files = [path for place in places for path in ([ROOT / place] if "." in place else (ROOT / place).rglob("*.py"))]
    return {
        name for path in files for name in re.findall(r"(?:\b|_)pair\.([a-z]\w*)\b(?! import)", path.read_text("utf-8"))
    }


def test_it_has_all_that_the_page_and_the_scheduler_use_and_the_fake_has_no_more(pair):
    of_page = used_by("app", "engine/scheduler.py", "engine/batch/held_rows.py")
    assert len(of_page) > 15 and not [name for name in of_page - FILES_OWN if not hasattr(pair, name)]
    public = {name for name in {*vars(FakePair()), *vars(FakePair)} if not name.startswith("_")}
    assert public - TESTS_OWN <= of_page | used_by("engine/endpoint")


def test_it_refuses_a_prompt_beyond_its_context_and_falls_back_to_a_policy_that_it_has(pair):
    assert 0 < pair.check(request(QUESTION)) < pair.context
    with pytest.raises(InvalidRequest, match=f"{pair.context:,}"):
        pair.check(request("x " * 3000))
    assert pair.default_policy("router") == "router" and pair.default_policy("unheard of") in pair.policies


@pytest.mark.parametrize("alone", ["slm", "llm"])
def test_one_model_alone_is_where_a_threshold_ends(pair, alone):
    trace = pair.generate(request(QUESTION, policy=alone))
    routed = pair.generate(request(QUESTION, threshold=0.0 if alone == "slm" else 2.0))
    assert text(trace) == text(routed) and {event.role for event in trace.events} == {Role(alone)}
    assert [event.index for event in trace.events] == list(range(len(trace.events)))
    assert trace.finish_reason in ("eos", "length") and Trace.from_json(trace.to_json()) == trace


def test_what_the_llm_must_accept_entirely_is_its_own_text_and_what_is_taken_back_is_told(pair):
    trace = pair.generate(request(QUESTION, threshold=0.2, acceptance=1.0, max_draft=4, alternatives=3, seed=5))
    alone = pair.generate(request(QUESTION, policy="llm", seed=5))
    assert [event.id for event in trace.events] == [event.id for event in alone.events] and trace.text == alone.text
    assert all(event.llm_fed > 0 for event in trace.events if event.taken_back)
    assert all(event.slm_alternatives for event in trace.events if event.role is Role.SLM)


def test_a_text_that_goes_on_at_other_dials_is_the_one_of_those_dials(pair, host):
    session = Session()
    first = session.begin(request(QUESTION, threshold=0.3), host)
    assert first.finished.wait(120) and first.complete
    for threshold, acceptance in ((0.9, 0.0), (0.9, 0.5), (0.1, 0.0)):
        run = session.set_dials(threshold, acceptance, host)
        assert run is not None and run.finished.wait(120) and run.error is None
        alone = pair.generate(request(QUESTION, threshold=threshold, acceptance=acceptance))
        assert [(event.id, event.role) for event in fold_revealed(run.events)] == text(alone)
        kept = at_dials(run.request, run.folded, threshold, acceptance)[1]
        assert len(kept) == len(run.events), "nothing of it flips at its own dials"
