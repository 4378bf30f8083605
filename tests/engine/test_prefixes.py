"""The prefix cache gives what models would read, reads each beginning once, and charges as if it were not there."""

from __future__ import annotations

import itertools

import pytest
import torch

from engine import Role, build_request
from engine.batch.prefixes import Prefixes, Wanted
from engine.policy import ConfidencePolicy
from engine.request import Sampling

PROMPTS = ["Start with 12. Add 30. What is the result?", "Start with 12. Add 31. Double it. What is the result?"]
DIALS = list(itertools.product((0.0, 0.6, 0.9), (0.0, 0.3, 1.0), (2, 5)))


def written(pair, requests, caching):
    """Tokens and charges of all texts, and what each model was fed for them."""
    before = pair.slm.fed, pair.llm.fed
    decoding = pair.open(remember=caching)
    policy = ConfidencePolicy()
    decoding.add(pair.texts(requests, [policy] * len(requests)))
    decoding.finish()
    texts = [
        [(e.id, e.role, round(e.score, 4), e.slm_fed, e.llm_fed, e.slm_head, len(e.taken_back)) for e in text.events]
        for text in decoding.texts
    ]
    return texts, (pair.slm.fed - before[0], pair.llm.fed - before[1])


@pytest.mark.parametrize("sampled", [{}, {"sampling": Sampling(temperature=0.8), "seed": 3}], ids=["greedy", "sampled"])
def test_texts_and_charges_are_those_without_it_and_less_is_read(tiny_pair, sampled):
    requests = [
        build_request(prompt, threshold=threshold, acceptance=acceptance, max_draft=draft, max_new_tokens=40, **sampled)
        for prompt in PROMPTS
        for threshold, acceptance, draft in DIALS
    ]
    plain, fed = written(tiny_pair, requests, False)
    cached, fed_cached = written(tiny_pair, requests, True)
    assert cached == plain
    assert fed_cached[0] < 0.75 * fed[0] and fed_cached[1] < 0.75 * fed[1]


@pytest.fixture
def llm(tiny_pair):
    """The tiny LLM, and what it has read in five empty slots; it remembers."""
    prefixes = Prefixes({Role.LLM: tiny_pair.llm}, 64, remember=True)
    prefixes.reserve(5, 64)
    return tiny_pair.llm, prefixes


def reads(prefixes, **texts):
    """Hidden states at the last `looks` tokens of texts, given as slot=(tokens, looks)."""
    wanted = [Wanted(int(slot[1:]), *each) for slot, each in texts.items()]
    prefixes.copy_held(Role.LLM, wanted)
    return prefixes.read(Role.LLM, wanted)


def fed_by(model, call):
    before = model.fed
    return call(), model.fed - before


def alone(model, text):
    return model.feed(model.new_cache(1, 64), [0], [text])[0]


def close(one, other):
    torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_a_slot_that_comes_to_where_another_has_been_reads_nothing_and_goes_on_rightly(llm):
    model, prefixes = llm
    text = list(range(20, 32))
    reads(prefixes, s0=(text[:4], 1), s1=(text[:2], 1))
    reads(prefixes, s0=(text[:8], 4))
    found, fed = fed_by(model, lambda: reads(prefixes, s1=(text[:8], 1)))
    assert fed == 0
    close(found[0], alone(model, text[:8])[-1:])
    found, fed = fed_by(model, lambda: reads(prefixes, s1=(text[:10], 1)))
    assert fed == 2, "what the slot had not stored is copied"
    close(found[0], alone(model, text[:10])[-1:])
    assert prefixes.lengths(1) == {Role.LLM: 10}


def test_what_a_slot_has_taken_back_or_left_is_no_source(llm):
    model, prefixes = llm
    reads(prefixes, s0=([5, 6, 7, 8], 4))
    prefixes.truncate(0, 2)
    reads(prefixes, s0=([5, 6, 9, 10], 1))
    found, fed = fed_by(model, lambda: reads(prefixes, s1=([5, 6, 7, 8, 11], 1)))
    assert fed == 3 and prefixes.lengths(1) == {Role.LLM: 5}
    close(found[0], alone(model, [5, 6, 7, 8, 11])[-1:])
    prefixes.truncate(0, 0)
    found, fed = fed_by(model, lambda: reads(prefixes, s2=([5, 6, 9, 10, 12], 1)))
    assert fed == 3, "5 and 6 are in slot 1"
    close(found[0], alone(model, [5, 6, 9, 10, 12])[-1:])


def test_of_texts_that_begin_alike_the_first_is_read_and_the_others_copy(llm):
    model, prefixes = llm
    text = list(range(20, 50))
    found, fed = fed_by(model, lambda: reads(prefixes, s0=(text, 1), s1=([*text[:20], 5, 6], 1), s2=(text[:25], 1)))
    assert fed == 30 + 2 + 1
    for states, tokens in zip(found, (text, [*text[:20], 5, 6], text[:25]), strict=True):
        close(states, alone(model, tokens)[-1:])
