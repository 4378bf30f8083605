"""A comparison without its tab: what it writes, how its texts differ, and what they cost beside the LLM alone."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from app.compare.comparison import (
    Comparison,
    Difference,
    comparison_figures,
    comparison_message,
    difference,
    sentence,
)
from app.figures import percent
from app.running.host import Host
from engine import Request, Role
from engine.events import taken_back
from tests.support.paths import TINY

pytestmark = pytest.mark.skipif(not (TINY / "llm").is_dir(), reason="the tiny pair is not in assets/tiny")

PROMPT = "Ben has $20. Ben earns $15. Ben spends $9. How much money is it now?"


def test_a_difference_names_what_is_new_and_what_is_lacking():
    assert difference([1, 2, 3], [1, 2, 3]) == Difference((), 0)
    assert difference([1, 9, 3], [1, 2, 3]) == Difference((1,), 1)
    assert difference([1, 3], [1, 2, 3]) == Difference((), 1)
    assert difference([1, 2, 7, 8, 3], [1, 2, 3]) == Difference((2, 3), 0)
    assert difference([], [1]) == Difference((), 1) and difference([1], []) == Difference((0,), 0)


def test_a_difference_of_long_repetitive_texts_is_found_at_once():
    started = time.monotonic()
    found = difference([1] + [5, 6] * 2000, [2] + [6, 5] * 2000)
    assert time.monotonic() - started < 2 and len(found.own) >= 1


def test_the_sentence_tells_the_same_text_from_another():
    assert sentence("It", Difference(), 4, 4) == "It is the LLM-only text, token for token."
    said = sentence("It", Difference((1, 2, 3), 2), 41, 40)
    assert said == "It shares 38 of its 41 tokens with the LLM-only text; it lacks 2 of that text’s 40."
    said = sentence("It", Difference((), 1), 1, 41)
    assert said == "It shares all 1 token with the LLM-only text; it lacks 1 of that text’s 41."


def test_a_threshold_that_nobody_chose_is_the_routers_own_once_the_models_are_there(tiny_pair):
    host = Host(lambda preset, progress: tiny_pair)
    asked = Request(PROMPT, threshold=0.5, max_new_tokens=8)
    for own, threshold in ((["threshold"], tiny_pair.threshold), ([], 0.5)):
        job = Comparison(asked, "trained router", router_dials=own)
        job.work(host)
        assert {event.threshold for event in job.texts["middle"].events} == {threshold}
        assert {event.role for event in job.texts["llm"].events} == {Role.LLM}


def test_a_text_stands_beside_the_llm_alone_writing_as_many_tokens_however_long_the_llms_own_text_is(tiny_pair):
    job = Comparison(Request(PROMPT, 0.2, max_new_tokens=30), "it")
    job.work(Host(lambda preset, progress: tiny_pair))
    before = comparison_figures(job)
    del job.texts["llm"].events[10:]
    after = comparison_figures(job)
    assert after[:2] == before[:2] and after[2] != before[2]
    assert {after[2][unit][1] for unit in ("bytes", "flops", "seconds")} == {percent(1)}


@pytest.mark.parametrize("at_share", [False, True])
def test_a_token_gets_its_column_once_it_will_stay(tiny_pair, at_share: bool):
    asked = Request(PROMPT, 0.2, "router", acceptance=0.6, max_new_tokens=40)
    job = Comparison(replace(asked, policy="random") if at_share else asked, "it", at_share)
    job.work(Host(lambda preset, progress: tiny_pair))
    routed = tiny_pair.generate_batch([asked])[0]
    text = job.texts["router" if at_share else "middle"]
    assert [event.id for event in text.events] == [event.id for event in routed.events] and not text.drafts
    assert taken_back(text.events) == taken_back(routed.events) > 0
    middle = job.texts["middle"]
    for key in ("slm", "middle", "llm"):
        assert [index for of, index in job.log if of == key] == list(range(len(job.texts[key].events)))
    if at_share:
        chosen = [event for event in routed.events if event.role is Role.LLM and not event.refused]
        assert middle.request.threshold == len(chosen) / len(routed.events), "what was asked for, not what was refused"
        assert middle.request.acceptance == 0.6 and middle.title.endswith(", acceptance 0.6)")


def test_a_stopped_text_shows_the_drafts_that_nobody_read(tiny_pair):
    job = Comparison(Request(PROMPT, 0.0, "router", acceptance=0.6, max_draft=30, max_new_tokens=40), "it")
    job.look = lambda: job.cancel.set() if job._pending and len(job._pending.handles[0].stream) == 5 else None
    job.work(Host(lambda preset, progress: tiny_pair))
    assert job.state == "stopped"
    assert len(job.texts["middle"].events) == 5 and all(event.provisional for event in job.texts["middle"].events)


def test_a_message_about_nothing_yet_needs_no_models():
    job = Comparison(Request(PROMPT), "trained router")
    assert '"figures":null' in comparison_message(job, 0, note="Waiting")
