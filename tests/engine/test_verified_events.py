"""Verified routing, event by event: what is shown, continued, stored and charged where tokens are taken back."""

from __future__ import annotations

import json
import math
import threading
from dataclasses import replace
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import pytest

from app.share.open_trace import opened_run
from engine import (
    Dial,
    Forced,
    InvalidRequest,
    Request,
    Role,
    Sampling,
    TokenEvent,
    Trace,
    at_dials,
    audit,
    costs,
    first_flip,
    fold_revealed,
)
from engine.events import extend, keeps, taken_back
from engine.events.cost import Cost
from engine.events.trace import same_acceptance
from engine.tokenizer import TextStream, backend
from tests.engine.test_cost import LLM, SLM, event
from tests.engine.test_decoding import back_to
from tests.engine.test_verified import DRAFTS, GREEDY, PROMPTS, SAMPLED, asked, ids
from tests.support.slow_reference import SlowReference


@pytest.fixture(scope="module")
def reference(tiny_pair) -> SlowReference:
    return SlowReference(tiny_pair)


def verified(prompt: str = PROMPTS[0], threshold: float = 0.3, **options):
    """A request in whose text the LLM takes tokens back."""
    return asked(prompt, threshold, **{"acceptance": 0.6, "max_draft": 8, "sampling": SAMPLED, "seed": 11, **options})


def test_the_text_of_these_tests_has_tokens_that_were_taken_back(tiny_pair):
    assert taken_back(tiny_pair.generate(verified()).events) > 4


@pytest.mark.parametrize(("ratio", "acceptance", "kept"), [(0.3, 0.3, True), (0.2999, 0.3, False), (1.0, 1.0, True)])
def test_a_token_is_kept_at_its_ratio_and_below(ratio, acceptance, kept):
    assert keeps(ratio, acceptance) is kept


# Streamed


def test_of_rows_that_share_passes_none_has_candidates_of_a_token_that_is_not_there(tiny_pair):
    drawn: Any = {"policy": "random", "alternatives": 3, "max_draft": 8, "sampling": Sampling(temperature=1.5)}
    for seed in range(12):
        row = Request("Start with 12. Add 30. Add 5.", 0.4, seed=seed, acceptance=1.0, max_new_tokens=16, **drawn)
        decoding = tiny_pair.start([row, replace(row, acceptance=0.0, max_new_tokens=6)])
        texts: tuple[list[TokenEvent], ...] = ([], [])
        for step in decoding.run():
            extend(texts[step.row], step)
            fold_revealed(texts[step.row])


@pytest.mark.parametrize("draft", DRAFTS)
@pytest.mark.parametrize("stop", [(), (" the result",), ("e",)])
def test_streamed_events_fold_into_the_text_so_far_after_every_step(tiny_pair, draft, stop):
    row = verified(max_draft=draft, stop=stop)
    decoding = tiny_pair.start([row])
    text, back = [], 0
    for step in decoding.run():
        back += step.index < len(text)
        assert step.index <= len(text)
        extend(text, step)
        assert [each.index for each in text] == list(range(len(text)))
        assert ids(text) == ids(decoding.rows[0].events)
        stream = TextStream(backend(tiny_pair.tokenizer), stop)
        known = "".join(stream.push(each.id) for each in text)
        assert "".join(each.text for each in text) == known + (stream.finish() if text[-1].finish_reason else "")
    trace = tiny_pair.generate(row)
    assert "".join(each.text for each in text) == trace.text
    assert ids(text) == ids(trace.events)
    assert back or draft in (1, "auto") or stop  # "auto" goes by what passes took on this machine


def test_characters_of_several_tokens_stay_whole_when_one_of_them_is_taken_back(random_pair):
    row = asked("日本語の文章", 0.0, policy="confidence", raw=True, acceptance=0.02, max_draft=4)
    text = []
    for step in random_pair.stream(row):
        extend(text, step)
        stream = TextStream(backend(random_pair.tokenizer))
        known = "".join(stream.push(each.id) for each in text)
        assert "".join(each.text for each in text) == known + (stream.finish() if text[-1].finish_reason else "")


def test_cancelling_in_the_middle_of_a_draft_leaves_provisional_tokens(tiny_pair):
    cancel = threading.Event()
    row = verified(threshold=0.0, max_draft=100)
    text = []
    for step in tiny_pair.stream(row, cancel=cancel):
        extend(text, step)
        if len(text) == 3:
            cancel.set()
    trace = tiny_pair.trace(row, text)
    assert [each.provisional for each in trace.events] == [True] * 3
    assert trace.finish_reason == "cancelled"


def test_a_finished_text_has_no_provisional_token(tiny_pair):
    planes = product((0.0, 0.7), (0.01, 1.0), DRAFTS)
    rows = [verified(threshold=t, acceptance=a, max_draft=draft) for t, a, draft in planes]
    for trace in tiny_pair.generate_batch(rows):
        assert not any(each.provisional for each in trace.events)


# Dials that move


def test_a_dial_that_moves_between_steps_holds_for_the_tokens_drafted_from_then_on(tiny_pair, reference):
    row, dial = verified(threshold=0.0, acceptance=0.0), Dial(0.0)
    plan = {4: (0.0, 0.9, 3), 10: (0.8, 0.3, "auto"), 16: (0.0, 0.0, 8), 22: (0.2, 1.0, 8), 28: (1.5, 0.5, 1)}
    text = []
    for step in tiny_pair.stream(row, dial=dial):
        extend(text, step)
        if len(text) in plan:
            dial.threshold, dial.acceptance, dial.max_draft = plan.pop(len(text))
    assert not plan
    assert len({(each.threshold, each.acceptance) for each in text}) >= 4
    assert not any(each.provisional for each in fold_revealed(text))
    reference.check(row, text)


@pytest.mark.parametrize(
    ("name", "value"), [("acceptance", 1.5), ("acceptance", math.nan), ("max_draft", 0), ("max_draft", "never")]
)
def test_a_dial_refuses_what_a_request_refuses(name, value):
    dial = Dial(0.5)
    with pytest.raises(InvalidRequest, match=name):
        setattr(dial, name, value)
    with pytest.raises(InvalidRequest, match=name):
        asked(**{name: value})


# Continued

MOVES = [(0.3, 1.0), (0.9, 0.2), (0.0, 0.8), (0.7, 0.0), (0.0, 0.05), (1.01, 0.5), (0.6, 0.4), (0.6, 0.0), (0.6, 1.0)]


@pytest.mark.parametrize(("policy", "draft"), [("router", 3), ("confidence", "auto"), ("random", 3)])
def test_moving_both_dials_of_a_finished_text_gives_the_text_written_from_scratch(tiny_pair, reference, policy, draft):
    row = verified(policy=policy, max_draft=draft)
    decoding = tiny_pair.start([row])
    decoding.finish()
    for threshold, acceptance in MOVES:
        this = decoding.rows[0]
        request, events = at_dials(this.request, this.events, threshold, acceptance)
        assert (request.threshold, request.acceptance) == (threshold, acceptance)
        decoding.resume(0, request, events)
        decoding.finish()
        fresh = reference.write(replace(row, threshold=threshold, acceptance=acceptance))
        assert ids(decoding.rows[0].events) == fresh.ids, (threshold, acceptance)
        assert not any(each.provisional for each in fold_revealed(decoding.rows[0].events))
        trace = tiny_pair.trace(request, decoding.rows[0].events)
        assert (trace.text, trace.finish_reason) == (fresh.text, fresh.finish_reason)


def test_verdicts_that_came_with_a_later_token_count_when_a_dial_moves(tiny_pair, reference):
    row = verified(PROMPTS[1], max_draft=3, seed=5, max_new_tokens=48)
    decoding = tiny_pair.start([row])
    decoding.finish()
    decoding.resume(0, *at_dials(row, decoding.rows[0].events, 0.3, 1.0))
    decoding.finish()
    assert ids(decoding.rows[0].events) == reference.write(replace(row, acceptance=1.0)).ids


def test_a_text_that_was_cut_short_goes_on_at_other_dials(tiny_pair, reference):
    for tokens, (threshold, acceptance) in product((1, 5, 11), MOVES[:4]):
        decoding = tiny_pair.start([verified()])
        while len(decoding.rows[0].events) < tokens:
            decoding.step()
        request, events = at_dials(verified(), decoding.rows[0].events, threshold, acceptance)
        decoding.resume(0, request, events)
        decoding.finish()
        expected = reference.write(replace(verified(), threshold=threshold, acceptance=acceptance))
        assert ids(decoding.rows[0].events) == expected.ids, (tokens, threshold, acceptance)


def test_nothing_flips_within_the_dials_at_which_a_text_is_the_same(tiny_pair):
    row = verified()
    decoding = tiny_pair.start([row])
    decoding.finish()
    events = list(decoding.rows[0].events)
    low, high = same_acceptance(events)
    assert low < row.acceptance <= high
    for acceptance in (math.nextafter(low, 1), min(high, 1.0)):
        assert first_flip(events, row.threshold, acceptance) is None
        assert ids(tiny_pair.generate(replace(row, acceptance=acceptance)).events) == ids(events)
    if high < 1:
        assert first_flip(events, row.threshold, math.nextafter(high, 1)) is not None


@pytest.mark.parametrize("kept", [0, 1, 7, 16, 31])
def test_going_on_after_a_rollback_gives_the_same_text(tiny_pair, kept):
    decoding = tiny_pair.start([verified()])
    decoding.finish()
    before = ids(decoding.rows[0].events)
    back_to(decoding, 0, kept)
    assert ids(decoding.rows[0].events) == before[:kept]
    decoding.finish()
    assert ids(decoding.rows[0].events) == before


def test_a_row_whose_dial_moves_in_the_middle_of_a_draft_goes_its_own_way(tiny_pair, reference):
    row = verified(threshold=0.0, max_draft=6)
    for steps in (2, 4, 9):
        decoding = tiny_pair.start([row, row])
        for _ in range(steps):
            decoding.step()
        dial = decoding.rows[1].dial
        dial.threshold, dial.acceptance, dial.max_draft = 0.9, 1.0, 3
        decoding.finish()
        assert ids(decoding.rows[0].events) == reference.write(row).ids
        reference.check(row, decoding.rows[1].events)
        assert {each.acceptance for each in decoding.rows[1].events[steps:]} == {1.0}


def test_forced_tokens_are_never_judged(tiny_pair, reference):
    other = tiny_pair.tokenizer.encode(" zebra", add_special_tokens=False)[0]
    forced = (Forced(3, Role.SLM, other), Forced(9, Role.LLM), Forced(10, Role.SLM), Forced(17, Role.SLM, other))
    planes = product((0.0, 0.7, 1.01), (0.05, 1.0), (1, 3, "auto"))
    rows = [verified(threshold=t, acceptance=a, max_draft=draft, forced=forced) for t, a, draft in planes]
    for row, trace in zip(rows, tiny_pair.generate_batch(rows), strict=True):
        events = trace.events
        assert ids(events) == reference.write(row).ids, row
        for each in events:
            if each.forced:
                assert (each.ratio, each.provisional) == (None, False)
        assert (events[3].id, events[17].id) == (other, other)


def test_a_token_that_replaces_a_refused_draft_is_not_forced_where_the_step_was_about_a_later_one(tiny_pair):
    by_hand = tuple(Forced(at, Role.LLM if at % 2 else Role.SLM) for at in range(2, 40, 3))
    steps = list(tiny_pair.stream(verified(threshold=0.0, acceptance=0.9, max_draft=100, forced=by_hand)))
    drafts = [draft for step in steps for draft in step.taken_back]
    assert any(draft.forced for draft in drafts), "what a person chose goes with the draft before it"
    for each in [*steps, *drafts]:
        assert each.forced is any(each.index == forced.index for forced in by_hand), each.index


def test_all_of_a_text_may_be_read_for_its_candidates(tiny_pair):
    for acceptance, draft in ((0.3, 3), (0.3, "auto"), (1.0, 8)):
        row = verified(acceptance=acceptance, max_draft=draft)
        trace = tiny_pair.generate(replace(row, alternatives=3))
        plain = tiny_pair.generate(row)
        assert ids(trace.events) == ids(plain.events)
        assert [each.llm_fed for each in trace.events] == [each.llm_fed for each in plain.events]
        likeliest = tiny_pair.generate(replace(row, policy="llm", alternatives=3)).events if acceptance == 1 else None
        for position, each in enumerate(trace.events):
            assert len(each.slm_alternatives) == len(each.llm_alternatives) == 3
            if likeliest:
                assert [a.id for a in each.llm_alternatives] == [a.id for a in likeliest[position].llm_alternatives]


def test_candidates_that_came_with_a_draft_outlive_it(tiny_pair):
    trace = tiny_pair.generate(verified(threshold=0.1, policy="random", max_draft=3, alternatives=2))
    assert all(each.slm_alternatives for each in trace.events)


def test_revealing_a_row_leaves_those_that_share_its_slot_alone(tiny_pair, reference):
    row = verified(threshold=0.0)
    decoding = tiny_pair.start([row, row])
    for _ in range(3):
        decoding.step()
    decoding.reveal(1)
    decoding.finish()
    assert [ids(each.events) for each in decoding.rows] == [reference.write(row).ids] * 2


def test_a_text_cut_short_is_revealed_and_goes_on_as_if_nobody_had_looked(tiny_pair, reference):
    row = replace(verified(threshold=0.0), alternatives=2)
    decoding = tiny_pair.start([row])
    for _ in range(5):
        decoding.step()
    events = list(decoding.rows[0].events)
    late, _ = decoding.reveal(0)
    folded = fold_revealed([*events[:-1], replace(events[-1], revealed=(*events[-1].revealed, *late))])
    assert all(each.llm_alternatives for each in folded)
    decoding.finish()
    assert ids(decoding.rows[0].events) == reference.write(row).ids


def test_at_acceptance_1_a_greedy_text_has_nothing_that_the_router_let_pass(tiny_pair):
    row = asked(PROMPTS[1], 0.3, acceptance=1.0, alternatives=1)
    found = audit(tiny_pair.generate(row).events)
    assert (found.missed, found.unknown) == ((), ())


@pytest.mark.parametrize("acceptance", [0.003, 0.1, 0.6])
def test_an_audit_in_between_misses_what_was_kept_though_the_llm_would_write_another(tiny_pair, acceptance):
    row = verified(threshold=0.1, policy="random", acceptance=acceptance, sampling=GREEDY, alternatives=2)
    texts = [tiny_pair.generate(replace(row, prompt=prompt)) for prompt in PROMPTS]
    for text in texts:
        found = audit(text.events)
        kept = [each.index for each in text.events if each.role is Role.SLM and (each.ratio or 0) < 1]
        assert (list(found.missed), found.unknown) == (kept, ())
        assert all((text.events[index].ratio or 0) >= acceptance for index in found.missed)
        # Where the LLM refused the SLM's token it was not asked in vain.
        assert not [index for index in found.wasted if text.events[index].taken_back]
    assert any(audit(text.events).missed for text in texts) == (acceptance < 0.6)
    assert any(audit(text.events).wasted for text in texts)


@pytest.mark.parametrize("steps", [3, 6])
def test_a_text_that_was_cut_short_within_a_draft_is_audited_after_one_more_pass(tiny_pair, steps):
    row = verified(threshold=0.0, acceptance=0.1, sampling=GREEDY, alternatives=2)
    whole = audit(tiny_pair.generate(row).events)
    decoding = tiny_pair.start([row])
    for _ in range(steps):
        decoding.step()
    events = list(decoding.rows[0].events)
    assert fold_revealed(events)[-1].provisional and audit(fold_revealed(events)).unknown
    late, _ = decoding.reveal(0)
    events[-1] = replace(events[-1], revealed=(*events[-1].revealed, *late))
    found = audit(fold_revealed(events))
    assert found.unknown == ()
    settled = next(each.index for each in fold_revealed(events) if each.provisional)
    assert [n for n in found.missed if n < settled] == [n for n in whole.missed if n < settled]


# Stored


def test_a_trace_is_stored_with_what_was_taken_back(tiny_pair, tmp_path):
    trace = tiny_pair.generate(verified())
    trace.save(tmp_path / "trace.json")
    opened = Trace.load(tmp_path / "trace.json")
    assert opened == trace
    assert taken_back(opened.events) == taken_back(trace.events) > 0
    assert (opened.acceptance, opened.max_draft, opened.request.acceptance) == (0.6, 8, 0.6)
    assert costs(opened.events, trace.prompt_tokens, trace.slm_cost, trace.llm_cost).run.bytes > 0


OLD = Path(__file__).parents[1] / "support" / "trace_before_acceptance.json"
"""Written by `python -m engine … --json` at revision 85f8a86, before there was an acceptance."""


def test_a_trace_from_before_there_was_an_acceptance_opens_and_is_written_again(tiny_pair):
    assert not {"acceptance", "max_draft"} & json.loads(OLD.read_text("utf-8")).keys()
    old = Trace.load(OLD)
    assert (old.acceptance, old.max_draft) == (0.0, "auto")
    assert {each.role for each in old.events} == set(Role)
    again = tiny_pair.generate(old.request)
    assert (ids(again.events), again.text, again.finish_reason) == (ids(old.events), old.text, old.finish_reason)
    charged_then = costs(old.events, old.prompt_tokens, old.slm_cost, old.llm_cost)
    charged_now = costs(again.events, again.prompt_tokens, again.slm_cost, again.llm_cost)
    assert (charged_then.run.bytes, charged_then.run.flops) == (charged_now.run.bytes, charged_now.run.flops)
    assert old.to_json() == Trace.from_json(old.to_json()).to_json()
    assert opened_run(OLD.read_text("utf-8")).events == list(old.events), "on the page, too"


@pytest.mark.parametrize(("threshold", "acceptance"), [(0.9, 1.0), (0.3, 0.0), (0.0, 0.6), (1.01, 0.0)])
def test_a_trace_from_before_there_was_an_acceptance_goes_on_at_other_dials(tiny_pair, threshold, acceptance):
    old = Trace.load(OLD)
    decoding = tiny_pair.start([old.request])
    decoding.resume(0, *at_dials(old.request, old.events, threshold, acceptance))
    decoding.finish()
    fresh = tiny_pair.generate(replace(old.request, threshold=threshold, acceptance=acceptance))
    assert ids(decoding.rows[0].events) == ids(fresh.events)
    assert not any(each.provisional for each in fold_revealed(decoding.rows[0].events))


@pytest.mark.parametrize(("name", "value"), [("acceptance", 2.0), ("max_draft", 0), ("max_draft", "always")])
def test_a_trace_with_an_impossible_dial_is_refused(tiny_pair, name, value):
    changed = {**json.loads(tiny_pair.generate(asked(max_new_tokens=3)).to_json()), name: value}
    with pytest.raises(InvalidRequest, match=name):
        _ = Trace.from_json(json.dumps(changed)).request


# Charged


def test_what_is_taken_back_is_charged_as_counted_by_hand():
    # A prompt of 3 tokens. The SLM drafts three; the LLM reads prompt and two of them for its opinion of all three,
    # takes two back and writes the second. Then the SLM, whose cache ends after the first draft, reads the LLM's token
    # and writes one more.
    lost = tuple(event(Role.SLM, 1, 0, index=n, acceptance=0.5) for n in (1, 2))
    first = event(Role.SLM, 3, 0, index=0, acceptance=0.5)
    look = event(Role.LLM, 0, 5, index=1, acceptance=0.5, ratio=0.1, taken_back=lost, llm_head=3)
    last = event(Role.SLM, 1, 0, index=2)
    drafted = (1100 + 3 + 6 * 10) + (1100 + 1 + (3 + 2) * 10) + (1100 + 1 + (4 + 2) * 10)
    read = 10_000 + 1000 + 5 * 2 + 2 * 5 * 20
    again = 1100 + 1 + (4 + 2) * 10  # prompt and first draft are in the cache
    beside = costs([first, look, last], 3, SLM, LLM)
    assert beside.run.bytes == drafted + read + again
    assert beside.run.seconds == 5
    assert taken_back([first, look, last]) == 2
    # Of three tokens, whatever was taken back.
    assert beside.llm_only.bytes == 3 * 11_000 + 5 * 2 + (6 + 5 + 6) * 20
    read_flops = 5 * 20_000 + 3 * 2000 + (1 + 2 + 3 + 4 + 5) * 8  # the LLM's lm_head at three positions
    drafted_flops = (3 * 2000 + 200 + 6 * 4) + (2000 + 200 + 4 * 4) + (2000 + 200 + 5 * 4)
    assert beside.run.flops == drafted_flops + read_flops + (2000 + 200 + 5 * 4)


@pytest.mark.parametrize("policy", ["confidence", "random", "slm"])
@pytest.mark.parametrize("draft", DRAFTS)
def test_bytes_and_flops_charged_are_those_of_the_passes_that_were_made(tiny_pair, monkeypatch, policy, draft):
    for threshold, acceptance in ((0.0, 1.0), (0.7, 0.3)):
        with monkeypatch.context() as patch:
            passes = [
                record(patch, model, cost)
                for model, cost in ((tiny_pair.slm, tiny_pair.slm_cost), (tiny_pair.llm, tiny_pair.llm_cost))
            ]
            trace = tiny_pair.generate(
                verified(threshold=threshold, acceptance=acceptance, max_draft=draft, policy=policy)
            )
        made = sum((each for one in passes for each in one), Cost())
        run = costs(trace.events, trace.prompt_tokens, tiny_pair.slm_cost, tiny_pair.llm_cost).run
        assert (run.bytes, run.flops) == (made.bytes, made.flops), (threshold, acceptance)


def record(patch, model, cost):
    """The bytes and FLOPs of each call of a model, as a list that grows."""
    made: list[Cost] = []
    feed, logits = model.feed, model.logits

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


def test_the_llm_reads_each_token_of_the_text_once_and_the_slm_too(tiny_pair):
    trace = tiny_pair.generate(verified(threshold=0.0, acceptance=1.0))
    back = taken_back(trace.events)
    whole = trace.prompt_tokens + len(trace.events)
    for fed in ("slm_fed", "llm_fed"):
        read = sum(getattr(e, fed) + sum(getattr(lost, fed) for lost in e.taken_back) for e in trace.events)
        assert read <= whole + back
    assert back > 0


def test_the_running_cost_never_falls(tiny_pair):
    from engine import cumulative

    trace = tiny_pair.generate(verified(threshold=0.0, acceptance=1.0))
    running = [each.run.bytes for each in cumulative(trace.events, trace.prompt_tokens, SLM, LLM)]
    assert all(b >= a for a, b in pairwise(running))
