"""The README's first five minutes, step by step, in front of the tiny pair: what is shown is what the engine writes."""

from __future__ import annotations

import pytest

from app.figures import percent
from app.recorded import Recorded, record
from app.sweep import MAP_ACCEPTANCES, MAP_THRESHOLDS
from engine import Forced, Request, Role, audit, first_flip, load_settings
from engine.events import role_at
from engine.pair import Pair
from engine.request import Turn
from tests.support.browser import Window, along, drag, eventually, expect, newest, paused, serve

PROMPT = "Ben has $20. Ben earns $15. Ben spends $9. How much money is it now?"
DISPUTED = "Add 47 and 38, then take away 19."
"""The tiny models disagree about it at many tokens."""
BOX = "#threshold input[type=number]"
ACCEPTANCE = "#acceptance input[type=range]"


@pytest.fixture(scope="module")
def pair(tiny_pair):
    return tiny_pair


@pytest.fixture(scope="module")
def recorded(pair) -> Recorded:
    traces = tuple(record(pair, Request(DISPUTED, max_new_tokens=60), rows=8))
    return Recorded(0.9, "python -m app.recorded", "abc", "a machine", traces)


@pytest.fixture(scope="module")
def site(pair, recorded):
    settings = load_settings(max_new_tokens=60)
    with serve(lambda preset, progress: pair, settings=settings, recorded=recorded) as site:
        yield site


@pytest.fixture
def shown(site_window: Window, pair: Pair):
    """The page as it is once the pair is there, with the recorded text."""
    site_window.open()
    site_window.page.wait_for_selector("text=tiny SLM ⇄ LLM")
    expect(site_window.page.locator(BOX)).to_have_value(str(pair.threshold))
    site_window.page.wait_for_selector(".t >> nth=5")
    yield site_window
    assert site_window.errors == []


def expected(pair: Pair, threshold: float | None = None, **options):
    dial = pair.threshold if threshold is None else threshold
    return pair.generate(Request(PROMPT, dial, max_new_tokens=60, alternatives=5, **options))


def read(pair: Pair) -> tuple[int, int]:
    return pair.slm.fed, pair.llm.fed


def write(shown: Window, pair: Pair):
    """Step 2 begins so: a text of one's own."""
    shown.write(PROMPT)
    trace = expected(pair)
    shown.shows(trace.events)
    return trace


def test_step_1_the_threshold_is_dragged_through_the_recorded_text_and_no_model_is_asked(shown, pair, recorded):
    page, before = shown.page, read(pair)
    page.mouse.move(*along(page, 0.5))
    page.mouse.down()
    for row, trace in enumerate(recorded.traces):
        page.mouse.move(*along(page, row / (len(recorded.traces) - 1)))
        shown.shows(trace.events)
        assert float(page.input_value(BOX)) == trace.threshold
        share = " ".join(percent(trace.llm_share).split())
        eventually(lambda share=share: shown.inner(".headline").startswith(f"{share} by the LLM"))
    page.mouse.up()
    assert read(pair) == before
    assert DISPUTED in shown.inner(".stream-origin")
    line = page.locator(".t.llm").first.evaluate("node => getComputedStyle(node).textDecorationLine")
    assert line == "underline", "colour is not the only cue"


def test_step_2_a_text_of_ones_own_is_dragged_outlined_and_written_on_from_the_first_flip(shown, pair, site):
    page, trace = shown.page, write(shown, pair)
    flips = [e.index for e in trace.events if e.score is not None and role_at(e.score, 0.0) is not e.role]
    page.evaluate("document.querySelectorAll('.t').forEach(t => { t.mine = true; })")
    at_zero, before = expected(pair, 0.0), read(pair)
    page.mouse.move(*along(page, 0.5))
    page.mouse.down()
    page.mouse.move(*along(page, 0.0), steps=5)
    eventually(lambda: shown.marked("flip") == flips)
    assert shown.marked("stale") == list(range(flips[0] + 1, len(trace.events))), "what follows is not yet true"
    assert read(pair) == before, "a hand that holds the slider asks for nothing"
    page.mouse.up()
    shown.shows(at_zero.events)
    assert pair.slm.fed - before[0] <= len(at_zero.events) - flips[0] + 1, "no token is read again"
    kept = page.evaluate("[...document.querySelectorAll('.t')].filter(t => t.mine).length")
    assert kept == first_flip(trace.events, 0.0, 0) == flips[0]
    expect(page.locator(".t.flip, .t.stale")).to_have_count(0)


def test_step_2_a_follow_up_goes_on_from_prompt_and_text(shown, pair):
    first = write(shown, pair)
    shown.page.click(".stream-follow")
    expect(shown.page.locator("#prompt textarea")).to_have_value("")
    shown.write("Add 4.")
    turns = (Turn("user", PROMPT), Turn("assistant", first.text))
    shown.shows(pair.generate(Request("Add 4.", pair.threshold, turns=turns, max_new_tokens=60)).events)


def test_step_3_at_acceptance_1_the_text_is_the_llms_own_though_the_slm_wrote_of_it(shown, pair):
    write(shown, pair)
    drag(shown.page, "#track input", 0.5, 0.0)
    shown.shows(expected(pair, 0.0).events)
    drag(shown.page, ACCEPTANCE, 0.0, 0.4, 1.0)
    alone = pair.generate(Request(PROMPT, policy="llm", max_new_tokens=60))
    eventually(lambda: shown.text() == alone.text)
    shown.wait_state("done")
    assert "slm" in shown.authors() and shown.marked("draft") == []
    assert float(shown.page.input_value("#acceptance input[type=number]")) == 1


def test_step_4_a_candidate_of_a_token_branches_the_text_and_undo_goes_back(shown, pair):
    trunk = write(shown, pair)
    event = next(e for e in trunk.events if e.role is Role.SLM and e.index > 4)
    shown.page.click(f'.t[data-i="{event.index}"]')
    expect(shown.page.locator(".candidate")).to_have_count(10)
    facts = shown.inner(".inspector .facts")
    assert f"token {event.index + 1}" in facts and "SLM" in facts and f"{event.score:.4f}" in facts
    expect(shown.page.locator(".inspector .cost")).to_contain_text("LLM only")
    other = event.slm_alternatives[1]
    shown.page.click(f'.candidate[data-author="0"][data-id="{other.id}"]')
    forced = (Forced(event.index, Role.SLM, other.id),)
    shown.shows(expected(pair, forced=forced).events)
    assert shown.marked("forced") == [event.index]
    shown.slide("#threshold", 0.2)
    shown.shows(expected(pair, 0.2, forced=forced).events)
    branch, undo = expected(pair, forced=forced), '[data-step="-1"]'
    before = read(pair)
    for kept in (branch, trunk):
        shown.page.click(undo)
        shown.shows(kept.events)
    assert read(pair) == before, "kept texts are not written again"


def test_step_5_an_audit_marks_missed_and_wasted_tokens_and_leaves_the_text(shown, pair):
    found, text = audit(write(shown, pair).events), shown.text()
    assert found.missed or found.wasted
    shown.page.click(".audit-toggle")
    for kind in ("missed", "wasted"):
        places = list(getattr(found, kind))
        assert shown.marked(kind) == places
        assert shown.inner(f'[data-count="{kind}"]') == str(len(places))
    kind = "wasted" if found.wasted else "missed"
    shown.page.click(f'[data-kind="{kind}"] [data-jump="1"]')
    assert shown.marked("pinned") == [getattr(found, kind)[0]] and shown.text() == text
    shown.page.click(".audit-toggle")
    expect(shown.page.locator(".t.missed, .t.wasted")).to_have_count(0)


def test_step_6_a_point_on_the_map_of_a_sweep_shows_its_finished_text_and_sets_both_sliders(shown, pair, site):
    page = shown.page
    page.fill("#prompt textarea", DISPUTED)
    page.click(".sweep-go")
    page.wait_for_selector('#sweep [data-state="done"], #sweep[data-state="done"]')
    (sweep,) = [s.jobs["sweep"] for s in site.sessions._all() if "sweep" in s.jobs][-1:]
    cells, before = page.locator(".map-cell"), read(pair)
    expect(cells).to_have_count(MAP_THRESHOLDS * len(MAP_ACCEPTANCES))
    thresholds = sorted({point.threshold for point in sweep.points})
    page.locator(".map-cells").scroll_into_view_if_needed()
    for step, (y, x) in enumerate(((4, 0), (2, 4), (1, 2))):
        at = (thresholds[x], sorted(MAP_ACCEPTANCES, reverse=True)[y])
        row, cell = sweep.points.index(at), cells.nth(y * MAP_THRESHOLDS + x)
        box = cell.bounding_box()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        if step == 0:
            page.mouse.down()
        shown.shows(sweep.events[row])
        expect(cell).to_have_attribute("aria-selected", "true")
        assert cell.text_content() == str(int(100 * sweep.figures[row][1] + 0.5)), "the cost beside LLM-only"
    page.mouse.up()
    expect(page.locator(BOX)).to_have_value(str(at[0]))
    expect(page.locator("#acceptance input[type=number]")).to_have_value(f"{at[1]:g}")
    assert read(pair) == before, "nothing was decoded"
    with paused(site.host):
        page.click(".sweep-open")
        eventually(lambda: newest(site).request.threshold == at[0])
    shown.shows(pair.generate(Request(DISPUTED, at[0], acceptance=at[1], max_new_tokens=60)).events)
