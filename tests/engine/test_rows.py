"""Rows come and go between steps, and long prompts are read in pieces: each text stays what it is alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from engine import Request, Role, RouterError, fold_revealed
from engine.batch.reading import SHORT
from engine.decoding import Decoding
from engine.pair import Pair
from engine.policy import Policy
from engine.request import Forced
from tests.support.texts import LONG, PROMPTS, asked, expected, facts


def add(pair: Pair, decoding: Decoding, *requests: Request, policies: list[Policy] | None = None) -> list[int]:
    prepared = [pair.prepare(each) for each in requests]
    return decoding.add(requests, policies or [policy for policy, _ in prepared], [prompt for _, prompt in prepared])


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
    forced = Forced(0, Role.LLM), Forced(20, Role.LLM)
    seldom = asked(threshold=0.0, max_new_tokens=24, alternatives=alternatives, forced=forced)
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
