"""The pair that the page's tests stand before keeps what a real pair keeps."""

from __future__ import annotations

from typing import Any

import pytest

from app.running.host import Host
from app.running.session import Session
from engine import InvalidRequest, Role, Trace, at_setting, fold_revealed
from tests.support.fake_pair import FakePair, request

QUESTION = "Start with 12. Add 30. What is the result?"


@pytest.fixture(scope="module", params=["fake", "tiny"])
def pair(request, tiny_pair) -> Any:
    return FakePair(1e6) if request.param == "fake" else tiny_pair


def text(trace: Trace) -> list[tuple[int, Role]]:
    return [(event.id, event.role) for event in trace.events]


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


def test_a_text_that_goes_on_at_other_dials_is_the_one_of_those_dials(pair):
    host, session = Host(lambda preset, progress: pair), Session()
    assert session.begin(request(QUESTION, threshold=0.3), host).finished.wait(120)
    for threshold, acceptance in ((0.9, 0.0), (0.9, 0.5), (0.1, 0.0)):
        run = session.set_dials(threshold, acceptance, host)
        assert run is not None and run.finished.wait(120) and run.error is None
        alone = pair.generate(request(QUESTION, threshold=threshold, acceptance=acceptance))
        assert [(event.id, event.role) for event in fold_revealed(run.events)] == text(alone)
        kept = at_setting(run.request, run.folded, run.request.setting)[1]
        assert len(kept) == len(run.events), "nothing of it flips at its own dials"
    host.close()
