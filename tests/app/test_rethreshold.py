"""Moving the threshold of a finished text, branching it and auditing it, on the tiny pair in Chromium."""

from __future__ import annotations

import pytest

from app.figures import percent
from engine import Forced, Request, Role, audit, first_flip, same_text
from engine.events import role_at
from engine.pair import Pair
from tests.support.browser import Window, eventually, expect, paused, window

PROMPT = "Ben has $20. Ben earns $15. Ben spends $9. How much money is it now?"


@pytest.fixture(scope="module")
def pair(tiny_pair):
    return tiny_pair


@pytest.fixture
def shown(site_window: Window, pair: Pair):
    """The page with the text of the router's own threshold."""
    site_window.open()
    start = f"document.querySelector('#threshold input[type=range]').value == {pair.threshold}"
    site_window.page.wait_for_function(start)
    site_window.write(PROMPT)
    yield site_window
    assert site_window.errors == []


def expected(pair: Pair, threshold: float, **options):
    return pair.generate(Request(PROMPT, threshold, max_new_tokens=60, alternatives=5, **options))


def roles(shown: Window) -> list[str]:
    return shown.page.eval_on_selector_all(".t", "nodes => nodes.map(n => n.classList.contains('llm') ? 'llm' : 'slm')")


def shows(shown: Window, trace) -> None:
    """Waits until the page has a trace's text, with its authors, and says that it is done."""
    wanted = [(event.text, event.role.value) for event in trace.events if event.text]
    state = ".stream-state"

    def there() -> bool:
        found = [(t, r) for t, r in zip(shown.page.eval_on_selector_all(".t", _TEXTS), roles(shown), strict=False) if t]
        return found == wanted and shown.page.get_attribute(state, "data-state") == "done"

    eventually(there, 15)


_TEXTS = "nodes => nodes.map(n => n.classList.contains('end') ? '' : n.textContent)"


@pytest.mark.parametrize("threshold", [0.0, 0.5, 0.9, 1.01])
def test_moving_the_slider_gives_the_text_of_a_run_at_that_threshold(shown, pair, threshold):
    shown.slide("#threshold", threshold)
    shows(shown, expected(pair, threshold))
    events = expected(pair, threshold).events
    share = percent(sum(event.role is Role.LLM for event in events) / len(events))
    eventually(lambda: shown.field("share") == share.replace("\N{NARROW NO-BREAK SPACE}", " "))


def test_tokens_before_the_first_flip_stay_where_they_are_and_are_not_sent_again(shown, pair):
    before, after = expected(pair, pair.threshold), expected(pair, 0.0)
    flip = first_flip(before.events, 0.0, 0)
    assert flip is not None and flip > 2
    shown.page.evaluate("document.querySelectorAll('.t').forEach((t, i) => { t.mine = i; })")
    fed = pair.slm.fed
    shown.slide("#threshold", 0.0)
    shows(shown, after)
    assert pair.slm.fed - fed <= len(after.events) - flip + 1
    kept = shown.page.evaluate("[...document.querySelectorAll('.t')].filter(t => t.mine !== undefined).length")
    assert kept == flip


def test_many_moves_end_with_the_text_of_the_last(shown, pair):
    for step in range(0, 101, 4):
        shown.slide("#threshold", step / 100)
    for step in range(99, 30, -3):
        shown.slide("#threshold", step / 100)
    shows(shown, expected(pair, 0.33))


def test_the_page_names_the_next_change_in_both_directions_and_jumps_there(shown, pair):
    down, up = (float(shown.page.get_attribute(f'[data-change="{d}"]', "value") or "nan") for d in (-1, 1))
    assert down < pair.threshold < up
    here = expected(pair, pair.threshold)
    low, high = same_text(here.events)
    assert down <= low < up and down < high < up
    for outside in (down, up):  # the nearest: one decision flips, or such as have the same score
        scored = [(event.score, event.role) for event in here.events if event.score is not None]
        flipped = [score for score, role in scored if role_at(score, outside) is not role]
        assert flipped and max(flipped) - min(flipped) < 1e-6
    shown.page.click('[data-change="-1"]')
    shows(shown, expected(pair, down))
    shown.slide("#threshold", pair.threshold)
    shows(shown, here)
    shown.page.click('[data-change="1"]')
    shows(shown, expected(pair, up))


def test_no_next_change_is_offered_where_nothing_has_a_score(shown, pair):
    expect(shown.page.locator('[data-change="1"]')).to_be_enabled()
    shown.page.click("#policy input")
    shown.page.click('[role="option"] >> text="always the SLM"')
    shown.page.click("#generate")
    eventually(lambda: shown.text() == pair.generate(Request(PROMPT, policy="slm", max_new_tokens=60)).text)
    shown.wait_state("done")
    for way in (-1, 1):
        expect(shown.page.locator(f'[data-change="{way}"]')).to_be_disabled()


def test_the_preview_is_there_before_the_server_has_answered(shown, site, pair):
    with paused(site.host):
        shown.slide("#threshold", 0.0)
        shown.page.wait_for_selector(".t.flip")
        assert "would flip" in (shown.page.text_content(".stream-preview") or "")
    shows(shown, expected(pair, 0.0))
    expect(shown.page.locator(".t.flip, .t.stale")).to_have_count(0)


def test_a_candidate_branches_the_text_and_the_first_text_can_be_gone_back_to(shown, pair):
    trunk = expected(pair, pair.threshold)
    at = next(e.index for e in trunk.events if e.role is Role.SLM and e.index > 4)
    shown.page.click(f'.t[data-i="{at}"]')
    candidate = trunk.events[at].slm_alternatives[1]
    shown.page.click(f'.candidate[data-author="0"][data-id="{candidate.id}"]')
    shows(shown, expected(pair, pair.threshold, forced=(Forced(at, Role.SLM, candidate.id),)))
    expect(shown.page.locator(".t.forced")).to_have_count(1)
    versions = shown.page.locator(".version")
    eventually(lambda: versions.count() == 2)
    assert f"token {at + 1}" in (versions.nth(1).text_content() or "")
    fed = pair.slm.fed
    versions.nth(0).click()
    shows(shown, trunk)
    assert pair.slm.fed == fed


def test_a_branch_keeps_its_token_at_other_thresholds(shown, pair):
    at = 3
    shown.page.click(f'.t[data-i="{at}"]')
    other = expected(pair, pair.threshold).events[at].llm_alternatives[2]
    shown.page.click(f'.candidate[data-author="1"][data-id="{other.id}"]')
    forced = (Forced(at, Role.LLM, other.id),)
    shows(shown, expected(pair, pair.threshold, forced=forced))
    shown.slide("#threshold", 0.2)
    shows(shown, expected(pair, 0.2, forced=forced))


def test_an_audit_marks_missed_and_wasted_tokens_and_never_changes_the_text(shown, pair):
    found = audit(expected(pair, pair.threshold).events)
    text = shown.text()
    shown.page.click(".audit-toggle")
    for kind in ("missed", "wasted"):
        marked = shown.page.eval_on_selector_all(f".t.{kind}", "nodes => nodes.map(n => Number(n.dataset.i))")
        assert tuple(marked) == getattr(found, kind)
        assert shown.page.text_content(f'[data-count="{kind}"]') == str(len(getattr(found, kind)))
    assert len(found.missed) + len(found.wasted) > 0 and shown.text() == text
    kind = "wasted" if found.wasted else "missed"
    shown.page.click(f'[data-kind="{kind}"] [data-jump="1"]')
    expect(shown.page.locator(".t.pinned").first).to_have_attribute("data-i", str(getattr(found, kind)[0]))
    shown.page.click(".audit-toggle")
    expect(shown.page.locator(".t.missed, .t.wasted")).to_have_count(0)


def test_the_inspector_says_what_a_token_cost_and_how_undecided_both_models_were(shown, pair):
    shown.page.click('.t[data-i="2"]')
    eventually(lambda: "LLM only" in (shown.page.text_content(".inspector .cost") or ""))
    event = expected(pair, pair.threshold).events[2]
    bits = shown.page.eval_on_selector_all(".candidates small", "nodes => nodes.map(n => n.textContent)")
    assert bits == [f"{event.slm_entropy:.1f} bits", f"{event.llm_entropy:.1f} bits"]


def test_two_windows_never_change_each_others_text(browser, site, shown, pair):
    prompt = "Mia has 12 shells. Mia finds 7 more."
    with window(browser, site) as other:
        other.write(prompt)
        other.slide("#threshold", 0.0)
        shown.slide("#threshold", 1.01)
        shows(shown, expected(pair, 1.01))
        shows(other, pair.generate(Request(prompt, 0.0, max_new_tokens=60)))


def test_texts_stay_when_their_caches_were_given_up(shown, site, pair):
    for session in site.sessions._sessions.values():
        site.host.leave(session.key)
    shown.slide("#threshold", 0.4)
    shows(shown, expected(pair, 0.4))
