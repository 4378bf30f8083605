"""Compare without its tab: what is written, how the texts differ, and what they cost beside the LLM alone."""

from __future__ import annotations

import json

from app.compare.comparison import Comparison, shared_tokens
from app.running.host import Host
from engine import build_request
from engine.events import taken_back
from engine.grading import is_right
from tests.support.questions import QUESTIONS

PROMPT = QUESTIONS[0][0]


def test_the_shared_tokens_of_two_texts_are_those_of_their_longest_common_blocks():
    for text, other, shared in (
        ([1, 2, 3], [1, 2, 3], 3),
        ([1, 9, 3], [1, 2, 3], 2),
        ([1, 2, 7, 8, 3], [1, 2, 3], 3),
        ([0, 1, 5, 6, 7, 8, 2, 3], [0, 5, 6, 7, 4, 2, 3], 6),
        ([], [1], 0),
        ([1], [], 0),
    ):
        assert shared_tokens(text, other) == shared, (text, other)
    assert shared_tokens([1] + [5, 6] * 2000, [2] + [6, 5] * 2000) == 0, "long repetitive texts take no square of time"


def test_three_texts_are_each_as_alone_and_cost_shares_of_the_llms(tiny_pair):
    asked = build_request(PROMPT, threshold=0.2, policy="router", acceptance=0.6, max_new_tokens=100)
    job = Comparison(asked)
    job.work(Host(lambda preset, progress: tiny_pair))
    routed = tiny_pair.generate_batch([asked])[0]
    text = job.texts["middle"]
    assert [event.id for event in text.events] == [event.id for event in routed.events]
    assert taken_back(text.events) == taken_back(routed.events) > 0, "a token gets its column once it will stay"
    for key, each in job.texts.items():
        assert [text for of, text, *_ in job.tokens if of == key] == [event.text for event in each.events]
    told = json.loads(job.message(0, over=True)[0])
    assert told["costs"]["llm"][:3] == [[0, 1]] * 3
    assert all(slm > 0 and llm == 0 for slm, llm in told["costs"]["slm"][:3])
    assert told["verdicts"]["middle"] and told["verdicts"]["llm"] == ""
    alone = job.texts["slm"].events
    assert alone[-1].finish_reason == "eos" and f"of its {len(alone) - 1} tokens" in told["verdicts"]["slm"]


def test_where_the_answer_is_known_the_verdict_says_who_is_right(tiny_pair):
    job, host = Comparison(build_request(PROMPT, max_new_tokens=40)), Host(lambda preset, progress: tiny_pair)
    host.answers = {PROMPT: QUESTIONS[0][1]}
    job.work(host)
    told = json.loads(job.message(0, over=True)[0])["verdicts"]
    for key, text in job.texts.items():
        right = is_right("".join(event.text for event in text.events), QUESTIONS[0][1])
        assert told[key] == ("✓ right" if right else "✗ wrong")
