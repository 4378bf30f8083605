"""Verified routing: a finished text is the one that reading every position with both models defines, however it came.

`slow_reference` is that definition. Acceptance 1 is the LLM's own text, and acceptance 0 what routing alone writes.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import islice, product

import pytest

from engine import Role, costs
from engine.events.cost import Cost
from engine.pair import Pair
from tests.support.slow_reference import SlowReference
from tests.support.texts import DRAFTS, GREEDY, PROMPTS, SAMPLED, THRESHOLDS, asked, ids, verified
from tools.arithmetic import questions

SAMPLINGS = pytest.mark.parametrize("sampling", [GREEDY, SAMPLED], ids=["greedy", "sampled"])


@pytest.fixture(scope="module")
def reference(tiny_pair) -> SlowReference:
    return SlowReference(tiny_pair)


@SAMPLINGS
def test_acceptance_0_writes_what_routing_alone_writes_and_the_llm_never_reads_more(tiny_pair, reference, sampling):
    rows = [asked(threshold=t, max_draft=draft, sampling=sampling) for t, draft in product(THRESHOLDS, (1, "auto"))]
    for row, trace in zip(rows, tiny_pair.generate_batch(rows), strict=True):
        assert ids(trace.events) == reference.write(row).ids
        seen = 0
        for event in trace.events:
            chosen = event.score < row.setting.threshold
            assert event.llm_fed == (trace.prompt_tokens + event.index - seen if chosen else 0)
            assert (event.taken_back, event.ratio, event.llm_head) == ((), None, 1)
            seen += event.llm_fed


@pytest.mark.parametrize("policy", ["router", "confidence", "random"])
@SAMPLINGS
def test_above_acceptance_0_a_text_is_that_of_reading_all_with_both_models(tiny_pair, reference, policy, sampling):
    options = {"policy": policy, "sampling": sampling, "seed": 11}
    llm = tiny_pair.generate(asked(PROMPTS[0], **{**options, "policy": "llm"}))
    planes = list(product((0.0, 0.7), (0.003, 0.1, 0.6, 1.0), DRAFTS))
    rows = [asked(PROMPTS[0], t, acceptance=a, max_draft=draft, **options) for t, a, draft in planes]
    for row, trace in zip(rows, tiny_pair.generate_batch(rows), strict=True):
        expected = reference.write(row)
        assert ids(trace.events) == expected.ids, row
        assert (trace.text, trace.finish_reason) == (expected.text, expected.finish_reason), row
        assert [e.role for e in trace.events] == [token.role for token in expected.tokens], row
        if row.setting.acceptance == 1:
            assert (ids(trace.events), trace.text) == (ids(llm.events), llm.text), "the LLM's own"
    for row in rows[::7]:
        assert ids(tiny_pair.generate(row).events) == reference.write(row).ids, row


def test_a_draft_that_the_llm_shares_costs_it_a_pass_in_max_draft_tokens(tiny_pair):
    """With itself as the SLM, the LLM keeps all."""
    twin = Pair(tiny_pair.llm.model, tiny_pair.llm.model, tiny_pair.tokenizer)
    trace = twin.generate(asked(policy="confidence", threshold=0.0, acceptance=1.0, max_draft=6, max_new_tokens=42))
    assert {event.role for event in trace.events} == {Role.SLM}
    fed = sum(event.llm_fed for event in trace.events)
    assert len(trace.events) + trace.prompt_tokens - 1 <= fed <= len(trace.events) + trace.prompt_tokens
    assert sum(event.llm_fed > 0 for event in trace.events) <= len(trace.events) / 6 + 1


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("first", range(0, 200, 25))
@SAMPLINGS
def test_200_prompts_each_of_one_policy_at_acceptance_0_at_1_and_at_one_in_between(tiny_pair, sampling, first):
    """Policy and acceptance in between change from question to question."""
    for number, question in enumerate(islice(questions("dev", 200, 14), first, first + 25), first):
        reference = SlowReference(tiny_pair)
        options = {"sampling": sampling, "seed": number, "policy": ("router", "confidence", "random")[number % 3]}
        between = (0.003, 0.03, 0.1, 0.3, 0.6, 0.9)[number % 6]
        planes = [*product(THRESHOLDS, (1.0,), DRAFTS), *product(THRESHOLDS[::2], (between,), DRAFTS)]
        planes += product(THRESHOLDS, (0.0,), ("auto",))
        rows = [asked(question.question, t, acceptance=a, max_draft=draft, **options) for t, a, draft in planes]
        llm = tiny_pair.generate(asked(question.question, **{**options, "policy": "llm"})).text
        for row, trace in zip(rows, tiny_pair.generate_batch(rows), strict=True):  # they share slots
            reference.check(row, trace.events)
            if row.setting.acceptance == 1:
                assert trace.text == llm, row


@pytest.mark.parametrize("policy", ["confidence", "random", "slm", "llm"])
@pytest.mark.parametrize("draft", DRAFTS)
def test_bytes_and_flops_charged_are_those_of_the_passes_that_were_made(tiny_pair, monkeypatch, policy, draft):
    for threshold, acceptance in ((0.0, 1.0), (0.7, 0.3)):
        with monkeypatch.context() as patch:
            passes = [record(patch, model) for model in tiny_pair.models]
            request = verified(threshold=threshold, acceptance=acceptance, max_draft=draft, policy=policy)
            trace = tiny_pair.generate(request)
        made = sum((each for one in passes for each in one), Cost())
        run = costs(trace.events, trace.prompt_tokens, tiny_pair.slm_cost, tiny_pair.llm_cost).run
        assert (run.bytes, run.flops) == (made.bytes, made.flops), (threshold, acceptance)


def record(patch, model):
    """The bytes and FLOPs of each call of a model, as a list that grows."""
    made: list[Cost] = []
    feed, logits, cost = model.feed, model.logits, model.cost

    def fed(cache, rows, chunks, looks=None):
        (row,), (chunk,) = rows, chunks
        made.append(replace(cost.forward(len(chunk), cache.lengths[row], False, 0, 0), seconds=0))
        return feed(cache, rows, chunks, looks)

    def applied(hidden):
        made.append(Cost(cost.head_bytes, cost.head_flops * len(hidden)))
        return logits(hidden)

    patch.setattr(model, "feed", fed)
    patch.setattr(model, "logits", applied)
    return made
