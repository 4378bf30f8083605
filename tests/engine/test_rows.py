"""Rows come and go between steps, and long prompts are read in pieces: each text stays what it is alone."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import product

import pytest
import torch

from engine import Request, Role, RouterError, Trace, fold_revealed
from engine.batch.reading import SHORT
from engine.decoding import Decoding
from engine.pair import Pair
from engine.policy import Policy, RouterPolicy
from engine.request import Forced
from tests.engine.test_decoding import request
from tests.engine.test_verified import GREEDY, PROMPTS, SAMPLED, asked

LONG = " ".join(PROMPTS)  # over 100 tokens of the tiny pair's
PLANE = list(product((0.0, 0.3, 0.9, 1.01), (0.0, 0.3, 1.0)))


def facts(events):
    """All that events say but for the clock, the batch, and the batch's rounding."""
    fields = ("index", "id", "text", "role", "threshold", "acceptance", "slm_fed", "llm_fed", "slm_head", "llm_head")
    others = ("router", "provisional", "finish_reason")
    return [
        [*(getattr(e, name) for name in (*fields, *others)), [lost.id for lost in e.taken_back]]
        for e in fold_revealed(events)
    ]


def add(pair: Pair, decoding: Decoding, *requests: Request, policies: list[Policy] | None = None) -> list[int]:
    prepared = [pair.prepare(each) for each in requests]
    return decoding.add(requests, policies or [policy for policy, _ in prepared], [prompt for _, prompt in prepared])


def expected(pair: Pair, asked_for: Request):
    return facts(pair.generate(asked_for).events)


def requests_of(chance: random.Random, sampling, count: int) -> list[Request]:
    prompts = (*PROMPTS, LONG, PROMPTS[0])
    return [
        asked(
            prompts[chance.randrange(len(prompts))],
            threshold,
            acceptance=acceptance,
            seed=n,
            sampling=sampling,
            max_draft=chance.choice((3, 8, "auto")),
            max_new_tokens=chance.randint(4, 24),
            policy=chance.choice(("router", "router", "confidence", "random")),
            alternatives=chance.choice((0, 0, 2)),
        )
        for n, (threshold, acceptance) in enumerate(chance.choices(PLANE, k=count))
    ]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_a_text_is_what_it_is_alone_whoever_joins_and_leaves_and_however_prompts_are_read(tiny_pair, sampling, seed):
    chance = random.Random(seed)
    waiting = requests_of(chance, sampling, 14)
    wanted = [expected(tiny_pair, each) for each in waiting]
    decoding, running, parked, done = tiny_pair.open(), {}, [], {}
    while waiting or running or parked:
        while waiting and len(running) < 6 and chance.random() < 0.5:
            group = [waiting.pop() for _ in range(min(len(waiting), chance.randint(1, 2)))]
            for number, text in zip(add(tiny_pair, decoding, *group), group, strict=True):
                running[number] = text
        if running and chance.random() < 0.15:  # gives its row up for a while
            number = chance.choice(list(running))
            parked.append((decoding.remove(number), running.pop(number)))
        if parked and len(running) < 6 and chance.random() < 0.3:
            row, text = parked.pop(0)
            running[decoding.enter([row])[0]] = text
        told = [number for number in running if chance.random() < 0.8]
        for event in decoding.step(told, chance.choice((None, 1, 7, 40))):
            assert event.row in told
            assert len(set(map(id, decoding.rows))) == len(decoding.rows)
            if event.finish_reason:
                done[running.pop(event.row).seed] = decoding.remove(event.row).events
    assert len(decoding.rows) <= 7
    assert len(done) == 14
    for number, text in done.items():
        assert facts(text) == wanted[number]


def test_a_long_prompt_is_read_in_pieces_between_the_steps_of_a_text_that_is_being_written(tiny_pair):
    short, long = asked(threshold=0.7), asked(LONG, 0.7, acceptance=0.3)
    decoding = tiny_pair.open()
    (first,) = add(tiny_pair, decoding, short)
    decoding.step()
    (second,) = add(tiny_pair, decoding, long)
    steps = 0
    while not decoding.rows[second].events:
        fed = tiny_pair.slm.fed, tiny_pair.llm.fed
        rows = [event.row for event in decoding.step(reading=50)]
        assert rows[:1] == [first], "it waits for nobody"
        assert tiny_pair.slm.fed - fed[0] <= 50 + SHORT
        assert tiny_pair.llm.fed - fed[1] <= 50 + 2 * SHORT
        steps += 1
    assert steps > len(tiny_pair.prepare(long)[1]) // 50
    decoding.finish()
    assert facts(decoding.rows[second].events) == expected(tiny_pair, long)
    assert facts(decoding.rows[first].events) == expected(tiny_pair, short)


@pytest.mark.parametrize("alternatives", [0, 2])
def test_where_the_llm_reads_for_one_text_it_reads_ahead_of_another_that_it_has_fallen_behind(tiny_pair, alternatives):
    seldom = asked(
        threshold=0.0,
        max_new_tokens=24,
        alternatives=alternatives,
        forced=(Forced(0, Role.LLM), Forced(20, Role.LLM)),
    )
    never, always = replace(seldom, prompt=PROMPTS[1], forced=()), asked(PROMPTS[2], 1.01, max_new_tokens=24)

    def behind(reading: int | None) -> list[int]:
        decoding, most = tiny_pair.open(), [0, 0]
        numbers = add(tiny_pair, decoding, seldom, never, always)
        cache = decoding._caches[Role.LLM]
        while any(decoding.rows[number].unfinished for number in numbers):
            decoding.step(reading=reading)
            for n, number in enumerate(numbers[:2]):
                if (row := decoding.rows[number]).position:
                    most[n] = max(most[n], len(row.tokens) - cache.lengths[row.slot])
        for number, text in zip(numbers, (seldom, never, always), strict=True):
            events, alone = decoding.rows[number].events, tiny_pair.generate(text).events
            assert facts(events) == facts(alone)
            for one, other in zip(fold_revealed(events), fold_revealed(alone), strict=True):
                assert [a.id for a in one.llm_alternatives] == [a.id for a in other.llm_alternatives]
        return most

    lazy, unread = behind(None)
    assert lazy == 20
    assert behind(64) == [9, unread], "8 may stay unread, and one is being written; who never asks is not read ahead"


def test_who_has_little_to_catch_up_with_does_not_wait_until_a_long_prompt_is_read(tiny_pair):
    decoding = tiny_pair.open()
    (writes,) = add(tiny_pair, decoding, asked(threshold=0.0, max_new_tokens=60))
    row = decoding.rows[writes]
    while row.position < SHORT + 4:
        decoding.step()
    row.dial.threshold = 1.01  # the LLM has to read all of it, more than is read at once
    (long,) = add(tiny_pair, decoding, asked(LONG, policy="llm"))
    steps, before = 0, len(row.events)
    while len(row.events) == before:
        decoding.step([long, writes], reading=16)
        steps += 1
    assert len(row.tokens) - 1 > SHORT
    assert not decoding.rows[long].events
    assert steps <= len(row.tokens) // 16 + 1


@pytest.mark.parametrize(
    "options", [{}, {"acceptance": 0.5}, {"alternatives": 3}, {"acceptance": 1.0, "alternatives": 2}]
)
def test_reading_in_pieces_feeds_no_token_twice_and_finds_the_same(tiny_pair, options):
    text = asked(LONG, 0.9, **options)
    whole = tiny_pair.generate(text)
    before = tiny_pair.slm.fed, tiny_pair.llm.fed
    whole = tiny_pair.generate(text)
    fed = tiny_pair.slm.fed - before[0], tiny_pair.llm.fed - before[1]
    before = tiny_pair.slm.fed, tiny_pair.llm.fed
    decoding = tiny_pair.start([text])
    while decoding.active:
        decoding.step(reading=16)
    assert (tiny_pair.slm.fed - before[0], tiny_pair.llm.fed - before[1]) == fed
    pieces: Trace = tiny_pair.trace(text, decoding.rows[0].events)
    assert facts(pieces.events) == facts(whole.events)
    for one, other in zip(pieces.events, whole.events, strict=True):
        for name in ("slm_alternatives", "llm_alternatives"):
            assert [each.id for each in getattr(one, name)] == [each.id for each in getattr(other, name)]
    assert pieces.events[0].slm_seconds > 0


def test_a_text_that_comes_later_copies_what_another_has_read_of_its_prompt(tiny_pair):
    decoding = tiny_pair.open()
    add(tiny_pair, decoding, asked(LONG, 1.01))
    decoding.step()
    fed = tiny_pair.slm.fed, tiny_pair.llm.fed
    (late,) = add(tiny_pair, decoding, asked(LONG, 0.9, seed=1))
    decoding.step([late])
    assert tiny_pair.slm.fed - fed[0] == 1
    assert tiny_pair.llm.fed - fed[1] <= 1
    decoding.finish()
    assert facts(decoding.rows[late].events) == expected(tiny_pair, asked(LONG, 0.9, seed=1))


def test_a_row_that_sits_out_while_those_it_shares_a_slot_with_go_on_is_what_it_is_alone(tiny_pair):
    texts = [asked(threshold=0.3, acceptance=0.6, seed=11, sampling=SAMPLED)] * 3
    decoding = tiny_pair.start(texts)
    for n in range(20):
        decoding.step([0, 1] if n % 3 else [2])
    decoding.finish()
    for row in decoding.rows:
        assert facts(row.events) == expected(tiny_pair, texts[0])


def test_slots_and_numbers_are_used_again(tiny_pair):
    decoding = tiny_pair.open()
    for n in range(60):
        while sum(row.unfinished for row in decoding.rows) < 3:
            add(tiny_pair, decoding, asked(PROMPTS[n % 4], 0.9, seed=n, max_new_tokens=3 + n % 5))
        for event in decoding.step():
            if event.finish_reason:
                decoding.remove(event.row)
    assert len(decoding.rows) == 3
    assert {len(cache.lengths) for cache in decoding._caches.values()} <= {3, 4}


def test_caches_that_grow_keep_what_they_hold(random_pair):
    texts = [request("x" * n, threshold=0.3, max_new_tokens=3 * n) for n in (1, 12, 30)]
    decoding = random_pair.open()
    for text in texts:
        add(random_pair, decoding, text)
        decoding.step()
    decoding.finish()
    for text, row in zip(texts, decoding.rows, strict=True):
        assert facts(row.events) == expected(random_pair, text)


class _FailsAt(Policy):
    """A policy whose score is an error from a position on."""

    def __init__(self, policy: Policy, position: int) -> None:
        self.policy, self.position = policy, position
        self.needs_logits, self.runs_router = policy.needs_logits, policy.runs_router

    def score(self, state):
        if state.positions[0] >= self.position:
            raise RouterError("damaged")
        return self.policy.score(state)


@pytest.mark.parametrize("acceptance", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("position", [0, 5])
def test_a_step_that_fails_changes_no_text(tiny_pair, acceptance, position):
    texts = [asked(prompt, 0.7, acceptance=acceptance, seed=11, sampling=SAMPLED) for prompt in (*PROMPTS[:2], LONG)]
    router = tiny_pair.prepare(texts[0])[0]
    decoding = tiny_pair.open()
    numbers = add(tiny_pair, decoding, *texts, policies=[router, _FailsAt(router, position), router])
    with pytest.raises(RouterError):
        decoding.finish()
    for _ in range(3):
        before = [(list(row.tokens), facts(row.events)) for row in decoding.rows]
        with pytest.raises(RouterError):
            decoding.step()
        assert [(list(row.tokens), facts(row.events)) for row in decoding.rows] == before
    assert decoding.remove(numbers[1], clear=True).position == position
    decoding.finish()
    for number in (0, 2):
        assert facts(decoding.rows[number].events) == expected(tiny_pair, texts[number])


def test_an_error_after_tokens_were_written_is_undone_too(tiny_pair, monkeypatch):
    texts = [asked(prompt, 0.7, acceptance=0.3, alternatives=2, max_draft=3) for prompt in PROMPTS]
    wanted = [expected(tiny_pair, text) for text in texts]
    decoding = tiny_pair.start(texts)
    part, calls = decoding._part, iter(range(1000))

    def fails_now_and_then(slot):
        if next(calls) % 5 == 3:
            raise MemoryError
        return part(slot)

    monkeypatch.setattr(decoding, "_part", fails_now_and_then)
    failed = 0
    while decoding.active:
        try:
            decoding.step()
        except MemoryError:
            failed += 1
    assert failed > 5
    for row, text in zip(decoding.rows, wanted, strict=True):
        assert facts(row.events) == text


def test_what_is_no_number_in_a_failed_rows_slot_reaches_no_later_text(tiny_pair):
    decoding = tiny_pair.start([asked(LONG, 0.9), asked(PROMPTS[1], 0.9)])
    decoding.step()
    for cache in decoding._caches.values():
        for block in (*cache.keys, *cache.values):
            block[decoding.rows[0].slot] = torch.nan
    with pytest.raises(RouterError):
        decoding.step([0])
    slot = decoding.rows[0].slot
    decoding.remove(0, clear=True)
    (number,) = add(tiny_pair, decoding, asked(PROMPTS[2], 0.9))
    assert decoding.rows[number].slot == slot
    decoding.finish()
    for row, prompt in ((number, PROMPTS[2]), (1, PROMPTS[1])):
        assert facts(decoding.rows[row].events) == expected(tiny_pair, asked(prompt, 0.9))


def test_a_removed_row_is_not_active_and_a_step_without_rows_does_nothing(tiny_pair):
    decoding = tiny_pair.start([asked()])
    decoding.remove(0)
    assert not decoding.active
    assert decoding.step() == []


def test_rows_of_one_policy_are_scored_together_whenever_they_came(tiny_pair, monkeypatch):
    sizes = []
    score = RouterPolicy.score
    monkeypatch.setattr(RouterPolicy, "score", lambda self, state: sizes.append(len(state.seeds)) or score(self, state))
    decoding = tiny_pair.open()
    add(tiny_pair, decoding, asked(PROMPTS[0]))
    add(tiny_pair, decoding, asked(PROMPTS[1]))
    decoding.step()
    assert sizes == [2]
