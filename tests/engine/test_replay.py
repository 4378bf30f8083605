"""Other dials, another branch: the text up to the change stays, and what follows costs what it would cost afresh.

That it is the text of a fresh run is `test_machine`'s.
"""

from __future__ import annotations

import json
import math
from dataclasses import replace

from engine import Request, Role, Setting, Trace, at_setting, costs, first_flip
from engine.events import taken_back
from engine.pair import Pair
from tests.support.paths import ROOT
from tests.support.texts import PROMPTS, asked, expected, facts, ids, resume, verified


def request(threshold: float = 0.9, **options) -> Request:
    return asked(PROMPTS[3], threshold, **{"max_new_tokens": 60, **options})


def written(pair: Pair, request: Request, tokens: int | None = None):
    """A decoding whose only text was written to its end, or to so many tokens."""
    decoding = pair.start([request])
    for event in decoding.run():
        if tokens is not None and event.index + 1 >= tokens:
            break
    return decoding


def test_a_text_at_other_thresholds_says_of_itself_what_a_fresh_run_says(tiny_pair):
    decoding = written(tiny_pair, request(0.5))
    text = decoding.texts[0]
    for threshold in (0.99, 0.2, 1.01, 0.0, 0.9):
        resume(decoding, text, *at_setting(text.request, text.events, replace(text.setting, threshold=threshold)))
        decoding.finish()
        assert facts(text.events) == expected(tiny_pair, request(threshold)), threshold


def test_a_text_that_the_llm_corrects_costs_at_a_higher_threshold_what_a_fresh_run_costs(tiny_pair):
    """Fewer drafts are refused there, since the LLM is asked for some of these tokens at once."""
    refused = 0
    for prompt in PROMPTS:
        asked = replace(request(0.2, acceptance=0.3, max_draft=4), prompt=prompt)
        text = written(tiny_pair, asked).texts[0]
        before = taken_back(text.events)
        for threshold in (0.5, 0.9, 0.99):
            decoding, setting = tiny_pair.open(), replace(asked.setting, threshold=threshold)
            again = tiny_pair.texts([asked])[0]
            again.go_on(*at_setting(asked, text.events, setting))
            decoding.add([again])
            decoding.finish()
            assert facts(again.events) == expected(tiny_pair, replace(asked, setting=setting)), (prompt, threshold)
            refused += before - taken_back(again.events)
    assert refused > 0


def test_only_what_follows_the_first_flip_is_decoded_again(tiny_pair):
    decoding = written(tiny_pair, request())
    events = list(decoding.texts[0].events)
    threshold = max(e.score or 0.0 for e in events if e.role is Role.LLM)  # gives one token back to the SLM
    moved, kept = at_setting(decoding.texts[0].request, events, Setting(threshold=threshold))
    flip = first_flip(events, Setting(threshold=threshold))
    assert flip is not None and len(kept) == flip > 0
    fed = tiny_pair.slm.fed
    resume(decoding, decoding.texts[0], moved, kept)
    again = list(decoding.run())
    assert again[0].index == flip
    assert tiny_pair.slm.fed - fed <= len(again) + 1  # the last kept token is read again, for its hidden state


def test_a_draft_that_took_others_back_is_taken_back_by_none_after_the_acceptance_was_raised(tiny_pair):
    """Written at acceptance 0, then live at 1: drafts before the change are unread, and later ones were taken back."""
    asked = verified(threshold=0.0, acceptance=0.0, policy="confidence")
    decoding = tiny_pair.start([asked])
    text = decoding.texts[0]
    for _ in range(8):
        decoding.step()
    text.setting = replace(text.setting, acceptance=1.0)
    decoding.finish()
    assert any(event.taken_back for event in text.events)
    resume(decoding, decoding.texts[0], *at_setting(text.request, text.events, text.setting))
    decoding.finish()
    assert any(event.taken_back for event in text.events[:8]), "a draft from before the change is taken back"
    assert not any(draft.taken_back for event in text.events for draft in event.taken_back)
    assert ids(text.events) == ids(tiny_pair.generate(asked, acceptance=1.0).events)


def test_a_decision_flips_where_the_dial_passes_its_score_or_its_ratio(tiny_pair):
    events = list(written(tiny_pair, request()).texts[0].events)
    low = max(e.score for e in events if e.role is Role.LLM and e.score is not None)
    high = min(e.score for e in events if e.role is Role.SLM and e.score is not None)
    for at, same in ((low, False), (math.nextafter(low, 1), True), (high, True), (high + 1e-6, False)):
        assert (first_flip(events, Setting("router", at)) is None) == same
    row = verified()
    events = tiny_pair.generate(row).events
    kept = min(e.ratio for e in events if e.role is Role.SLM and e.ratio is not None)
    for at, same in ((row.setting.acceptance, True), (kept, True), (min(1.0, math.nextafter(kept, 2)), kept == 1)):
        assert (first_flip(events, replace(row.setting, acceptance=at)) is None) == same


OLD = ROOT / "tests" / "support" / "trace_before_acceptance.json"
"""Written by `python -m engine … --json` at revision 85f8a86, before there was an acceptance."""


def test_a_trace_from_before_there_was_an_acceptance_opens_and_is_written_again(tiny_pair):
    assert not {"acceptance", "max_draft"} & json.loads(OLD.read_text("utf-8")).keys()
    old = Trace.load(OLD)
    assert (old.acceptance, old.max_draft) == (0.0, "auto")
    again = tiny_pair.generate(old.request)
    assert (ids(again.events), again.text, again.finish_reason) == (ids(old.events), old.text, old.finish_reason)
    then, now = (costs(each.events, each.prompt_tokens, each.slm_cost, each.llm_cost).run for each in (old, again))
    assert (then.bytes, then.flops) == (now.bytes, now.flops)
    assert old.to_json() == Trace.from_json(old.to_json()).to_json()
