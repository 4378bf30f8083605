"""The decode loop: what it writes is what `generate` writes, whatever the batch, the lag or the path."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from dataclasses import replace
from itertools import islice

import pytest
import torch

from engine import Dial, InvalidRequest, Request, Role
from engine.batch import reading
from engine.batch.reading import Reader
from engine.model.any_model import synchronise
from engine.policy import FixedPolicy

PROMPTS = ["hello world", "日本語の文章", "a much longer prompt that goes on and on " * 4, "x"]


def generate(pair, role, prompt, count, **options):
    """Greedy `transformers.generate` of one model of the pair, with the padded vocabulary out of reach."""
    model = (pair.slm if role is Role.SLM else pair.llm).model
    ids = torch.tensor([pair.tokenizer.encode(prompt, add_special_tokens=False)])
    outside = list(range(len(pair.tokenizer), model.config.vocab_size))
    options = {"do_sample": False, "suppress_tokens": outside, "eos_token_id": sorted(pair.end_ids), **options}
    out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=count, pad_token_id=0, **options)
    return out[0, ids.shape[1] :].tolist()


def ids(trace):
    return [event.id for event in trace.events]


def request(prompt, **options):
    return Request(prompt, **{"policy": "confidence", "raw": True, "max_new_tokens": 40, **options})


@pytest.mark.parametrize("prompt", PROMPTS)
def test_threshold_0_writes_what_generate_writes_with_the_slm(random_pair, prompt):
    trace = random_pair.generate(request(prompt, threshold=0.0))
    assert ids(trace) == generate(random_pair, Role.SLM, prompt, 40)
    assert {event.role for event in trace.events} == {Role.SLM}


@pytest.mark.parametrize("prompt", PROMPTS)
def test_threshold_above_1_writes_what_generate_writes_with_the_llm(random_pair, prompt):
    trace = random_pair.generate(request(prompt, threshold=1.01))
    assert ids(trace) == generate(random_pair, Role.LLM, prompt, 40)
    assert {event.role for event in trace.events} == {Role.LLM}


def test_repetition_penalty_is_that_of_generate(random_pair):
    trace = random_pair.generate(request(PROMPTS[2], threshold=0.0, **{"sampling": sampling(repetition_penalty=1.3)}))
    assert ids(trace) == generate(random_pair, Role.SLM, PROMPTS[2], 40, repetition_penalty=1.3)


def sampling(**options):
    from engine import Sampling

    return Sampling(**options)


@pytest.mark.parametrize("policy", ["confidence", "random"])
def test_rows_of_an_uneven_batch_equal_single_runs(random_pair, policy):
    requests = [
        request(prompt, policy=policy, threshold=0.2 + 0.2 * n, seed=n, max_new_tokens=10 + 9 * n)
        for n, prompt in enumerate(PROMPTS)
    ]
    together = random_pair.generate_batch(requests)
    for each, trace in zip(requests, together, strict=True):
        alone = random_pair.generate(each)
        assert facts(trace) == facts(alone)


def facts(trace):
    """All of a trace that does not depend on the clock or the batch's rounding."""
    return [(e.id, e.text, e.role, e.slm_fed, e.llm_fed, e.slm_head, e.finish_reason) for e in trace.events]


def test_no_token_is_fed_twice_to_a_model(random_pair, monkeypatch):
    fed = {}
    for role, model in ((Role.SLM, random_pair.slm), (Role.LLM, random_pair.llm)):
        positions = fed[role] = Counter()
        monkeypatch.setattr(model, "feed", counting(model.feed, positions))
    trace = random_pair.generate(request(PROMPTS[0], threshold=0.3, alternatives=2))
    assert {e.role for e in trace.events} == set(Role)
    for positions in fed.values():
        assert set(positions.values()) == {1}
    assert len(fed[Role.SLM]) == trace.prompt_tokens + len(trace.events) - 1


def counting(feed, positions):
    def counted(cache, rows, chunks, looks=None):
        for row, chunk in zip(rows, chunks, strict=True):
            positions.update((row, cache.lengths[row] + n) for n in range(len(chunk)))
        return feed(cache, rows, chunks, looks)

    return counted


def test_events_say_what_was_fed(random_pair):
    trace = random_pair.generate(request(PROMPTS[0], threshold=0.3))
    first, *rest = trace.events
    assert first.slm_fed == trace.prompt_tokens
    assert all(event.slm_fed == 1 for event in rest)
    seen = 0
    for position, event in enumerate(trace.events):
        # Lazy catch-up: an LLM token costs everything written since the last one, an SLM token costs the LLM nothing.
        expected = trace.prompt_tokens + position - seen if event.role is Role.LLM else 0
        assert event.llm_fed == expected
        seen += event.llm_fed


def test_a_lagging_llm_cache_equals_full_recomputation(random_pair):
    decoding = random_pair.start([request(PROMPTS[2], threshold=0.25)])
    while decoding.active:
        decoding.step()
    row, cache = decoding.rows[0], decoding._caches[Role.LLM]
    assert any(event.llm_fed > 3 for event in row.events)
    fresh = random_pair.llm.new_cache(1, 400)
    length = cache.lengths[0]
    random_pair.llm.feed(fresh, [0], [row.tokens[:length]])
    for lagging, whole in zip(cache.keys + cache.values, fresh.keys + fresh.values, strict=True):
        torch.testing.assert_close(lagging[0, :, :length], whole[0, :, :length], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("temperature", [0.0, 1.2])
def test_the_same_seed_and_threshold_give_the_same_trace(random_pair, temperature):
    asked = request(PROMPTS[1], threshold=0.3, seed=7, sampling=sampling(temperature=temperature, top_p=0.9))
    assert facts(random_pair.generate(asked)) == facts(random_pair.generate(asked))


def test_another_seed_gives_another_text_when_sampling(random_pair):
    texts = {
        tuple(ids(random_pair.generate(request("x", seed=s, sampling=sampling(temperature=1.0))))) for s in range(3)
    }
    assert len(texts) == 3


@pytest.mark.parametrize("kept", [0, 1, 17, 39])
def test_going_on_after_a_rollback_gives_the_same_trace(random_pair, kept):
    decoding = random_pair.start([request(PROMPTS[0], threshold=0.3, sampling=sampling(temperature=0.8))])
    while decoding.active:
        decoding.step()
    before = [(e.id, e.text, e.role, e.slm_fed, e.llm_fed) for e in decoding.rows[0].events]
    back_to(decoding, 0, kept)
    while decoding.active:
        decoding.step()
    assert [(e.id, e.text, e.role, e.slm_fed, e.llm_fed) for e in decoding.rows[0].events] == before


def back_to(decoding, row, kept):
    """Makes a row's text its first `kept` tokens, ready to go on from there, as a slider does."""
    this = decoding.rows[row]
    decoding.resume(row, this.request, [replace(event, finish_reason=None) for event in this.events[:kept]])


def test_a_row_that_begins_again_goes_its_own_way_and_leaves_the_other_of_its_slot_alone(random_pair):
    asked = request(PROMPTS[0], threshold=0.3)
    expected_low, expected_high = random_pair.generate(asked), random_pair.generate(request(PROMPTS[0], threshold=1.5))
    decoding = random_pair.start([asked, asked])
    for _ in range(12):
        decoding.step()
    back_to(decoding, 1, 0)
    decoding.rows[1].dial.threshold = 1.5
    while decoding.active:
        decoding.step()
    assert [e.id for e in decoding.rows[0].events] == ids(expected_low)
    assert [e.id for e in decoding.rows[1].events] == ids(expected_high)


def test_the_dial_applies_to_the_next_token(random_pair):
    dial = Dial(0.0)
    stream = random_pair.stream(request("hello"), dial=dial)
    assert {event.role for event in islice(stream, 5)} == {Role.SLM}
    dial.threshold = 1.5
    after = list(islice(stream, 5))
    assert {event.role for event in after} == {Role.LLM}
    assert {event.threshold for event in after} == {1.5}


def test_cancel_stops_within_one_step(random_pair):
    cancel = threading.Event()
    stream = random_pair.stream(request("hello"), cancel=cancel)
    next(stream)
    cancel.set()
    fed = random_pair.slm.fed
    assert list(stream) == []
    assert random_pair.slm.fed == fed


def test_a_finished_row_costs_nothing_more(random_pair):
    requests = [request("short", max_new_tokens=3), request("long", max_new_tokens=30)]
    decoding = random_pair.start(requests)
    while decoding.active:
        events = decoding.step()
        if len(decoding.rows[1].events) > 3:
            assert [event.row for event in events] == [1]
    assert len(decoding.rows[0].events) == 3


@pytest.mark.parametrize(("role", "other"), [("slm", "llm"), ("llm", "slm")])
def test_a_fixed_policy_never_runs_the_other_model(random_pair, role, other):
    fed = getattr(random_pair, other).fed
    trace = random_pair.generate(request("hello", policy=role))
    assert getattr(random_pair, other).fed == fed
    assert {event.role for event in trace.events} == {Role(role)}


def test_alternatives_of_both_models_are_known_for_every_token(random_pair):
    trace = random_pair.generate(request(PROMPTS[0], threshold=0.3, alternatives=4))
    plain = random_pair.generate(request(PROMPTS[0], threshold=0.3))
    assert facts(trace) == facts(plain)
    for event in trace.events:
        for role, found in ((Role.SLM, event.slm_alternatives), (Role.LLM, event.llm_alternatives)):
            assert len(found) == 4
            entropy = event.slm_entropy if role is Role.SLM else event.llm_entropy
            # 259 tokens: at most their logarithm, and at least what the likeliest candidates alone amount to
            assert entropy is not None
            assert sum(-c.probability * math.log2(c.probability) for c in found) <= entropy + 1e-4 <= math.log2(300)
            assert found[0].probability >= found[-1].probability > 0
            if event.role is role:
                assert event.id == found[0].id


def test_what_is_read_for_candidates_after_the_end_is_in_no_tokens_seconds(random_pair, monkeypatch):
    slow = Reader.read_rest
    monkeypatch.setattr(Reader, "read_rest", lambda *of: time.sleep(0.5) or slow(*of))
    trace = random_pair.generate(request("reads", policy="slm", alternatives=2, max_new_tokens=3))
    assert trace.events[-1].llm_alternatives, "they were read"
    assert trace.events[-1].seconds < 0.5


def test_a_step_that_may_read_little_leaves_a_long_text_to_who_asks_for_its_candidates(random_pair):
    decoding = random_pair.start([request("a long prompt " * 8, policy="slm", alternatives=2, max_new_tokens=3)])
    while decoding.active:
        decoding.step(reading=40)
    assert not any(event.llm_alternatives for event in decoding.rows[0].events)
    revealed, whole = decoding.reveal(0)
    assert whole and {each.index for each in revealed if each.role is Role.LLM} == {0, 1, 2}


def test_candidates_that_are_revealed_in_pieces_are_those_that_one_pass_reveals(random_pair):
    long = request("a long prompt " * 8, policy="slm", max_new_tokens=90)
    events = random_pair.generate(long).events
    asks = replace(long, alternatives=2)
    policy, prompt = random_pair.prepare(asks)
    found, passes = [], []
    for most in (None, 40):
        decoding = random_pair.open(1)
        decoding.add([asks], [policy], [prompt], [events], known=len(prompt) - 1)
        pieces = [decoding.reveal(0, most)]
        while not pieces[-1][1]:
            pieces.append(decoding.reveal(0, most))
        known = [each for piece, _ in pieces for each in piece]
        found.append({(each.index, each.role, *(other.id for other in each.alternatives)) for each in known})
        passes.append(len(pieces))
        assert len(known) == len(found[-1]) == 2 * len(events), "each once"
    assert passes[0] == 1 < passes[1] and found[0] == found[1]


@pytest.mark.parametrize("policy", ["slm", "llm", "random"])
def test_a_models_seconds_are_the_same_whether_candidates_are_recorded_or_not(random_pair, monkeypatch, policy):
    clock = [0.0]

    def slow(run, seconds):
        def slowly(*args):
            clock[0] += seconds
            return run(*args)

        return slowly

    for model, seconds in ((random_pair.slm, 1.0), (random_pair.llm, 3.0)):
        monkeypatch.setattr(model, "feed", slow(model.feed, seconds))
        monkeypatch.setattr(model, "logits", slow(model.logits, seconds / 4))
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    asked = request("hello", policy=policy, threshold=0.4, max_new_tokens=8)
    plain, recorded = (random_pair.generate(replace(asked, alternatives=n)).events for n in (0, 3))
    for one, other in zip(plain, recorded, strict=True):
        assert (other.slm_seconds, other.llm_seconds) == (one.slm_seconds, one.llm_seconds)
        assert other.seconds == one.seconds, "what candidates take besides is nobody's"


def test_a_models_seconds_are_those_of_its_passes_where_a_gpu_only_launches_them(random_pair, monkeypatch):
    launched = []

    def wait(device):
        assert device == random_pair.slm.device
        time.sleep(sum(launched))
        launched.clear()

    for model, seconds in ((random_pair.slm, 0.1), (random_pair.llm, 0.3)):
        feed = model.feed
        monkeypatch.setattr(model, "feed", lambda *a, f=feed, s=seconds: launched.append(s) or f(*a))
    monkeypatch.setattr(reading, "synchronise", wait)
    trace = random_pair.generate(request("hello", policy="random", threshold=0.5, max_new_tokens=6))
    assert {event.role for event in trace.events} == {Role.SLM, Role.LLM}
    for event in trace.events:
        assert 0.1 * (event.slm_fed > 0) <= event.slm_seconds < 0.3, "the LLM's are not the SLM's"
        assert 0.3 * (event.llm_fed > 0) <= event.llm_seconds


@pytest.mark.parametrize(("device", "waits"), [("cpu", 0), ("cuda:1", 1)])
def test_a_gpu_is_waited_for_and_no_cpu(monkeypatch, device, waits):
    waited = []
    monkeypatch.setattr(torch.cuda, "synchronize", waited.append)
    synchronise(torch.device(device))
    assert waited == [torch.device(device)] * waits


def test_an_end_token_ends_the_text_and_is_counted(random_pair):
    asked = request("hello", policy="slm", max_new_tokens=6)
    third = ids(random_pair.generate(asked))[2]
    decoding = random_pair.start([asked])
    decoding._end_ids = {third}
    while decoding.active:
        decoding.step()
    events = decoding.rows[0].events
    assert events[-1].id == third
    assert events[-1].finish_reason == "eos"
    assert len(events) <= 3


def test_a_stop_string_ends_the_text_and_is_not_part_of_it(random_pair):
    whole = random_pair.generate(request("hello", policy="slm"))
    stop = whole.text[5:8]
    cut = random_pair.generate(request("hello", policy="slm", stop=(stop,)))
    assert cut.text == whole.text[: whole.text.index(stop)]
    assert cut.finish_reason == "stop"


def test_a_prompt_beyond_the_context_is_refused_with_both_numbers_before_any_model_work(random_pair):
    fed = random_pair.slm.fed
    with pytest.raises(InvalidRequest, match=r"2,500 tokens.*2,048"):
        random_pair.stream(request("a" * 2500))
    assert random_pair.slm.fed == fed


def test_the_text_ends_where_the_context_does(random_pair):
    trace = random_pair.generate(request("a" * 2040, policy="slm", max_new_tokens=100))
    assert len(trace.events) == 8
    assert trace.finish_reason == "length"


def test_a_batch_without_a_request_is_refused(random_pair):
    with pytest.raises(InvalidRequest, match="at least one"):
        random_pair.start([])


def test_a_policy_that_needs_a_missing_router_is_refused(random_pair):
    with pytest.raises(InvalidRequest, match="needs a router"):
        random_pair.stream(request("hello", policy="router"))


def test_a_fixed_policy_does_not_need_a_state():
    assert FixedPolicy(Role.LLM).needs_state is False
