"""One scheduler for all: every text is what it is alone, in a fair order, and ends within a step when it should."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice

import pytest
import torch

from engine import (
    EngineError,
    InvalidRequest,
    Request,
    Role,
    RouterError,
    Setting,
    WeightsError,
    costs,
    extend,
)
from engine.batch.prefixes import common, prefix_keys
from engine.batch.text import Text, follow
from engine.events import charged
from engine.events.cost import modelled_seconds
from engine.model import memory
from engine.policy import RouterPolicy
from engine.request import Turn
from engine.scheduler import Scheduler
from tests.support.texts import GREEDY, LONG, PLANE, PROMPTS, SAMPLED, asked, expected, facts

SAMPLINGS = (GREEDY, SAMPLED)
TIME = 300  # seconds, far more than any of this takes


@contextmanager
def scheduling(pair, rows: int = 16) -> Iterator[Scheduler]:
    scheduler = Scheduler(pair, rows)
    try:
        yield scheduler
    finally:
        scheduler.close()
        assert not scheduler._thread.is_alive()


class Gate:
    """A listener that holds the scheduler's thread still at the first event it hears of, until it is opened."""

    def __init__(self) -> None:
        self.reached, self.open = threading.Event(), threading.Event()

    def __call__(self, _: Text) -> None:
        self.reached.set()
        assert self.open.wait(TIME)


@contextmanager
def held(scheduler: Scheduler, **options) -> Iterator[Text]:
    """The scheduler stands still within a step, in which it writes a text; it goes on when the block is left."""
    gate = Gate()
    handle = scheduler.submit(asked("hold", 1.01, **{"max_new_tokens": 3, **options}), "gate", listener=gate)
    assert gate.reached.wait(TIME)
    try:
        yield handle
    finally:
        gate.open.set()


def written(scheduler: Scheduler, request: Request, owner: object = "me", **options) -> Text:
    """A text that has ended."""
    handle = scheduler.submit(request, owner, **options)
    assert handle.wait(TIME)
    return handle


def steps_seen(scheduler: Scheduler):
    """A listener that notes at which step each text had its first event; prompts are read at once from now on.

    How much of them is read in a step goes by measured seconds, and would decide, too.
    """
    first: dict[int, int] = {}
    setattr(scheduler, "_reading", lambda handles: 1000)  # noqa: B010  # pyright knows it as a method

    def listen(handle: Text) -> None:
        first.setdefault(id(handle), scheduler.steps)

    return first, listen


@pytest.mark.parametrize("rows", [1, 3, 16])
def test_every_text_is_what_it_is_alone(tiny_pair, rows):
    chance = random.Random(rows)
    texts = [
        asked(chance.choice((*PROMPTS, LONG)), t, acceptance=a, seed=n, sampling=SAMPLINGS[n % 2], max_new_tokens=12)
        for n, (t, a) in enumerate(PLANE)
    ]
    wanted = [expected(tiny_pair, text) for text in texts]
    with scheduling(tiny_pair, rows) as scheduler:
        with held(scheduler):
            batch = scheduler.submit_all(texts, "sweep")
            watched = [scheduler.submit(text, owner % 3) for owner, text in enumerate(texts)]
        folded = []
        for event in follow(watched[:1]):
            extend(folded, event)
        assert facts(folded) == wanted[0], "as its events come"
        for handle, text in zip(watched, wanted, strict=True):
            assert handle.wait(TIME) and handle.state == "done"
            assert facts(handle.events) == text
        rows = [event.row for event in follow(batch)]
        assert len(rows) >= sum(map(len, wanted)) and set(rows) == set(range(len(wanted)))
        assert [facts(text.events) for text in batch] == wanted


def test_threads_that_submit_and_stop_at_random_leave_other_texts_alone_and_get_no_more_rows_than_there_are(tiny_pair):
    texts = [asked(PROMPTS[n % 4], t, acceptance=a, seed=n) for n, (t, a) in enumerate(PLANE)]
    wanted = [expected(tiny_pair, text) for text in texts]
    wrong, most = [], 0

    def count(_: Text) -> None:
        nonlocal most
        rooms = [len(cache.lengths) for cache in decoding._caches.values()]
        most = max(most, len(decoding.texts), *rooms)

    def visitor(number: int) -> None:
        chance = random.Random(number)
        for turn in range(4):
            n = chance.randrange(len(texts))
            handle = scheduler.submit(texts[n], number, interactive=turn > 0, listener=count)
            heard = sum(1 for _ in islice(follow([handle]), chance.choice((1, 2, 5, None))))
            if not handle.wait(TIME) or (handle.state == "done" and facts(handle.events) != wanted[n]):
                wrong.append((n, heard, handle.state))

    with scheduling(tiny_pair, 3) as scheduler:
        decoding = scheduler._decoding
        threads = [threading.Thread(target=visitor, args=(n,)) for n in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(TIME)
        assert (scheduler.texts, scheduler.rows, scheduler.waiting) == (20, 0, 0)
    assert wrong == [] and 0 < most <= 3


def test_a_cancelled_text_ends_within_a_step_or_without_a_row_and_the_others_go_on(tiny_pair):
    text = asked(threshold=0.7, acceptance=0.3)
    with scheduling(tiny_pair, 3) as scheduler:
        with held(scheduler):
            other, gate = scheduler.submit(text, "other"), Gate()
            handle = scheduler.submit(asked(LONG, 0.9), "me", listener=gate)
            waits = scheduler.submit(asked(), "me")
            assert (waits.state, scheduler.place(waits), scheduler.estimate(waits)) == ("waiting", 1, None)
            waits.cancel()
        assert gate.reached.wait(TIME)  # its first event
        handle.cancel()
        gate.open.set()
        assert handle.wait(TIME) and waits.wait(TIME) and other.wait(TIME)
        assert (handle.state, len(handle.events)) == ("stopped", 1)
        assert (waits.state, waits.events) == ("stopped", [])
        assert facts(other.events) == expected(tiny_pair, text)


def test_a_row_that_raises_ends_alone_with_its_error(tiny_pair, monkeypatch):
    score = RouterPolicy.score

    def damaged(policy, state):
        scores = score(policy, state)
        bad = [seed >= 100 and position >= 2 for seed, position in zip(state.seeds, state.positions, strict=True)]
        return scores.masked_fill(torch.tensor(bad), torch.nan)

    texts = [asked(PROMPTS[n % 4], 0.7, acceptance=0.3, seed=n) for n in range(5)]
    wanted = [expected(tiny_pair, text) for text in texts]
    monkeypatch.setattr(RouterPolicy, "score", damaged)
    with scheduling(tiny_pair) as scheduler:
        with held(scheduler):
            handles = [scheduler.submit(text, n) for n, text in enumerate(texts)]
            bad = [scheduler.submit(asked(PROMPTS[n], 0.7, seed=100 + n), n) for n in range(2)]
        for handle in bad:
            with pytest.raises(RouterError, match="no number"):
                list(follow([handle]))
            assert (handle.state, len(handle.events)) == ("failed", 2)
        for handle, text in zip(handles, wanted, strict=True):
            assert handle.wait(TIME)
            assert facts(handle.events) == text
        assert facts(written(scheduler, texts[0]).events) == wanted[0]


def test_a_listener_that_is_gone_ends_its_text_only_and_nobodys_words_are_in_the_log(tiny_pair, caplog):
    def gone(handle: Text) -> None:
        raise ConnectionError(f"while it got {handle.request.prompt}")

    with scheduling(tiny_pair) as scheduler:
        with held(scheduler):
            other = scheduler.submit(asked(), "other")
            handle = scheduler.submit(asked(), "me", listener=gone)
        assert handle.wait(TIME) and other.wait(TIME)
        assert (handle.state, len(handle.events), other.state) == ("stopped", 1, "done")
    assert "ConnectionError" in caplog.text and asked().prompt not in caplog.text


def test_a_fault_of_the_schedulers_own_ends_all_texts_and_later_ones_are_served(tiny_pair, monkeypatch, caplog):
    def fail(*_, **__):
        raise RuntimeError(f"the device is gone at {asked().prompt}")

    with scheduling(tiny_pair) as scheduler:
        decoding = scheduler._decoding
        monkeypatch.setattr(decoding, "step", fail)
        monkeypatch.setattr(decoding, "remove", fail)
        with held(scheduler):
            handles = [scheduler.submit(asked(PROMPTS[n]), n) for n in range(4)]
        for handle in handles:
            with pytest.raises(RuntimeError, match="device"):
                list(follow([handle]))
        monkeypatch.undo()
        assert facts(written(scheduler, asked()).events) == expected(tiny_pair, asked())
    assert "RuntimeError" in caplog.text and asked().prompt not in caplog.text


def test_a_loop_that_is_left_stops_its_texts(tiny_pair):
    with scheduling(tiny_pair) as scheduler:
        gate = Gate()
        batch = scheduler.submit_all([asked(), asked(PROMPTS[1])], "me", listener=gate)
        for _ in follow(batch):
            break
        gate.open.set()
        assert all(each.wait(TIME) and each.state == "stopped" for each in batch)


def test_rows_go_to_interactive_texts_first_and_evenly_to_owners_and_nobodys_text_changes(tiny_pair):
    sweep = [asked(PROMPTS[n % 4], 0.9, acceptance=0.3, seed=n) for n in range(6)]
    mine = [asked(PROMPTS[n % 4], 1.01, seed=n) for n in range(10)]
    with scheduling(tiny_pair, 4) as scheduler:
        gate, (first, listen) = Gate(), steps_seen(scheduler)
        batch = scheduler.submit_all(sweep, "sweep", listener=gate)
        assert gate.reached.wait(TIME)  # the batch has all rows
        many = [scheduler.submit(text, "many", listener=listen) for text in mine]
        later, begun = Gate(), scheduler.steps
        many[3].listener = later
        gate.open.set()
        assert later.reached.wait(TIME)  # and now one owner has them
        assert all(first[id(handle)] <= begun + 2 for handle in many[:3])
        one, begun = scheduler.submit(asked(), "one", listener=listen), scheduler.steps
        assert [scheduler.place(each) for each in (one, many[-1])] == [1, 7], "one text need not wait for ten"
        later.open.set()
        assert one.wait(TIME) and first[id(one)] <= begun + 2, "it gets a row of who has more"
        for handle, text in zip([*many, *batch], [*mine, *sweep], strict=True):
            assert handle.wait(TIME)
            assert facts(handle.events) == expected(tiny_pair, text)


def test_a_dial_holds_from_the_next_token_also_of_a_text_that_waits(tiny_pair):
    with scheduling(tiny_pair, 2) as scheduler:
        gate = Gate()
        handle = scheduler.submit(asked(threshold=0.0), "me", listener=gate)
        assert gate.reached.wait(TIME)
        waits = scheduler.submit(asked(threshold=0.0), "me")
        handle.setting = waits.setting = Setting("confidence", 1.01)
        gate.open.set()
        assert handle.wait(TIME) and waits.wait(TIME)
    assert [event.role for event in handle.events] == [Role.SLM] + [Role.LLM] * (len(handle.events) - 1)
    assert {event.role for event in waits.events} == {Role.LLM}


@pytest.mark.parametrize("rows", [1, 4])
def test_a_finished_text_is_gone_on_from_without_reading_what_stays(tiny_pair, rows):
    low, high = asked(LONG, 0.9, acceptance=0.5), asked(LONG, 1.01, acceptance=0.5)
    with scheduling(tiny_pair, rows) as scheduler:
        origin = written(scheduler, low)
        kept, fed = origin.events[:5], tiny_pair.slm.fed
        handle = written(scheduler, high, events=kept)
        assert tiny_pair.slm.fed - fed <= len(handle.events) - 5 + 1
        assert [e.id for e in handle.events[:5]] == [e.id for e in kept]
        assert {e.role for e in handle.events[5:]} == {Role.LLM}
        assert facts(origin.events) == expected(tiny_pair, low)
        branch = written(scheduler, high, events=kept)
        assert facts(branch.events) == facts(handle.events)


def test_a_text_at_its_limit_is_gone_on_from_with_one_that_its_cache_has_no_room_for(tiny_pair):
    longer = asked(LONG, 1.01, max_new_tokens=30)
    with scheduling(tiny_pair, 1) as scheduler:
        origin = written(scheduler, replace(longer, max_new_tokens=4))
        kept = [replace(event, finish_reason=None) for event in origin.events]
        assert facts(written(scheduler, longer, events=kept).events) == expected(tiny_pair, longer)


def test_the_next_prompt_of_a_conversation_is_read_on_from_the_text_before_it(tiny_pair):
    first = asked(LONG, 0.9, alternatives=2)
    models = tiny_pair.slm, tiny_pair.llm
    with scheduling(tiny_pair) as scheduler:
        before = written(scheduler, first)
        answer = "".join(event.text for event in before.events)
        follow_up = asked(PROMPTS[1], 0.9, alternatives=2, turns=(Turn("user", LONG), Turn("assistant", answer)))
        (prompt,) = (text.tokens for text in tiny_pair.texts([follow_up]))
        read = list(before.tokens)
        shared = common(prefix_keys([], read), prefix_keys([], prompt))
        assert shared > before.prompt_tokens + len(answer.split())
        fed = [model.fed for model in models]
        handle = written(scheduler, follow_up)
        new = len(prompt) - min(shared, len(read) - 1) + len(handle.events)
        assert all(0 < model.fed - was <= new for model, was in zip(models, fed, strict=True))
        assert facts(handle.events) == expected(tiny_pair, follow_up), "its figures are those of the whole conversation"
        assert handle.events[0].slm_fed == len(prompt)
        back = written(scheduler, first, events=before.events[:3])
        assert facts(back.events) == expected(tiny_pair, first)


def test_of_an_owner_who_left_nothing_is_written_or_kept(tiny_pair):
    with scheduling(tiny_pair, 1) as scheduler:
        written(scheduler, asked(LONG))
        with held(scheduler):
            other = scheduler.submit(asked(PROMPTS[1]), "you")
            mine = [scheduler.submit(asked(LONG, seed=n), "me") for n in range(2)]
            scheduler.leave("me")
        assert all(handle.wait(TIME) for handle in (*mine, other))
        assert [handle.state for handle in (*mine, other)] == ["stopped", "stopped", "done"]
        last = scheduler.submit(asked(LONG), "you", listener=(gate := Gate()))
        assert gate.reached.wait(TIME)
        scheduler.leave("you")
        gate.open.set()
        assert last.wait(TIME)
        fed = tiny_pair.slm.fed
        written(scheduler, asked(LONG), "another")
        assert tiny_pair.slm.fed - fed >= last.prompt_tokens, "its prompt is read anew"


def test_closing_ends_all_texts_and_the_thread_and_frees_the_caches(tiny_pair):
    scheduler = Scheduler(tiny_pair, 1)
    gate = Gate()
    running = scheduler.submit(asked(threshold=0.0), "me", listener=gate)
    waiting = scheduler.submit(asked(), "you")
    assert gate.reached.wait(TIME)
    closing = threading.Thread(target=scheduler.close)
    closing.start()
    while not scheduler._closed:
        closing.join(0.001)
    gate.open.set()
    closing.join(TIME)
    assert not closing.is_alive() and not scheduler._thread.is_alive()
    assert (running.state, waiting.state) == ("stopped", "stopped")
    assert scheduler._decoding.texts == []
    with pytest.raises(EngineError, match="shut down"):
        scheduler.submit(asked(), "me")


def test_there_is_an_estimate_once_a_text_has_ended(tiny_pair):
    with scheduling(tiny_pair, 1) as scheduler:
        written(scheduler, asked())
        with held(scheduler):
            handles = [scheduler.submit(asked(), "me") for _ in range(3)]
            estimates = [scheduler.estimate(handle) or 0.0 for handle in handles]
            assert [scheduler.place(handle) for handle in handles] == [1, 2, 3] and 0 < estimates[0] < estimates[
                1
            ] < estimates[2]
        assert handles[-1].wait(TIME) and (scheduler.place(handles[-1]), scheduler.estimate(handles[-1])) == (0, 0.0)


def test_what_cannot_be_served_is_refused_before_anything_waits(tiny_pair):
    with scheduling(tiny_pair) as scheduler:
        with pytest.raises(InvalidRequest, match="tokens"):
            scheduler.submit_all([asked(), asked("word " * 3000)], "me")
        assert (scheduler.texts, scheduler.waiting) == (0, 0)


def test_texts_at_once_are_as_many_as_memory_holds_and_none_is_refused_with_the_numbers(tiny_pair, monkeypatch):
    row = (tiny_pair.slm_cost.kv_bytes + tiny_pair.llm_cost.kv_bytes) * tiny_pair.context
    for gigabytes, rows in ((0, 16), (1000, 16), (1.5, 16)):
        monkeypatch.setattr(memory, "memory_bytes", lambda _, size=gigabytes: int(size * 1e9))
        assert memory.rows_that_fit(tiny_pair, 16) == rows
    monkeypatch.setattr(memory, "TEXTS", int(1.5e9) - memory.LIBRARIES - memory.WORK - 5 * row)
    assert memory.rows_that_fit(tiny_pair, 16) == 4, "the weights take some of it"
    monkeypatch.undo()
    monkeypatch.setattr(tiny_pair, "memory", 1.0)
    with pytest.raises(WeightsError, match=r"at most 1\.4 GB .* of 1\.0 GB.*CITER_MEMORY"):
        Scheduler(tiny_pair, 16)


def test_passes_are_timed_anew_when_nothing_is_written_after_steps_took_another_time_than_they_say(
    tiny_pair, monkeypatch
):
    timed = threading.Event()
    monkeypatch.setattr("engine.scheduler._COMPARED", 0.0)
    monkeypatch.setattr("engine.scheduler._QUIET", 0.01)
    monkeypatch.setattr("engine.scheduler.modelled_seconds", lambda *_: 100.0)
    monkeypatch.setattr(tiny_pair, "timed", True)
    monkeypatch.setattr(tiny_pair, "calibrate", timed.set)
    with scheduling(tiny_pair) as scheduler:
        assert not timed.wait(0.1)
        assert scheduler.submit(asked(), "me").wait(TIME)
        assert timed.wait(TIME) and not tiny_pair.timed


def test_what_a_text_costs_is_what_it_costs_alone_also_where_steps_are_shared(tiny_pair):
    texts = [asked(PROMPTS[n], 0.4, acceptance=0.6, max_draft=8, seed=n) for n in range(4)]
    slm, llm = tiny_pair.slm_cost, tiny_pair.llm_cost
    with scheduling(tiny_pair) as scheduler:
        with held(scheduler) as gate:
            handles = [scheduler.submit(text, n) for n, text in enumerate(texts)]
        assert all(handle.wait(TIME) for handle in handles)
    assert any(event.taken_back for handle in handles for event in handle.events)
    tokens = sum(len(list(charged(handle.events))) for handle in (gate, *handles))
    assert scheduler.tokens == tokens, "what was taken back in the step that drafted it included"
    for handle, text in zip(handles, texts, strict=True):
        run = costs(handle.events, handle.prompt_tokens, slm, llm).run
        assert run.seconds == pytest.approx(modelled_seconds(tiny_pair.generate(text).events, slm, llm))
