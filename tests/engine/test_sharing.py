"""Rows with the same text share a slot of the caches: every one is what it would be alone, for fewer passes."""

from __future__ import annotations

from itertools import product

import pytest
import torch

from engine import Role
from engine.model.language_model import prefill_shared
from engine.policy import ConfidencePolicy, EntropyPolicy, FixedPolicy, OraclePolicy, QueryPolicy, RandomPolicy
from tests.engine.test_decoding import PROMPTS, back_to, facts, ids, request
from tests.engine.test_router import make_router

THRESHOLDS = [0.0, 0.05, 0.1, 0.12, 0.15, 0.2, 0.3, 0.5, 1.5]


def run(pair, requests, policies=None):
    decoding = pair.start(requests, policies)
    decoding.finish()
    return decoding


def traces(pair, requests, policies=None):
    return [pair.trace(row.request, row.events) for row in run(pair, requests, policies).rows]


@pytest.mark.parametrize("prompt", PROMPTS)
def test_a_sweep_over_thresholds_writes_what_each_threshold_writes_alone(random_pair, prompt):
    requests = [request(prompt, threshold=threshold) for threshold in THRESHOLDS]
    for asked, trace in zip(requests, traces(random_pair, requests), strict=True):
        assert facts(trace) == facts(random_pair.generate(asked))


def test_a_sweep_feeds_each_model_a_shared_beginning_once(random_pair):
    requests = [request(PROMPTS[2], threshold=threshold) for threshold in THRESHOLDS]
    models = (random_pair.slm, random_pair.llm)
    before = [model.fed for model in models]
    together = traces(random_pair, requests)
    slm, llm = (model.fed - count for model, count in zip(models, before, strict=True))
    different = {tuple(ids(trace)) for trace in together}
    assert 1 < len(different) < len(THRESHOLDS)
    beginnings = {text[:n] for text in different for n in range(1, len(text))}  # nothing reads a text's last token
    assert slm == together[0].prompt_tokens + len(beginnings)
    assert 0 < llm <= slm, "it reads what it is asked about"


@pytest.mark.parametrize(
    "dials",
    [
        [(0.1, acceptance) for acceptance in (0.0, 0.001, 0.01, 0.1, 0.3, 0.6, 1.0)],
        list(product((0.0, 0.12, 0.3), (0.0, 0.01, 0.3, 1.0))),
    ],
    ids=["acceptances", "a grid"],
)
def test_a_sweep_over_acceptances_or_a_grid_shares_more_than_the_prompt(random_pair, dials):
    asked = [request(PROMPTS[2], threshold=t, acceptance=a, max_draft=4) for t, a in dials]
    models = (random_pair.slm, random_pair.llm)

    def fed_by(requests):
        before = [model.fed for model in models]
        rows = run(random_pair, requests).rows
        return [ids(row) for row in rows], [model.fed - count for model, count in zip(models, before, strict=True)]

    together, fed = fed_by(asked)
    alone = [fed_by([each]) for each in asked]
    assert together == [text for texts, _ in alone for text in texts]
    assert 1 < len({tuple(text) for text in together}) < len(dials)
    prompt = run(random_pair, asked[:1]).rows[0].prompt_tokens
    for which, count in enumerate(fed):
        readers = [each[which] for _, each in alone if each[which]]
        assert count < sum(readers) - (len(readers) - 1) * prompt
    assert fed_by([*asked, *asked]) == (together * 2, fed), "what is asked twice is read once"


def test_rows_of_different_policies_share_a_batch_and_are_what_they_are_alone(random_pair):
    policies = [ConfidencePolicy(), EntropyPolicy(), RandomPolicy(), FixedPolicy(Role.LLM), FixedPolicy(Role.SLM)]
    policies += [QueryPolicy(make_router(random_pair)), OraclePolicy()]
    requests = [request(PROMPTS[0], threshold=0.3, seed=n) for n in range(len(policies))]
    together = traces(random_pair, requests, policies)
    for asked, policy, trace in zip(requests, policies, together, strict=True):
        assert facts(trace) == facts(traces(random_pair, [asked], [policy])[0])


def test_the_oracle_writes_the_llms_text_and_calls_it_only_where_the_models_differ(random_pair):
    asked = request(PROMPTS[0], threshold=0.5)
    oracle, llm = traces(random_pair, [asked, asked], [OraclePolicy(), FixedPolicy(Role.LLM)])
    assert ids(oracle) == ids(llm)
    both = random_pair.generate(request(PROMPTS[0], threshold=1.5, alternatives=1))
    differ = [e.slm_alternatives[0].id != e.id for e in both.events]
    assert [e.role is Role.LLM for e in oracle.events] == differ


@pytest.mark.parametrize(("threshold", "role"), [(0.0, Role.SLM), (1.5, Role.LLM)])
def test_the_query_policy_decides_once_and_then_runs_one_model_only(random_pair, threshold, role):
    asked = request(PROMPTS[0], threshold=threshold)
    trace = traces(random_pair, [asked], [QueryPolicy(make_router(random_pair))])[0]
    assert ids(trace) == ids(random_pair.generate(request(PROMPTS[0], policy=role.value)))
    assert len({event.score for event in trace.events}) == 1
    assert [event.router for event in trace.events] == [True] + [False] * (len(trace.events) - 1)
    assert trace.events[0].slm_fed == trace.prompt_tokens  # its score needs the SLM to read the prompt
    if role is Role.LLM:
        assert sum(event.slm_fed for event in trace.events[1:]) == 0


def test_going_back_in_a_row_leaves_those_it_shared_a_slot_with_alone(random_pair):
    requests = [request(PROMPTS[0], threshold=threshold) for threshold in (0.1, 0.1, 0.1)]
    expected = facts(random_pair.generate(requests[0]))
    for row in range(3):
        decoding = random_pair.start(requests)
        for _ in range(20):
            decoding.step()
        assert {each.slot for each in decoding.rows} == {0}
        back_to(decoding, row, 5)
        decoding.rows[row].dial.threshold = 1.5
        decoding.finish()
        others = [random_pair.trace(r.request, r.events) for n, r in enumerate(decoding.rows) if n != row]
        assert [facts(trace) for trace in others] == [expected, expected]
        assert {e.role for e in decoding.rows[row].events[5:]} == {Role.LLM}


def test_alternatives_are_known_in_shared_rows_too(random_pair):
    requests = [request(PROMPTS[0], threshold=threshold, alternatives=3) for threshold in THRESHOLDS]
    for asked, trace in zip(requests, traces(random_pair, requests), strict=True):
        alone = random_pair.generate(asked)
        for event, expected in zip(trace.events, alone.events, strict=True):
            assert [a.id for a in event.slm_alternatives] == [a.id for a in expected.slm_alternatives]
            assert [a.id for a in event.llm_alternatives] == [a.id for a in expected.llm_alternatives]


def test_chunks_of_very_different_lengths_are_read_in_one_pass_as_each_alone(random_pair):
    model = random_pair.llm
    chunks = [[n + 1] * size for n, size in enumerate([1, 30, 1, 2, 28, 1, 1, 9])]
    cache, plain = model.new_cache(8, 64), model.new_cache(8, 64)
    hidden = model.feed(cache, range(8), chunks)
    assert cache.lengths == [len(chunk) for chunk in chunks]
    for row, chunk in enumerate(chunks):
        torch.testing.assert_close(hidden[row], model.feed(plain, [row], [chunk])[0], rtol=1e-3, atol=1e-4)


def test_texts_that_begin_alike_read_their_beginning_once_and_end_up_the_same(random_pair):
    common = list(range(100, 130))
    texts = {0: [*common[:20], 1], 1: [*common, 2, 3], 2: [*range(50, 60)], 3: [*common, 2, 4, 5], 4: common[:17]}
    model = random_pair.llm
    cache, plain = model.new_cache(5, 64), model.new_cache(5, 64)
    before = model.fed
    prefill_shared(model, cache, texts)
    rests = [text[cache.lengths[row] :] for row, text in texts.items()]
    assert all(rests)
    hidden = model.feed(cache, range(5), rests)
    assert model.fed - before < sum(map(len, texts.values())) - 60
    expected = model.feed(plain, range(5), list(texts.values()))
    for row in texts:
        torch.testing.assert_close(hidden[row][-1], expected[row][-1], rtol=1e-3, atol=1e-4)
