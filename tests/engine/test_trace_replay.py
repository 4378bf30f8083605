"""Another threshold, another branch: the text up to the change stays, and what follows is what a fresh run gives."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from engine import (
    Forced,
    InvalidRequest,
    Request,
    Role,
    at_dials,
    audit,
    first_flip,
    fold_revealed,
    same_text,
)
from engine.pair import Pair
from tests.engine.test_decoding import back_to

PROMPTS = (
    "Ben has $20. Ben earns $15. Ben spends $9. How much money is it now?",
    "Mia has 12 shells. Mia finds 7 more.",
)


def written(pair: Pair, request: Request, tokens: int | None = None):
    """A decoding whose only row was written to its end, or to so many tokens."""
    decoding = pair.start([request])
    for event in decoding.run():
        if tokens is not None and event.index + 1 >= tokens:
            break
    return decoding


def facts(events):
    """All that does not depend on the clock, and on which pass revealed a candidate."""
    return [
        (
            e.index,
            e.id,
            e.text,
            e.role,
            pytest.approx(e.score, abs=1e-5),  # fp32, by passes of another shape
            e.threshold,
            e.slm_fed,
            e.llm_fed,
            e.finish_reason,
        )
        for e in events
    ]


def request(prompt=PROMPTS[0], threshold=0.9, **options):
    return Request(prompt, threshold=threshold, max_new_tokens=60, **options)


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("policy", ["router", "confidence", "random"])
def test_moving_the_threshold_gives_the_text_of_a_fresh_run_at_every_threshold(tiny_pair, prompt, policy):
    decoding = written(tiny_pair, request(prompt, 0.5, policy=policy))
    row = decoding.rows[0]
    for threshold in (0.99, 0.2, 0.97, 1.01, 0.0, 0.9, 0.3):
        asked, kept = at_dials(row.request, row.events, threshold, 0)
        decoding.resume(0, asked, kept)
        decoding.finish()
        fresh = tiny_pair.generate(request(prompt, threshold, policy=policy))
        assert facts(row.events) == facts(fresh.events), threshold


def test_only_what_follows_the_first_flip_is_decoded_again(tiny_pair):
    decoding = written(tiny_pair, request())
    events = list(decoding.rows[0].events)
    threshold = max(e.score or 0.0 for e in events if e.role is Role.LLM)  # gives one token back to the SLM
    asked, kept = at_dials(decoding.rows[0].request, events, threshold, 0)
    flip = first_flip(events, threshold, 0)
    assert flip is not None and len(kept) == flip > 0
    fed = tiny_pair.slm.fed
    decoding.resume(0, asked, kept)
    again = list(decoding.run())
    assert again[0].index == flip
    assert tiny_pair.slm.fed - fed <= len(again) + 1  # the last kept token is read again, for its hidden state


@pytest.mark.parametrize("policy", ["router", "llm"])
def test_what_is_charged_and_not_read_where_a_text_goes_on_is_noted_for_its_seconds(tiny_pair, policy):
    decoding = written(tiny_pair, request(policy=policy))
    row, found = decoding.rows[0], []
    for at in reversed([event.index for event in row.events if event.role is Role.LLM]):
        back_to(decoding, 0, at)
        spared(tiny_pair, decoding)
        found.append(row.spared.get(Role.LLM, 0))
    assert found[-1] >= row.prompt_tokens - 1, "of the first token the whole prompt, but for what is always read"


def spared(pair, decoding):
    """The event of a step, of which the row must say how much less each model read than the event charges for."""
    models = {Role.SLM: pair.slm, Role.LLM: pair.llm}
    before = {role: model.fed for role, model in models.items()}
    (event,) = decoding.step()
    charged, row = {Role.SLM: event.slm_fed, Role.LLM: event.llm_fed}, decoding.rows[event.row]
    for role, model in models.items():
        if charged[role]:
            assert charged[role] - (model.fed - before[role]) == row.spared[role], (event.index, role)
    return event


def test_what_was_read_for_candidates_alone_is_in_the_seconds_of_what_goes_on_from_there(tiny_pair):
    decoding = written(tiny_pair, request(policy="llm"), tokens=9)
    back_to(decoding, 0, 5)
    decoding.reveal(0)
    spared(tiny_pair, decoding)
    decoding = written(tiny_pair, request(threshold=0.0), tokens=9)
    decoding.reveal(0)
    decoding.rows[0].dial.threshold = 1.01
    event = spared(tiny_pair, decoding)
    assert event.llm_fed == decoding.rows[0].prompt_tokens + 9
    assert decoding.rows[0].spared[Role.LLM] == event.llm_fed - 1, "all but the last token, for its hidden state"


def test_what_is_read_again_after_a_row_was_away_is_in_no_seconds(tiny_pair):
    decoding = written(tiny_pair, request(), tokens=9)
    row = decoding.remove(0)
    other = tiny_pair.start([request(PROMPTS[1])]).rows[0]
    decoding.add([other.request], [other.policy], [other.tokens])
    decoding.step()
    decoding.remove(0)
    decoding.enter([row])
    event = spared(tiny_pair, decoding)
    assert event.slm_fed == 1 and row.spared[Role.SLM] == -(row.prompt_tokens + 8)


def test_a_draft_that_took_others_back_is_taken_back_by_none_after_the_acceptance_was_raised(tiny_pair):
    """Written at acceptance 0, then live at 1: drafts before the change are unread, and later ones were taken back."""
    decoding = tiny_pair.start([request(PROMPTS[0], 0.0, policy="confidence")])
    row = decoding.rows[0]
    while not any(event.taken_back for event in row.events):
        assert decoding.active
        decoding.step()
        row.dial.acceptance = 1.0 if row.position >= 4 else 0.0
    decoding.finish()
    for acceptance in (0.6, 1.0):
        asked, kept = at_dials(row.request, row.events, 0.0, acceptance)
        decoding.resume(0, asked, kept)
        decoding.finish()
        assert not any(draft.taken_back for event in row.events for draft in event.taken_back)
        fresh = tiny_pair.generate(request(PROMPTS[0], 0.0, policy="confidence", acceptance=acceptance))
        assert [event.id for event in row.events] == [event.id for event in fresh.events]


def test_without_a_flip_nothing_is_decoded_and_the_text_is_complete(tiny_pair):
    decoding = written(tiny_pair, request())
    low, high = same_text(decoding.rows[0].events)
    asked, kept = at_dials(decoding.rows[0].request, decoding.rows[0].events, math.nextafter(low, 1), 0)
    assert low < asked.threshold <= high
    decoding.resume(0, asked, kept)
    assert not decoding.active


def test_the_range_of_the_same_text_ends_where_the_first_decision_flips(tiny_pair):
    events = written(tiny_pair, request()).rows[0].events
    low, high = same_text(events)
    assert low < 0.9 <= high
    assert first_flip(events, high, 0) is None and first_flip(events, math.nextafter(high, 2), 0) is not None
    assert first_flip(events, low, 0) is not None and first_flip(events, math.nextafter(low, 1), 0) is None


def test_a_text_that_was_cut_short_goes_on_at_the_new_threshold(tiny_pair):
    decoding = written(tiny_pair, request(), tokens=9)
    row = decoding.rows[0]
    decoding.resume(0, *at_dials(row.request, row.events, 0.3, 0))
    decoding.finish()
    assert facts(row.events) == facts(tiny_pair.generate(request(threshold=0.3)).events)


def test_candidates_revealed_later_stay_with_the_tokens_that_are_kept(tiny_pair):
    decoding = written(tiny_pair, request(alternatives=3))
    row = decoding.rows[0]
    decoding.resume(0, *at_dials(row.request, row.events, 0.3, 0))
    decoding.finish()
    assert audit(fold_revealed(row.events)).unknown == ()


def test_a_branch_goes_on_from_the_chosen_token_and_the_old_one_can_be_gone_back_to(tiny_pair):
    decoding = written(tiny_pair, request(alternatives=3))
    row = decoding.rows[0]
    trunk = fold_revealed(row.events)
    at = next(e.index for e in trunk if e.index > 5 and e.slm_alternatives[1].id != e.id)
    other = trunk[at].slm_alternatives[1].id
    asked = replace(row.request, forced=(Forced(at, Role.SLM, other),))
    decoding.resume(0, asked, trunk[:at])
    decoding.finish()
    assert [e.id for e in row.events[: at + 1]] == [*(e.id for e in trunk[:at]), other]
    assert row.events[at].forced and facts(row.events) == facts(tiny_pair.generate(asked).events)
    decoding.resume(0, request(alternatives=3, threshold=0.3), at_dials(asked, trunk, 0.3, 0)[1])
    decoding.finish()
    assert facts(row.events) == facts(tiny_pair.generate(request(threshold=0.3)).events)


def test_a_forced_author_writes_its_own_token_and_never_flips(tiny_pair):
    plain = tiny_pair.generate(request(threshold=0.0))
    forced = tiny_pair.generate(request(threshold=0.0, forced=(Forced(4, Role.LLM),)))
    assert [e.role for e in forced.events].count(Role.LLM) == 1 and forced.events[4].role is Role.LLM
    assert facts(forced.events[:4]) == facts(plain.events[:4])
    assert first_flip(forced.events, 0.0, 0) is None
    assert type(forced).from_json(forced.to_json()) == forced


def test_a_forced_token_that_the_tokenizer_does_not_have_is_refused_by_number(tiny_pair):
    with pytest.raises(InvalidRequest, match="forced id = 999999 at position 3"):
        tiny_pair.generate(request(forced=(Forced(3, Role.SLM, 999_999),)))
    with pytest.raises(InvalidRequest, match="each position once"):
        request(forced=(Forced(3, Role.SLM), Forced(3, Role.LLM)))


def test_an_audit_names_what_the_other_model_would_have_written(tiny_pair):
    trace = tiny_pair.generate(request(alternatives=2))
    found = audit(trace.events)
    assert found.unknown == ()
    for event in trace.events:
        other = event.llm_alternatives if event.role is Role.SLM else event.slm_alternatives
        differs = other[0].id != event.id
        assert (event.index in found.missed) == (event.role is Role.SLM and differs)
        assert (event.index in found.wasted) == (event.role is Role.LLM and not differs)


def test_a_text_that_was_cut_short_is_audited_after_one_more_pass_which_changes_nothing(tiny_pair):
    decoding = written(tiny_pair, request(threshold=0.0, alternatives=2), tokens=9)
    row = decoding.rows[0]
    assert len(audit(fold_revealed(row.events)).unknown) > 0
    late, whole = decoding.reveal(0)
    assert whole
    row.events[-1] = replace(row.events[-1], revealed=(*row.events[-1].revealed, *late))
    assert audit(fold_revealed(row.events)).unknown == ()
    decoding.finish()
    assert facts(row.events) == facts(tiny_pair.generate(request(threshold=0.0)).events)
