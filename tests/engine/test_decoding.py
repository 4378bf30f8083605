"""The decode loop: what it writes is what `generate` writes, whatever the batch, the lag or the path."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch

from engine import InvalidRequest, Role
from engine.bench.measure import seconds_of
from engine.policy import ConfidencePolicy, FixedPolicy, QueryPolicy, RandomPolicy
from tests.support.routers import make_router
from tests.support.texts import GREEDY, SAMPLED, facts, ids
from tests.support.texts import raw as request

PROMPTS = ["hello world", "日本語の文章", "a much longer prompt that goes on and on " * 4, "x"]


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize(("threshold", "role"), [(0.0, Role.SLM), (1.01, Role.LLM)])
def test_both_ends_of_the_dial_write_what_generate_writes(random_pair, prompt, threshold, role):
    """With the padded vocabulary out of reach."""
    trace = random_pair.generate(request(prompt, threshold=threshold))
    model = (random_pair.slm if role is Role.SLM else random_pair.llm).model
    start = torch.tensor([random_pair.texts([trace.request])[0].tokens])
    padding = list(range(len(random_pair.tokenizer), model.config.vocab_size))
    options = {"do_sample": False, "suppress_tokens": padding, "eos_token_id": sorted(random_pair.end_ids)}
    mask = torch.ones_like(start)
    out = model.generate(start, attention_mask=mask, max_new_tokens=40, pad_token_id=0, **options)
    assert ids(trace.events) == out[0, start.shape[1] :].tolist()
    assert {event.role for event in trace.events} == {role}


def test_alternatives_of_both_models_are_known_for_every_token(random_pair):
    trace = random_pair.generate(request(PROMPTS[0], threshold=0.3, alternatives=4))
    plain = random_pair.generate(request(PROMPTS[0], threshold=0.3))
    assert facts(trace.events) == facts(plain.events)
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


@pytest.mark.parametrize(("device", "waits"), [("cpu", 0), ("cuda:1", 2)])
def test_a_gpu_is_waited_for_and_no_cpu(monkeypatch, device, waits):
    waited = []
    monkeypatch.setattr(torch.cuda, "synchronize", waited.append)
    seconds_of(lambda: None, torch.device(device))
    assert waited == [torch.device(device)] * waits


def test_a_prompt_beyond_the_context_is_refused_with_both_numbers_before_any_model_work(random_pair):
    fed = random_pair.slm.fed
    with pytest.raises(InvalidRequest, match=r"2,500 tokens.*2,048"):
        random_pair.stream(request("a" * 2500))
    assert random_pair.slm.fed == fed


def test_the_text_ends_where_the_context_does(random_pair):
    trace = random_pair.generate(request("a" * 2040, policy="slm", max_new_tokens=100))
    assert len(trace.events) == 8
    assert trace.finish_reason == "length"


def test_a_policy_without_its_router_is_refused(random_pair):
    with pytest.raises(InvalidRequest, match="router"):
        random_pair.stream(request("hello", policy="router"))


# Rows whose texts are the same so far share a slot of the caches, and policies a batch


def traces(pair, requests, policies=None):
    decoding = pair.start(requests, policies)
    decoding.finish()
    return [pair.trace(text.request, text.events) for text in decoding.texts]


def reading(pair, requests):
    """The traces of some requests in one batch, and how many tokens each model has read for them."""
    before = [model.fed for model in pair.models]
    found = traces(pair, requests)
    return found, [model.fed - was for model, was in zip(pair.models, before, strict=True)]


def test_a_sweep_feeds_each_model_a_shared_beginning_once(random_pair):
    thresholds = [0.0, 0.05, 0.1, 0.12, 0.15, 0.2, 0.3, 0.5, 1.5]
    together, (slm, llm) = reading(random_pair, [request(PROMPTS[2], threshold=each) for each in thresholds])
    different = {tuple(ids(trace.events)) for trace in together}
    assert 1 < len(different) < len(thresholds)
    beginnings = {text[:n] for text in different for n in range(1, len(text))}  # nothing reads a text's last token
    assert slm == together[0].prompt_tokens + len(beginnings)
    assert 0 < llm <= slm, "it reads what it is asked about"


def test_a_sweep_over_a_grid_shares_more_than_the_prompt_and_reads_once_what_is_asked_twice(random_pair):
    dials = list(product((0.0, 0.12, 0.3), (0.0, 0.01, 0.3, 1.0)))
    asked = [request(PROMPTS[2], threshold=t, acceptance=a, max_draft=4) for t, a in dials]
    together, fed = reading(random_pair, asked)
    alone = [reading(random_pair, [each]) for each in asked]
    assert [facts(each.events) for each in together] == [facts(text.events) for (text,), _ in alone]
    for which, count in enumerate(fed):
        readers = [each[which] for _, each in alone if each[which]]
        assert count < sum(readers) - (len(readers) - 1) * together[0].prompt_tokens
    twice, fed_twice = reading(random_pair, [*asked, *asked])
    assert [ids(each.events) for each in twice] == [ids(each.events) for each in together] * 2
    assert fed_twice == fed


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_rows_of_different_policies_and_seeds_share_a_batch_and_are_what_they_are_alone(random_pair, sampling):
    policies = [ConfidencePolicy(), RandomPolicy(), FixedPolicy(Role.LLM), FixedPolicy(Role.SLM)]
    policies += [QueryPolicy(make_router(random_pair))]
    requests = [request(PROMPTS[0], threshold=0.3, seed=n, sampling=sampling) for n in range(len(policies))]
    together = traces(random_pair, requests, policies)
    for asked, policy, trace in zip(requests, policies, together, strict=True):
        assert facts(trace.events) == facts(traces(random_pair, [asked], [policy])[0].events)


@pytest.mark.parametrize(("threshold", "role"), [(0.0, Role.SLM), (1.5, Role.LLM)])
def test_the_query_policy_decides_once_and_then_runs_one_model_only(random_pair, threshold, role):
    asked = request(PROMPTS[0], threshold=threshold)
    trace = traces(random_pair, [asked], [QueryPolicy(make_router(random_pair))])[0]
    assert ids(trace.events) == ids(random_pair.generate(request(PROMPTS[0], policy=role.value)).events)
    assert len({event.score for event in trace.events}) == 1
    assert [event.router for event in trace.events] == [True] + [False] * (len(trace.events) - 1)
    assert trace.events[0].slm_fed == trace.prompt_tokens  # its score needs the SLM to read the prompt
    if role is Role.LLM:
        assert sum(event.slm_fed for event in trace.events[1:]) == 0
