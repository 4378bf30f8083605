"""One scheduler for all: every text is what it is alone, in a fair order, and ends within a step when it should."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from types import SimpleNamespace as Namespace
from typing import Any

import pytest
import torch

from engine import EngineError, InvalidRequest, Request, Role, RouterError, costs, extend, load_settings
from engine import pair as pair_module
from engine.batch.handle import Handle
from engine.batch.slots import common
from engine.events import charged
from engine.events.cost import modelled_seconds
from engine.policy import RouterPolicy
from engine.request import Turn
from engine.scheduler import Scheduler, fitting_rows
from tests.engine.test_rows import LONG, PLANE, expected, facts
from tests.engine.test_verified import GREEDY, PROMPTS, SAMPLED, asked

TIME = 120  # seconds, far more than any of this takes


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

    def __call__(self, _: Handle) -> None:
        self.reached.set()
        assert self.open.wait(TIME)


@contextmanager
def held(scheduler: Scheduler, **options) -> Iterator[Handle]:
    """The scheduler stands still within a step, in which it writes a text; it goes on when the block is left."""
    gate = Gate()
    handle = scheduler.submit(asked("hold", 1.01, **{"max_new_tokens": 3, **options}), "gate", listener=gate)
    assert gate.reached.wait(TIME)
    try:
        yield handle
    finally:
        gate.open.set()


def steps_seen(scheduler: Scheduler):
    """A listener that notes at which step each text had its first event; prompts are read at once from now on.

    How much of them is read in a step goes by measured seconds, and would decide, too.
    """
    first: dict[int, int] = {}
    setattr(scheduler, "_reading", lambda handles: 1000)  # noqa: B010  # pyright knows it as a method

    def listen(handle: Handle) -> None:
        first.setdefault(id(handle), scheduler.steps)

    return first, listen


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
@pytest.mark.parametrize("rows", [1, 3, 16])
def test_every_text_is_what_it_is_alone(tiny_pair, sampling, rows):
    chance = random.Random(rows)
    texts = [
        asked(chance.choice((*PROMPTS, LONG)), t, acceptance=a, seed=n, sampling=sampling, max_new_tokens=12)
        for n, (t, a) in enumerate(PLANE)
    ]
    with scheduling(tiny_pair, rows) as scheduler:
        with held(scheduler):
            batch = scheduler.submit_all(texts, "sweep")
            watched = [scheduler.submit(text, owner % 3) for owner, text in enumerate(texts)]
        for handle, text in zip(watched, texts, strict=True):
            assert handle.wait(TIME)
            assert facts(handle.events) == expected(tiny_pair, text)
        for event in batch:
            assert event.row < len(texts)
        for handle, text in zip(batch.handles, texts, strict=True):
            assert facts(handle.events) == expected(tiny_pair, text)
            assert [event.row for event in handle.stream] == [handle.batch_row] * len(handle.stream)


def test_events_come_as_they_are_written_and_fold_into_the_text(tiny_pair):
    text = asked(threshold=0.3, acceptance=0.6, seed=11, sampling=SAMPLED, max_draft=8)
    with scheduling(tiny_pair) as scheduler:
        handle, folded = scheduler.submit(text, "me"), []
        for event in handle:
            extend(folded, event)
        assert handle.state == "done"
    assert facts(folded) == expected(tiny_pair, text) == facts(handle.events)


def test_threads_that_submit_and_stop_at_random_leave_the_others_texts_alone(tiny_pair):
    texts = [asked(PROMPTS[n % 4], *PLANE[n][:1], acceptance=PLANE[n][1], seed=n) for n in range(len(PLANE))]
    wanted = [expected(tiny_pair, text) for text in texts]
    wrong: list[object] = []

    def visitor(number: int) -> None:
        chance = random.Random(number)
        for _ in range(4):
            n = chance.randrange(len(texts))
            handle = scheduler.submit(texts[n], number)
            count = sum(1 for _ in islice(handle, chance.choice((1, 2, 5, None))))
            if not handle.wait(TIME) or (handle.state == "done" and facts(handle.events) != wanted[n]):
                wrong.append((n, count, handle.state))

    with scheduling(tiny_pair, 3) as scheduler:
        threads = [threading.Thread(target=visitor, args=(n,)) for n in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(TIME)
        assert (scheduler.texts, scheduler.failures) == (20, 0)
        assert len(scheduler._held.decoding.rows) <= 3
    assert wrong == []


def test_a_cancelled_text_ends_within_a_step_and_the_others_go_on(tiny_pair):
    text = asked(threshold=0.7, acceptance=0.3)
    with scheduling(tiny_pair) as scheduler:
        with held(scheduler):
            other = scheduler.submit(text, "other")
            gate = Gate()
            handle = scheduler.submit(asked(LONG, 0.9), "me", listener=gate)
        assert gate.reached.wait(TIME)  # its first event
        handle.cancel()
        gate.open.set()
        assert handle.wait(TIME)
        assert handle.state == "stopped"
        assert len(handle.stream) == 1
        assert other.wait(TIME)
        assert facts(other.events) == expected(tiny_pair, text)


def test_a_text_that_waits_is_cancelled_without_a_row(tiny_pair):
    with scheduling(tiny_pair, 1) as scheduler:
        with held(scheduler):
            handle = scheduler.submit(asked(), "me")
            assert (handle.state, handle.place, handle.estimate) == ("waiting", 1, None)
            handle.cancel()
        assert handle.wait(TIME)
        assert (handle.state, handle.stream) == ("stopped", [])


@pytest.mark.parametrize("count", [1, 5])
def test_a_row_that_raises_ends_alone_with_its_error(tiny_pair, monkeypatch, count):
    score = RouterPolicy.score

    def damaged(policy, state):
        scores = score(policy, state)
        bad = [seed >= 100 and position >= 2 for seed, position in zip(state.seeds, state.positions, strict=True)]
        return scores.masked_fill(torch.tensor(bad), torch.nan)

    texts = [asked(PROMPTS[n % 4], 0.7, acceptance=0.3, seed=n) for n in range(count)]
    wanted = [expected(tiny_pair, text) for text in texts]
    monkeypatch.setattr(RouterPolicy, "score", damaged)
    with scheduling(tiny_pair) as scheduler:
        with held(scheduler):
            handles = [scheduler.submit(text, n) for n, text in enumerate(texts)]
            bad = [scheduler.submit(asked(PROMPTS[n], 0.7, seed=100 + n), n) for n in range(2)]
        for handle in bad:
            with pytest.raises(RouterError, match="no number"):
                list(handle)
            assert (handle.state, len(handle.stream)) == ("failed", 2)
        for handle, text in zip(handles, wanted, strict=True):
            assert handle.wait(TIME)
            assert facts(handle.events) == text
        again = scheduler.submit(texts[0], "later")
        assert again.wait(TIME)
        assert facts(again.events) == wanted[0]
        assert scheduler.failures == 2


def test_an_error_that_is_no_engine_error_is_told_as_it_is(tiny_pair, monkeypatch):
    with scheduling(tiny_pair) as scheduler:
        add = scheduler._held.decoding._add

        def broken(step, token):
            if step.row.request.seed == 100:
                raise ValueError("the tokenizer")
            add(step, token)

        monkeypatch.setattr(scheduler._held.decoding, "_add", broken)
        with held(scheduler):
            good, bad = scheduler.submit(asked(), 1), scheduler.submit(asked(seed=100), 2)
        with pytest.raises(ValueError, match="the tokenizer"):
            list(bad)
        assert good.wait(TIME)
    assert facts(good.events) == expected(tiny_pair, asked())


def test_a_listener_that_is_gone_ends_its_text_only_and_nobodys_words_are_in_the_log(tiny_pair, caplog):
    def gone(handle: Handle) -> None:
        raise ConnectionError(f"while it got {handle.order.request.prompt}")

    with scheduling(tiny_pair) as scheduler:
        with held(scheduler):
            other = scheduler.submit(asked(), "other")
            handle = scheduler.submit(asked(), "me", listener=gone)
        assert handle.wait(TIME)
        assert (handle.state, len(handle.stream)) == ("stopped", 1)
        assert other.wait(TIME)
        assert other.state == "done"
    assert "listener of a text is gone: ConnectionError at" in caplog.text and asked().prompt not in caplog.text


def test_a_fault_of_the_schedulers_own_ends_all_texts_and_not_their_words_in_the_log(tiny_pair, monkeypatch, caplog):
    with scheduling(tiny_pair) as scheduler:
        monkeypatch.setattr(scheduler, "_arrange", lambda: int(asked().prompt))
        handle = scheduler.submit(asked(), "me")
        assert handle.wait(TIME)
    assert handle.state == "failed" and "the scheduler failed: ValueError at" in caplog.text
    assert asked().prompt not in caplog.text


def test_texts_whose_rows_cannot_be_freed_either_end_with_their_error_and_later_ones_are_served(tiny_pair, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("the device is gone")

    with scheduling(tiny_pair) as scheduler:
        decoding = scheduler._held.decoding
        monkeypatch.setattr(decoding, "step", fail)
        monkeypatch.setattr(decoding, "remove", fail)
        with held(scheduler):
            handles = [scheduler.submit(asked(PROMPTS[n]), n) for n in range(4)]
        for handle in handles:
            with pytest.raises(RuntimeError, match="the device is gone"):
                list(handle)
        monkeypatch.undo()
        again = scheduler.submit(asked(), "later")
        assert again.wait(TIME)
        assert facts(again.events) == expected(tiny_pair, asked())


def test_a_loop_that_is_left_stops_its_text(tiny_pair):
    with scheduling(tiny_pair) as scheduler:
        gate = Gate()
        handle = scheduler.submit(asked(threshold=0.0), "me", listener=gate)
        for _ in handle:
            break
        gate.open.set()
        assert handle.wait(TIME) and handle.state == "stopped"
        gate = Gate()
        batch = scheduler.submit_all([asked(), asked(PROMPTS[1])], "me", listener=gate)
        for _ in batch:
            break
        gate.open.set()
        assert all(each.wait(TIME) for each in batch.handles)
        assert {each.state for each in batch.handles} == {"stopped"}


def test_an_owner_with_one_text_need_not_wait_for_one_with_ten(tiny_pair):
    with scheduling(tiny_pair, 4) as scheduler:
        first, listen = steps_seen(scheduler)
        with held(scheduler):
            many = [scheduler.submit(asked(PROMPTS[n % 4], 1.01, seed=n), "many") for n in range(10)]
            one = scheduler.submit(asked(), "one", listener=listen)
            assert one.place == 0
            assert many[-1].place == 8
            begun = scheduler.steps
        assert one.wait(TIME)
        assert first[id(one)] <= begun + 2
        assert all(handle.wait(TIME) for handle in many)
        for n, handle in enumerate(many):
            assert facts(handle.events) == expected(tiny_pair, asked(PROMPTS[n % 4], 1.01, seed=n))


def test_an_owner_who_comes_later_gets_a_row_of_one_who_has_all(tiny_pair):
    with scheduling(tiny_pair, 4) as scheduler:
        gate = Gate()
        first, listen = steps_seen(scheduler)
        with held(scheduler):
            many = [scheduler.submit(asked(PROMPTS[n], 1.01, seed=n), "many") for n in range(4)]
            many[0].batch._listener = gate
        assert gate.reached.wait(TIME)  # all four are being written
        one, begun = scheduler.submit(asked(), "one", listener=listen), scheduler.steps
        gate.open.set()
        assert one.wait(TIME)
        assert first[id(one)] <= begun + 2
        for n, handle in enumerate(many):
            assert handle.wait(TIME)
            assert facts(handle.events) == expected(tiny_pair, asked(PROMPTS[n], 1.01, seed=n))


def test_a_batch_gives_way_to_an_interactive_text_within_a_step_and_goes_on_afterwards(tiny_pair):
    texts = [asked(PROMPTS[n % 4], 0.9, acceptance=0.3, seed=n) for n in range(6)]
    with scheduling(tiny_pair, 2) as scheduler:
        gate = Gate()
        first, listen = steps_seen(scheduler)
        batch = scheduler.submit_all(texts, "sweep", listener=gate)
        assert gate.reached.wait(TIME)
        begun = scheduler.steps
        watched = [scheduler.submit(asked(seed=n), "me", listener=listen) for n in range(3)]
        gate.open.set()
        for n, handle in enumerate(watched):
            assert handle.wait(TIME)
            assert facts(handle.events) == expected(tiny_pair, asked(seed=n))
        assert all(first[id(handle)] <= begun + 2 for handle in watched[:2])
        assert all(handle.wait(TIME) for handle in batch.handles)
        for handle, text in zip(batch.handles, texts, strict=True):
            assert facts(handle.events) == expected(tiny_pair, text)


def test_rows_never_exceed_the_bound_and_memory_does_not_grow(tiny_pair):
    with scheduling(tiny_pair, 3) as scheduler:
        sizes: list[int] = []

        def count(_: Handle) -> None:
            rows = scheduler._held.decoding.rows
            sizes.append(sum(row.slot >= 0 for row in rows))

        def shapes():
            caches: dict[Role, Any] = {**scheduler._held.decoding._caches}
            return {role: cache.keys[0].shape for role, cache in caches.items()}

        handles = []
        for n in range(200):
            text = asked(PROMPTS[n % 4], (0.0, 0.9)[n % 2], seed=n, max_new_tokens=3)
            handles.append(scheduler.submit(text, n % 7, interactive=n % 3 > 0, listener=count))
            if n == 40:
                assert handles[n].wait(TIME)
                early = shapes()
        assert all(handle.wait(TIME) for handle in handles)
        assert shapes() == early
        assert all(shape[0] == 3 for shape in early.values()), "room for the rows that there may be, and for no more"
        assert max(sizes) <= 3
        assert len(scheduler._held.decoding.rows) <= 3
        assert (scheduler.texts, scheduler.rows, scheduler.waiting) == (200, 0, 0)


def test_a_sweep_shares_its_beginning(tiny_pair):
    texts = [asked(LONG, threshold, max_new_tokens=6) for threshold in (0.0, 0.3, 0.5, 0.7, 0.9)]
    with scheduling(tiny_pair) as scheduler:
        fed = tiny_pair.slm.fed
        batch = scheduler.submit_all(texts, "sweep")
        assert all(handle.wait(TIME) for handle in batch.handles)
        prompt = len(tiny_pair.prepare(texts[0])[1])
        assert tiny_pair.slm.fed - fed <= prompt + 5 * 6


def test_a_prompt_of_many_texts_is_encoded_once(tiny_pair, monkeypatch):
    encoded, render = [], pair_module.render

    def noted(tokenizer, request, *rest):
        encoded.append(request.prompt)
        return render(tokenizer, request, *rest)

    monkeypatch.setattr(pair_module, "render", noted)
    one, other, raw = Request("1 + 1?", max_new_tokens=1), Request("2 + 2?", max_new_tokens=1), "(ids)"
    asked = [*(replace(one, seed=n, threshold=n / 4) for n in range(4)), other, one, replace(one, raw=True)]
    asked += [Request(raw, raw=True, max_new_tokens=1)] * 2
    prompts = [None] * 7 + [[5, 6], None]
    with scheduling(tiny_pair, 2) as writing:
        batch = writing.submit_all(asked, "me", prompts=prompts)
        assert encoded == ["1 + 1?", "2 + 2?", "1 + 1?", "1 + 1?", raw]
        found = [handle.order.prompt for handle in batch.handles]
    wanted = [
        list(ids) if ids else render(tiny_pair.tokenizer, request) for request, ids in zip(asked, prompts, strict=True)
    ]
    assert found == wanted


def test_a_long_prompt_does_not_hold_up_a_text_that_is_being_written(tiny_pair, monkeypatch):
    with scheduling(tiny_pair) as scheduler:
        monkeypatch.setattr(scheduler, "_reading", lambda handles: 40)
        order: list[str] = []
        with held(scheduler):
            scheduler.submit(asked(threshold=0.0), "short", listener=lambda handle: order.append("short"))
            long = scheduler.submit(asked(LONG, 1.01), "long", listener=lambda handle: order.append("long"))
        assert long.wait(TIME)
    assert order.index("long") >= 3, order


def test_of_a_long_prompt_so_much_is_read_in_a_step_as_half_a_step_has_time_for(tiny_pair, monkeypatch):
    flat = replace(tiny_pair.llm_cost, pass_seconds=1.0, pass_table=((1, 1.0), (8, 2.0), (32, 2.6)))  # 0.025 a token
    monkeypatch.setattr(tiny_pair.llm, "cost", flat)
    with scheduling(tiny_pair) as scheduler:
        handles: list[Any] = [Namespace(slot=n) for n in range(8)]
        assert scheduler._reading(handles) == 64, "no step was measured yet"
        for step, tokens in ((4.0, 80), (1.0, 16), (0.1, 16)):
            scheduler._mean_step = step
            assert scheduler._reading(handles) == tokens
        assert scheduler._reading(handles[:1]) == 512, "nobody waits for it"


def test_the_dial_is_live(tiny_pair):
    with scheduling(tiny_pair) as scheduler:
        gate = Gate()
        handle = scheduler.submit(asked(threshold=0.0), "me", listener=gate)
        assert gate.reached.wait(TIME)
        handle.dial.threshold = 1.01
        gate.open.set()
        assert handle.wait(TIME)
    assert [event.role for event in handle.events] == [Role.SLM] + [Role.LLM] * (len(handle.events) - 1)


def test_a_dial_that_is_moved_while_a_text_waits_holds_from_its_first_token(tiny_pair):
    with scheduling(tiny_pair, 1) as scheduler:
        with held(scheduler):
            handle = scheduler.submit(asked(threshold=0.0), "me")
            handle.dial.threshold = 1.01
        assert handle.wait(TIME)
    assert {event.role for event in handle.events} == {Role.LLM}


@pytest.mark.parametrize("rows", [1, 4])
@pytest.mark.parametrize("acceptance", [0.0, 0.5])
def test_a_finished_text_is_gone_on_from_without_reading_what_stays(tiny_pair, rows, acceptance):
    low, high = asked(LONG, 0.9, acceptance=acceptance), asked(LONG, 1.01, acceptance=acceptance)
    with scheduling(tiny_pair, rows) as scheduler:
        origin = scheduler.submit(low, "me")
        assert origin.wait(TIME)
        kept, fed = origin.events[:5], tiny_pair.slm.fed
        handle = scheduler.submit(high, "me", after=origin, events=[replace(e, finish_reason=None) for e in kept])
        assert handle.wait(TIME)
        assert tiny_pair.slm.fed - fed <= len(handle.events) - 5 + 1
        assert [e.id for e in handle.events[:5]] == [e.id for e in kept]
        assert {e.role for e in handle.events[5:]} == {Role.LLM}
        assert facts(origin.events) == expected(tiny_pair, low)
        branch = scheduler.submit(high, "me", after=origin, events=kept)  # its row is gone: it begins with a copy
        assert branch.wait(TIME)
        assert facts(branch.events) == facts(handle.events)


@pytest.mark.parametrize("rows", [1, 4])
def test_a_text_that_reached_its_limit_is_gone_on_from_with_a_higher_one(tiny_pair, rows):
    short, longer = (asked(LONG, 0.9, max_new_tokens=tokens) for tokens in (4, 200))
    with scheduling(tiny_pair, rows) as scheduler:
        origin = scheduler.submit(short, "me")
        assert origin.wait(TIME)
        assert origin.events[-1].finish_reason == "length"
        kept, fed = [replace(event, finish_reason=None) for event in origin.events], tiny_pair.slm.fed
        handle = scheduler.submit(longer, "me", after=origin, events=kept)
        assert handle.wait(TIME)
        assert (handle.state, handle.error) == ("done", None)
        assert tiny_pair.slm.fed - fed <= len(handle.events) - 4 + 1, "what stays is not read again"
        assert len(handle.events) > 12 and facts(handle.events) == expected(tiny_pair, longer)


def test_a_text_gone_on_from_before_the_llm_wrote_takes_the_seconds_of_all_that_is_charged(tiny_pair, monkeypatch):
    # Far slower than any machine, so that what was measured does not count.
    slow = replace(tiny_pair.llm_cost, pass_seconds=1.0, pass_table=((1, 1.0), (200, 1000.0)))
    monkeypatch.setattr(tiny_pair.llm, "cost", slow)
    with scheduling(tiny_pair, 1) as scheduler:
        origin = scheduler.submit(asked(LONG, 0.9), "me")
        assert origin.wait(TIME)
        first = next(event.index for event in origin.events if event.role is Role.LLM)
        assert first > 0
        again = scheduler.submit(asked(LONG, 0.9), "me", after=origin, events=origin.events[:first])
        assert again.wait(TIME)
    event = again.events[first]
    assert event.llm_fed == len(again.order.prompt) + first
    assert event.llm_seconds >= slow.seconds(event.llm_fed) - slow.seconds(1) > 100


@pytest.mark.parametrize("rows", [1, 4])
def test_the_next_prompt_of_a_conversation_is_read_on_from_the_text_before_it(tiny_pair, rows):
    first = asked(LONG, 0.9, alternatives=2)
    models = tiny_pair.slm, tiny_pair.llm
    with scheduling(tiny_pair, rows) as scheduler:
        before = scheduler.submit(first, "me")
        assert before.wait(TIME)
        answer = "".join(event.text for event in before.events)
        follow = asked(PROMPTS[1], 0.9, alternatives=2, turns=(Turn("user", LONG), Turn("assistant", answer)))
        assert before.row is not None
        prompt, read = tiny_pair.prepare(follow)[1], list(before.row.tokens)
        shared = common(read, prompt)
        assert shared > len(tiny_pair.prepare(first)[1]) + len(answer.split())
        fed = [model.fed for model in models]
        handle = scheduler.submit(follow, "me")
        assert handle.wait(TIME)
        new = len(prompt) - min(shared, len(read) - 1) + len(handle.events)
        assert all(0 < model.fed - was <= new for model, was in zip(models, fed, strict=True))
        assert facts(handle.events) == expected(tiny_pair, follow), "its figures are those of the whole conversation"
        event, cost = handle.events[0], tiny_pair.slm_cost
        assert event.slm_fed == len(prompt)
        assert event.slm_seconds >= cost.seconds(len(prompt)) - cost.seconds(len(prompt) - min(shared, len(read) - 1))
        back = scheduler.submit(first, "me", after=before, events=before.events[:3])
        assert back.wait(TIME)
        assert facts(back.events) == expected(tiny_pair, first)


def test_of_an_owner_who_left_the_caches_give_nothing_to_a_later_text(tiny_pair):
    with scheduling(tiny_pair, 1) as scheduler:
        assert scheduler.submit(asked(LONG), "me").wait(TIME)
        scheduler.leave("me")
        fed = tiny_pair.slm.fed
        again = scheduler.submit(asked(LONG), "you")
        assert again.wait(TIME)
        assert tiny_pair.slm.fed - fed >= len(tiny_pair.prepare(asked(LONG))[1])


def test_candidates_of_a_text_are_revealed_without_writing(tiny_pair):
    text = asked(threshold=0.0, alternatives=2, max_new_tokens=9)
    with scheduling(tiny_pair) as scheduler:
        plain = scheduler.submit(replace(text, alternatives=0), "me")
        assert plain.wait(TIME)
        handle = scheduler.submit(text, "me", events=plain.events, reveal=True, write=False)
        assert handle.wait(TIME)
        assert (handle.state, handle.stream) == ("done", [])
    found = {(each.index, each.role) for each in handle.revealed}
    assert found >= {(n, role) for n in range(len(plain.events) - 1) for role in Role}


@pytest.mark.parametrize("stopped", [False, True])
def test_an_audit_reads_a_long_text_in_pieces_between_which_others_write_and_it_can_be_stopped(tiny_pair, stopped):
    text = asked(LONG, 0.0, alternatives=2)
    events = tiny_pair.generate(replace(text, alternatives=0)).events
    written: list[int] = []  # of the other text, at each piece
    with scheduling(tiny_pair, 3) as scheduler:
        decoding = scheduler._held.decoding
        reveal = decoding.reveal

        def noting(row: int, reading: int | None = None):
            written.append(len(other.events))
            if stopped:
                audit.cancel()
            return reveal(row, reading)

        with held(scheduler):
            decoding.reveal = noting  # pyright: ignore[reportAttributeAccessIssue]
            other = scheduler.submit(asked(PROMPTS[1], 1.01), "you")
            audit = scheduler.submit(text, "me", events=events, reveal=True, write=False)
        assert audit.wait(TIME) and other.wait(TIME)
    assert facts(other.events) == expected(tiny_pair, asked(PROMPTS[1], 1.01))
    assert audit.state == ("stopped" if stopped else "done")
    found = {(each.index, each.role) for each in audit.revealed}
    everything = {(n, role) for n in range(len(events) - 1) for role in Role}
    assert (len(written) == 1 and found < everything) if stopped else (len(set(written)) > 2 and found >= everything)


def test_what_cannot_be_served_is_refused_at_once(tiny_pair):
    with scheduling(tiny_pair) as scheduler:
        with pytest.raises(InvalidRequest, match="tokens"):
            scheduler.submit(asked("word " * 3000), "me")
        assert (scheduler.texts, scheduler.waiting) == (0, 0)


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
    assert not closing.is_alive()
    assert not scheduler._thread.is_alive()
    assert (running.state, waiting.state) == ("stopped", "stopped")
    assert scheduler._held.decoding.rows == []
    with pytest.raises(EngineError, match="shut down"):
        scheduler.submit(asked(), "me")


def test_an_owner_who_leaves_leaves_nothing_behind(tiny_pair):
    with scheduling(tiny_pair, 4) as scheduler:
        done = scheduler.submit(asked(), "me")
        assert done.wait(TIME)
        with held(scheduler):
            other = scheduler.submit(asked(PROMPTS[1]), "you")
            mine = [scheduler.submit(asked(seed=n), "me") for n in range(2)]
            scheduler.leave("me")
        assert all(handle.wait(TIME) for handle in (*mine, other))
        assert [handle.state for handle in (*mine, other)] == ["stopped", "stopped", "done"]
        last = scheduler.submit(asked(PROMPTS[2]), "you")
        assert last.wait(TIME)
        assert {handle.owner for handle in scheduler._held.resting} <= {"you", "gate"}
    assert done.number is None


def test_there_is_an_estimate_once_a_text_has_ended(tiny_pair):
    with scheduling(tiny_pair, 1) as scheduler:
        assert scheduler.submit(asked(), "me").wait(TIME)
        with held(scheduler):
            handles = [scheduler.submit(asked(), "me") for _ in range(3)]
            estimates = [handle.estimate or 0.0 for handle in handles]
            assert [handle.place for handle in handles] == [1, 2, 3]
            assert 0 < estimates[0] < estimates[1] < estimates[2]
        assert handles[-1].wait(TIME)
        assert (handles[-1].place, handles[-1].estimate) == (0, 0.0)
        assert scheduler.tokens >= 4
        assert scheduler.seconds > 0


def test_rows_are_bounded_by_the_setting_and_by_memory(tiny_pair, monkeypatch):
    each = (tiny_pair.slm_cost.kv_bytes + tiny_pair.llm_cost.kv_bytes) * tiny_pair.context
    monkeypatch.setattr("engine.scheduler.memory_bytes", lambda: 4 * 5 * each)
    assert [fitting_rows(tiny_pair, rows) for rows in (1, 5, 16)] == [1, 5, 5]
    monkeypatch.setattr("engine.scheduler.memory_bytes", lambda: 1)
    assert fitting_rows(tiny_pair, 16) == 1
    monkeypatch.setattr("engine.scheduler.memory_bytes", lambda: 0)
    assert fitting_rows(tiny_pair, 32) == load_settings().rows == 32


def test_what_a_text_costs_is_what_it_costs_alone_also_where_steps_are_shared(tiny_pair):
    texts = [asked(PROMPTS[n], 0.4, acceptance=0.6, max_draft=8, seed=n) for n in range(4)]
    slm, llm = tiny_pair.slm_cost, tiny_pair.llm_cost
    with scheduling(tiny_pair) as scheduler:
        with held(scheduler) as gate:
            handles = [scheduler.submit(text, n) for n, text in enumerate(texts)]
        for handle in handles:
            assert handle.wait(TIME)
    assert any(event.taken_back for handle in handles for event in handle.events)
    written = sum(len(list(charged(handle.events))) for handle in (gate, *handles))
    assert scheduler.tokens == written, "what was taken back in the step that drafted it included"
    for handle, text in zip(handles, texts, strict=True):
        if handle.beside == len(handle.stream):
            alone, tokens = tiny_pair.generate(text).events, len(handle.order.prompt)
            assert costs(handle.events, tokens, slm, llm).run.seconds == pytest.approx(
                modelled_seconds(alone, slm, llm)
            )
    assert any(handle.beside == len(handle.stream) for handle in handles)
