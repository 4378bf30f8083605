"""Verified routing: a finished text is the one that reading every position with both models defines, however it came.

`slow_reference` is that definition. Acceptance 1 is the LLM's own text, and acceptance 0 what routing alone writes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice, product

import pytest

from engine import Request, Role, Sampling, Trace, fold_revealed
from engine.decoding import Decoding
from engine.pair import Pair
from tests.support.slow_reference import SlowReference
from trainer.tiny.arithmetic import questions

PROMPTS = (
    "Mia counts 32 stamps. 42 are added. 5 are added. 45 are taken out. How many stamps are left?",
    "Start with 19. Take 7 away. Take 4 away. Subtract 3. Multiply by 4. What is the result?",
    "Yuki counts 51 apples. 37 get lost. The number grows 4 times. How many apples are left?",
    "Ben has $20. Ben earns $15. Ben spends $9. How much money is it now?",
)
THRESHOLDS = (0.0, 0.3, 0.7, 0.9, 0.97, 1.01)
DRAFTS = (1, 3, 8, "auto")
GREEDY = Sampling()
SAMPLED = Sampling(temperature=1.3, top_p=0.95, repetition_penalty=1.1)
SAMPLINGS = pytest.mark.parametrize("sampling", [GREEDY, SAMPLED], ids=["greedy", "sampled"])


def asked(prompt: str = PROMPTS[0], threshold: float = 0.7, **options) -> Request:
    """A request of 32 tokens at most, of the router unless something else is said."""
    return Request(prompt, threshold, **{"max_new_tokens": 32, **options})


def ids(events) -> list[int]:
    return [event.id for event in events]


def run(pair: Pair, requests: Sequence[Request]) -> Decoding:
    decoding = pair.start(requests)
    decoding.finish()
    return decoding


@pytest.fixture(scope="module")
def reference(tiny_pair) -> SlowReference:
    return SlowReference(tiny_pair)


@pytest.fixture(scope="module")
def random_reference(random_pair) -> SlowReference:
    return SlowReference(random_pair)


@pytest.mark.parametrize("policy", ["router", "confidence", "random"])
@SAMPLINGS
def test_acceptance_1_writes_the_llms_own_text_at_every_dial_in_rows_that_share_slots(tiny_pair, policy, sampling):
    for seed, prompt in ((11, PROMPTS[0]), (8, PROMPTS[1])):
        options = {"policy": policy, "sampling": sampling, "seed": seed}
        expected = tiny_pair.generate(asked(prompt, **{**options, "policy": "llm"}))
        dials = list(product(THRESHOLDS, DRAFTS))
        rows = [asked(prompt, t, acceptance=1.0, max_draft=draft, **options) for t, draft in dials]
        for dial, trace in zip(dials, tiny_pair.generate_batch(rows), strict=True):
            assert ids(trace.events) == ids(expected.events), dial
            assert (trace.text, trace.finish_reason) == (expected.text, expected.finish_reason), dial


@SAMPLINGS
def test_acceptance_1_writes_the_llms_own_text_in_a_batch_of_16_texts_and_alone(tiny_pair, sampling):
    dials = [(t, draft) for draft, t in product(DRAFTS, (0.0, 0.3, 0.9, 1.01))]
    rows = [
        asked(PROMPTS[n % 4], t, acceptance=1.0, max_draft=draft, seed=n, sampling=sampling, max_new_tokens=20 + n)
        for n, (t, draft) in enumerate(dials)
    ]
    expected = tiny_pair.generate_batch([replace(row, policy="llm", acceptance=0.0) for row in rows])
    for trace, llm in zip(tiny_pair.generate_batch(rows), expected, strict=True):
        assert ids(trace.events) == ids(llm.events)
    for row, llm in [*zip(rows, expected, strict=True)][::3]:
        assert ids(tiny_pair.generate(row).events) == ids(llm.events)


@SAMPLINGS
def test_acceptance_0_writes_what_routing_alone_writes_and_the_llm_never_reads_more(tiny_pair, reference, sampling):
    rows = [asked(threshold=t, max_draft=draft, sampling=sampling) for t, draft in product(THRESHOLDS, (1, "auto"))]
    for row, trace in zip(rows, tiny_pair.generate_batch(rows), strict=True):
        assert ids(trace.events) == reference.write(row).ids
        seen = 0
        for event in trace.events:
            chosen = event.score < row.threshold
            assert event.llm_fed == (trace.prompt_tokens + event.index - seen if chosen else 0)
            assert (event.taken_back, event.ratio, event.llm_head) == ((), None, 1)
            seen += event.llm_fed


@pytest.mark.parametrize("policy", ["router", "confidence", "random"])
@SAMPLINGS
def test_in_between_the_text_is_that_of_reading_every_position_with_both_models(tiny_pair, reference, policy, sampling):
    options = {"policy": policy, "sampling": sampling, "seed": 11}
    planes = list(product((0.0, 0.7), (0.003, 0.1, 0.6), DRAFTS))
    rows = [asked(PROMPTS[0], t, acceptance=a, max_draft=draft, **options) for t, a, draft in planes]
    for row, trace in zip(rows, tiny_pair.generate_batch(rows), strict=True):
        expected = reference.write(row)
        assert ids(trace.events) == expected.ids, row
        assert (trace.text, trace.finish_reason) == (expected.text, expected.finish_reason), row
        assert [e.role for e in trace.events] == [token.role for token in expected.tokens], row
    for row in rows[::7]:
        assert ids(tiny_pair.generate(row).events) == reference.write(row).ids, row


@pytest.mark.parametrize("acceptance", [0.001, 0.02, 0.2, 1.0])
@SAMPLINGS
def test_models_that_agree_on_next_to_nothing_write_the_defined_text_too(
    random_pair, random_reference, acceptance, sampling
):
    options = {"policy": "confidence", "raw": True, "sampling": sampling, "acceptance": acceptance}
    planes = product(("hello world", "日本語の文章"), (0.0, 0.12), (3, "auto"))
    rows = [asked(prompt, t, max_draft=draft, seed=3, **options) for prompt, t, draft in planes]
    for row, trace in zip(rows, random_pair.generate_batch(rows), strict=True):
        expected = random_reference.write(row)
        assert (ids(trace.events), trace.text) == (expected.ids, expected.text), row


@SAMPLINGS
def test_an_event_says_what_the_llm_made_of_the_token(tiny_pair, reference, sampling):
    judged = 0
    planes = product((0.0, 0.7), (0.05, 0.5, 1.0), DRAFTS)
    rows = [asked(threshold=t, acceptance=a, max_draft=draft, sampling=sampling, seed=11) for t, a, draft in planes]
    for row, trace in zip(rows, tiny_pair.generate_batch(rows), strict=True):
        for event, token in zip(trace.events, reference.write(row).tokens, strict=True):
            assert (event.threshold, event.acceptance) == (row.threshold, row.acceptance)
            assert not event.provisional
            if event.role is Role.SLM:
                assert event.ratio == pytest.approx(token.ratio, abs=1e-4)
                assert event.taken_back == ()
            if event.taken_back:
                assert [lost.index for lost in event.taken_back] == [
                    event.index + n for n in range(len(event.taken_back))
                ]
                assert event.ratio == pytest.approx(token.ratio, abs=1e-4)
                assert event.ratio < row.acceptance
                judged += 1
    assert judged


@pytest.mark.parametrize("draft", [1, 3, 8])
def test_the_llm_never_leaves_more_than_max_draft_tokens_unread(tiny_pair, draft):
    decoding = tiny_pair.start([asked(threshold=0.0, acceptance=0.3, max_draft=draft)])
    longest = 0
    for _ in decoding.run():
        longest = max(longest, sum(event.provisional for event in fold_revealed(decoding.rows[0].events)))
    assert longest in (draft - 1, draft)


def test_threshold_0_with_acceptance_1_is_speculative_decoding(tiny_pair):
    alone = tiny_pair.generate(asked(policy="llm"))
    trace = tiny_pair.generate(asked(threshold=0.0, acceptance=1.0, max_draft=4))
    passes = [event for event in trace.events if event.llm_fed]
    assert ids(trace.events) == ids(alone.events)
    assert len(passes) < len(alone.events) / 2


def test_a_draft_that_the_llm_shares_costs_it_a_pass_in_max_draft_tokens(tiny_pair):
    """With itself as the SLM, the LLM keeps all."""
    twin = Pair(tiny_pair.llm.model, tiny_pair.llm.model, tiny_pair.tokenizer)
    trace = twin.generate(asked(policy="confidence", threshold=0.0, acceptance=1.0, max_draft=6, max_new_tokens=42))
    assert {event.role for event in trace.events} == {Role.SLM}
    fed = sum(event.llm_fed for event in trace.events)
    assert len(trace.events) + trace.prompt_tokens - 1 <= fed <= len(trace.events) + trace.prompt_tokens
    assert sum(event.llm_fed > 0 for event in trace.events) <= len(trace.events) / 6 + 1


@pytest.mark.parametrize("alternatives", [0, 2])
def test_one_product_gives_what_the_llm_makes_of_all_drafts_of_a_step(tiny_pair, monkeypatch, alternatives):
    requests = [asked(prompt, 0.0, acceptance=1.0, max_draft=4, alternatives=alternatives) for prompt in PROMPTS]
    alone = [ids(tiny_pair.generate(request).events) for request in requests]
    decoding, calls, real = tiny_pair.start(requests), [], tiny_pair.llm.logits
    monkeypatch.setattr(tiny_pair.llm, "logits", lambda hidden: calls.append(len(hidden)) or real(hidden))
    while any(row.unfinished for row in decoding.rows):
        before = len(calls)
        decoding.step()
        assert len(calls) <= before + 1, "of all texts at once"
    assert max(calls) > 4, "the drafts of several texts"
    assert [ids(row.events) for row in decoding.rows] == alone


@SAMPLINGS
def test_stop_strings_and_end_tokens_that_the_slm_drafted_are_judged(random_pair, random_reference, sampling):
    options = {"policy": "confidence", "raw": True, "sampling": sampling, "max_new_tokens": 24}
    own = random_pair.generate(asked("hello", **{**options, "policy": "slm"}))
    llm = random_pair.generate(asked("hello", **{**options, "policy": "llm"}))
    stops = [text for n in range(4) if (text := own.text[n : n + 2]) and text not in llm.text]
    assert stops
    for stop, acceptance, draft in product(stops[:1], (0.0, 0.003, 0.1, 1.0), (1, 8, "auto")):
        row = asked("hello", 0.0, acceptance=acceptance, max_draft=draft, stop=(stop,), **options)
        trace, expected = random_pair.generate(row), random_reference.write(row)
        assert (trace.text, trace.finish_reason) == (expected.text, expected.finish_reason), row
        assert trace.finish_reason == (
            "length" if acceptance == 1 else "stop" if acceptance == 0 else trace.finish_reason
        )


@pytest.mark.parametrize("draft", DRAFTS)
def test_an_end_token_that_the_llm_would_not_write_ends_no_text(random_pair, draft):
    options = {"policy": "confidence", "raw": True, "max_new_tokens": 24}
    third = random_pair.generate(asked("hello", **{**options, "policy": "slm"})).events[2].id
    llm = ids(random_pair.generate(asked("hello", **{**options, "policy": "llm"})).events)
    assert third not in llm
    for acceptance, expected in ((1.0, llm), (0.0, None)):
        decoding = random_pair.start([asked("hello", 0.0, acceptance=acceptance, max_draft=draft, **options)])
        decoding._end_ids = {third}
        decoding.finish()
        row = decoding.rows[0]
        assert row.finish_reason == ("length" if expected else "eos")
        assert expected is None or ids(row.events) == expected


def test_fixed_policies_are_judged_alike(tiny_pair, reference):
    planes = product(("slm", "llm"), (0.0, 0.05, 1.0), DRAFTS)
    rows = [asked(PROMPTS[1], policy=policy, acceptance=a, max_draft=draft) for policy, a, draft in planes]
    for row, trace in zip(rows, tiny_pair.generate_batch(rows), strict=True):
        assert ids(trace.events) == reference.write(row).ids, row


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("first", range(0, 200, 25))
@SAMPLINGS
def test_200_prompts_each_of_one_policy_at_acceptance_0_at_1_and_at_one_in_between(tiny_pair, sampling, first):
    """The claims above for 200 questions; a text that differs at a comparison within rounding counts as a tie.

    Policy and acceptance in between change from question to question. Acceptance 1 comes at every threshold and draft
    length, the one in between at every other threshold, and 0 with one draft length.
    """
    compared = ties = 0
    for number, question in enumerate(islice(questions("dev", 200, 14), first, first + 25), first):
        reference = SlowReference(tiny_pair)
        options = {"sampling": sampling, "seed": number, "policy": ("router", "confidence", "random")[number % 3]}
        between = (0.003, 0.03, 0.1, 0.3, 0.6, 0.9)[number % 6]
        planes = [*product(THRESHOLDS, (1.0,), DRAFTS), *product(THRESHOLDS[::2], (between,), DRAFTS)]
        planes += product(THRESHOLDS, (0.0,), ("auto",))
        rows = [asked(question.question, t, acceptance=a, max_draft=draft, **options) for t, a, draft in planes]
        found = [*zip(rows, tiny_pair.generate_batch(rows), strict=True)]  # they share slots
        alone = rows[number % len(rows)]
        found.append((alone, tiny_pair.generate(alone)))
        llm = tiny_pair.generate(asked(question.question, **{**options, "policy": "llm"})).text
        for row, trace in found:
            compared += 1
            ties += differs(reference, row, trace)
            if row.acceptance == 1:
                assert trace.text == llm, row
    print(f"{compared} texts of 25 prompts compared, {ties} part at a tie")


@pytest.mark.slow
@pytest.mark.timeout(3600)
@SAMPLINGS
def test_batches_of_16_of_200_prompts_at_mixed_dials(tiny_pair, sampling):
    dials = list(product(THRESHOLDS, (0.0, 0.03, 0.3, 0.7, 1.0), DRAFTS))
    rows = []
    for number, question in enumerate(questions("dev", 208, 14)):
        threshold, acceptance, draft = dials[7 * number % len(dials)]
        policy = ("router", "confidence", "random")[number % 3]
        options = {"max_draft": draft, "sampling": sampling, "seed": number, "policy": policy}
        rows.append(asked(question.question, threshold, acceptance=acceptance, **options))
    reference, ties = SlowReference(tiny_pair), 0
    for n in range(0, len(rows), 16):
        for row, trace in zip(rows[n : n + 16], tiny_pair.generate_batch(rows[n : n + 16]), strict=True):
            ties += differs(reference, row, trace)
    print(f"{len(rows)} texts in batches of 16 compared, {ties} part at a tie")


def differs(reference: SlowReference, row: Request, trace: Trace) -> bool:
    """Whether a text is another than the reference's; it may part from it at a comparison within rounding only."""
    expected = reference.write(row)
    if ids(trace.events) == expected.ids:
        return False
    both = enumerate(zip(ids(trace.events), expected.ids, strict=False))
    where = next(n for n, (a, b) in both if a != b)
    assert expected.tokens[where].margin < 1e-5, (row, where)
    return True
