"""Compare without its tab: what is written, how the texts differ, and what they cost beside the LLM alone."""

from __future__ import annotations

import pytest

from app.compare.comparison import Comparison, Difference, comparison_figures, difference
from app.figures import percent
from app.running.host import Host
from engine import Role, Setting, build_request
from engine.events import taken_back
from tests.support.questions import QUESTIONS

PROMPT = QUESTIONS[0][0]


def test_a_difference_names_what_is_new_and_counts_what_is_lacking():
    for text, other, own, lacks in (
        ([1, 2, 3], [1, 2, 3], (), 0),
        ([1, 9, 3], [1, 2, 3], (1,), 1),
        ([1, 3], [1, 2, 3], (), 1),
        ([1, 2, 7, 8, 3], [1, 2, 3], (2, 3), 0),
        ([1, 5, 6, 7, 2], [3, 5, 6, 7, 4], (0, 4), 2),
        ([0, 1, 5, 6, 7, 8, 2, 3], [0, 5, 6, 7, 4, 2, 3], (1, 5), 1),
        ([], [1], (), 1),
        ([1], [], (0,), 0),
    ):
        assert difference(text, other) == Difference(own, lacks), (text, other)
    assert difference([1] + [5, 6] * 2000, [2] + [6, 5] * 2000).own, "a long repetitive text takes no square of time"


def test_a_text_stands_beside_the_llm_alone_writing_as_many_tokens(tiny_pair):
    job = Comparison(build_request(PROMPT, threshold=0.2, max_new_tokens=30), "it")
    job.work(Host(lambda preset, progress: tiny_pair))
    before = comparison_figures(job)
    del job.texts["llm"].events[10:]
    after = comparison_figures(job)
    assert after[:2] == before[:2] and after[2] != before[2], "however long the LLM's own text is"
    assert {after[2][unit][1] for unit in ("bytes", "flops", "seconds")} == {percent(1)}


@pytest.mark.parametrize("at_share", [False, True])
def test_a_token_gets_its_column_once_it_will_stay(tiny_pair, at_share: bool):
    asked = build_request(PROMPT, threshold=0.2, policy="router", acceptance=0.6, max_new_tokens=40)
    job = Comparison(build_request(asked, policy="random") if at_share else asked, "it", at_share)
    job.work(Host(lambda preset, progress: tiny_pair))
    routed = tiny_pair.generate_batch([asked])[0]
    text, middle = job.texts["router" if at_share else "middle"], job.texts["middle"]
    assert [event.id for event in text.events] == [event.id for event in routed.events] and not text.drafts
    assert taken_back(text.events) == taken_back(routed.events) > 0
    for key in ("slm", "middle", "llm"):
        assert [index for of, index in job.log if of == key] == list(range(len(job.texts[key].events)))
    if at_share:
        chosen = [event for event in routed.events if event.role is Role.LLM and not event.refused]
        share = len(chosen) / len(routed.events)
        assert middle.request.setting == Setting("random", share, 0.6), "what was asked for, not what was refused"
