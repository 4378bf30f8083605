"""A server that misbehaves, or is gone in the middle of many texts: no text is lost, and none is wrong.

Patience and time limits here are far longer than an answer takes on a busy machine: what runs into them is held.
"""

from __future__ import annotations

from concurrent.futures import wait
from contextlib import closing

import pytest

from engine import Role, ServerError
from engine.batch.text import Text
from engine.scheduler import Scheduler
from engine.served.connection import Connection
from engine.served.vllm import COMPLETIONS, MODELS
from tests.support.fake_llm_server import FakeServer, served
from tests.support.served_endpoint import eventually
from tests.support.served_pair import PROMPTS, asked, loaded

TIME = 400  # seconds, far more than any of this takes
MANY = [
    asked(PROMPTS[n % len(PROMPTS)], threshold, acceptance, seed=n)
    for n in range(20)
    for threshold, acceptance in ((0.3, 0.0), (0.6, 0.0), (0.9, 0.5), (0.6, 1.0), (1.01, 0.0))
]
LLM_ONLY = MANY[4]


@pytest.fixture(scope="module")
def expected(tiny_pair):
    """What the texts of `MANY` are, by (prompt, threshold, acceptance): greedy ones do not depend on the seed."""
    different = {(r.prompt, r.setting.threshold, r.setting.acceptance): r for r in MANY}
    traces = tiny_pair.generate_batch(list(different.values()))
    return {key: [event.id for event in trace.events] for key, trace in zip(different, traces, strict=True)}


def text_of(text: Text) -> list[int]:
    return [event.id for event in text.events]


def right(text: Text, expected) -> list[int]:
    request = text.request
    return expected[request.prompt, request.setting.threshold, request.setting.acceptance]


def finish(handles):
    for handle in handles:
        assert handle.wait(TIME), "a text hangs"


def hold_after(server: FakeServer, questions: int) -> None:
    """Waits until so many questions were asked; later ones are not answered."""
    server.fault = lambda number: "held" if number > questions else None
    eventually(lambda: server.asked > questions)


FAULTS = ("held", "cut", "500", "429", "json", "shape", "token")


def test_answers_that_fail_or_are_wrong_are_asked_for_again(tiny_pair, expected):
    with (
        served(tiny_pair) as server,
        loaded(server, llm_timeout=5.0) as pair,
        closing(Scheduler(pair)) as scheduler,
    ):
        server.fault = lambda number: FAULTS[number // 9 % len(FAULTS)] if number % 9 == 0 else None
        handles = scheduler.submit_all(MANY[:40], "one")
        eventually(lambda: server.asked > 40)
        server.stop()  # and is gone for a while
        eventually(lambda: "waiting" in pair.trouble)
        server.start()
        finish(handles)
        assert {handle.state for handle in handles} == {"done"}
        assert [text_of(handle) for handle in handles] == [right(handle, expected) for handle in handles]
        assert all(server.faults[fault] for fault in FAULTS), server.faults


def test_a_server_that_stays_wrong_or_fails_ends_the_texts_that_need_it_and_no_other(tiny_pair, expected):
    for fault, said, settings in (("token", "-1 is no token id", {}), ("500", "status 500", {"llm_patience": 0.1})):
        with (
            served(tiny_pair) as server,
            loaded(server, **settings) as pair,
            closing(Scheduler(pair)) as scheduler,
        ):
            server.fault = lambda _, fault=fault: fault
            texts = [asked(PROMPTS[0], 0.0), LLM_ONLY]  # they share a slot, and one needs no LLM
            alone, needs = scheduler.submit_all(texts, "one")
            finish([alone, needs])
            assert (alone.state, needs.state) == ("done", "failed") and not needs.events
            assert not [event for event in alone.events if event.role is Role.LLM]
            assert isinstance(needs.error, ServerError) and said in str(needs.error)
            server.fault = lambda _: None
            again = scheduler.submit(LLM_ONLY, "other")
            finish([again])
            assert text_of(again) == right(again, expected), again.error


# The connection


def test_a_question_that_is_not_answered_fails_alone(tiny_pair):
    with served(tiny_pair) as server, closing(Connection(server.url, None, 60.0, 1.0, 8)) as connection:
        server.fault = lambda _: "500"
        failing = connection.ask(COMPLETIONS, {}, dict)
        eventually(lambda: connection.trouble)
        while wait([failing], 0.1).not_done:
            assert connection.ask(MODELS, None, dict).result()["data"]
        with pytest.raises(ServerError, match="status 500"):
            failing.result(TIME)
        assert not connection.trouble


def test_questions_that_wait_for_a_place_have_an_end_too(tiny_pair):
    with served(tiny_pair) as server, closing(Connection(server.url, None, 0.1, 0.1, 2)) as connection:
        server.fault = lambda _: "held"
        asked = [connection.ask(COMPLETIONS, {}, dict) for _ in range(20)]
        assert all(isinstance(each.exception(TIME), ServerError) for each in asked)
        server.answers.set()
        assert not connection.trouble


# In the middle of many texts


def test_of_a_hundred_texts_none_is_lost_or_wrong_when_the_server_is_gone(tiny_pair, expected):
    with (
        served(tiny_pair) as server,
        loaded(server, llm_patience=0.3) as pair,
        closing(Scheduler(pair)) as scheduler,
    ):
        handles = scheduler.submit_all(MANY, "one")
        hold_after(server, 100)
        server.stop()
        finish(handles)
        ended = {state: [handle for handle in handles if handle.state == state] for state in ("done", "failed")}
        assert len(ended["done"]) + len(ended["failed"]) == len(MANY) and len(ended["failed"]) > 10
        for handle in ended["done"]:
            assert text_of(handle) == right(handle, expected)
        for handle in ended["failed"]:
            assert isinstance(handle.error, ServerError) and "stays" in str(handle.error)
            settled = [event.id for event in handle.events if not event.provisional]
            assert settled == right(handle, expected)[: len(settled)]
        server.fault = lambda _: None
        server.start()
        left = ended["failed"]
        new = [scheduler.submit(h.request, "one", events=h.events, interactive=False) for h in left]
        finish(new)
        for old, handle in zip(left, new, strict=True):
            assert handle.state == "done", handle.error
            assert [event.id for event in handle.events] == right(old, expected)
