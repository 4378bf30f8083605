"""Rows come and go between steps, and long prompts are read in pieces: each text stays what it is alone."""

from __future__ import annotations

import pytest
import torch

from engine import Request, RouterError
from engine.batch.reading import SHORT
from engine.batch.text import Text
from engine.decoding import Decoding
from engine.pair import Pair
from tests.support.texts import LONG, PROMPTS, asked, expected, facts


def add(pair: Pair, decoding: Decoding, *requests: Request) -> list[Text]:
    texts = pair.texts(requests)
    decoding.add(texts)
    return texts


def test_a_long_prompt_is_read_in_pieces_between_the_steps_of_a_text_that_is_being_written(tiny_pair):
    short, long = asked(threshold=0.7), asked(LONG, 0.7, acceptance=0.3)
    decoding = tiny_pair.open()
    (first,) = add(tiny_pair, decoding, short)
    decoding.step()
    (second,) = add(tiny_pair, decoding, long)
    steps = 0
    while not second.events:
        fed = tiny_pair.slm.fed, tiny_pair.llm.fed
        assert decoding.step(reading=50)[:1] == [first], "it waits for nobody"
        assert tiny_pair.slm.fed - fed[0] <= 50 + SHORT
        assert tiny_pair.llm.fed - fed[1] <= 50 + 2 * SHORT
        steps += 1
    assert steps > second.prompt_tokens // 50
    decoding.finish()
    assert facts(second.events) == expected(tiny_pair, long)
    assert facts(first.events) == expected(tiny_pair, short)


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
    assert facts(late.events) == expected(tiny_pair, asked(LONG, 0.9, seed=1))


def test_what_is_no_number_in_a_failed_texts_slot_reaches_no_later_text(tiny_pair):
    decoding = tiny_pair.start([asked(LONG, 0.9), asked(PROMPTS[1], 0.9)])
    failed, other = decoding.texts
    decoding.step()
    with torch.inference_mode():
        for block in (block for cache in decoding._caches.values() for block in (*cache.keys, *cache.values)):
            block[failed.slot] = torch.nan
    with pytest.raises(RouterError):
        decoding.step([failed])
    slot = failed.slot
    decoding.remove(failed, clear=True)
    (later,) = add(tiny_pair, decoding, asked(PROMPTS[2], 0.9))
    assert later.slot == slot
    decoding.finish()
    for text in (later, other):
        assert facts(text.events) == expected(tiny_pair, text.request)


def test_a_text_that_ended_gives_its_slot_to_its_owner_first_and_to_others_when_it_is_the_oldest(tiny_pair):
    decoding = tiny_pair.open(most=3)
    for owner, prompt in enumerate(PROMPTS[:3]):
        (text,) = tiny_pair.texts([asked(prompt, 0.0)])
        text.owner = owner
        decoding.add([text])
        decoding.step()
        decoding.remove(text, keep=True)

    def read(prompt: str, owner: int) -> int:
        fed = tiny_pair.slm.fed
        (text,) = tiny_pair.texts([asked(prompt, 0.0, max_new_tokens=1)])
        text.owner = owner
        decoding.add([text])
        decoding.step()
        decoding.remove(text, keep=True)
        return tiny_pair.slm.fed - fed

    assert read(PROMPTS[2], 2) == read(PROMPTS[1], 7) == 1, "the second is a copy, in the slot of the first text"
    assert read(PROMPTS[1], 1) == read(PROMPTS[2], 2) == 1
    assert read(PROMPTS[0], 0) > 1
