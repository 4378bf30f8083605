"""The sweep: one prompt at many settings of the dials, and the sliders that scrub through them, on the tiny pair."""

from __future__ import annotations

import json
import re
import threading
from dataclasses import replace
from types import SimpleNamespace

import pytest

from app.controls import THRESHOLD_DIGITS
from app.figures import meter, simplest
from app.running.host import Host
from app.running.job import Job
from app.running.session import Session
from app.stream.updates import PanelState
from app.sweep import (
    ACCEPTANCES,
    OVER,
    Over,
    Sweep,
    SweepUpdates,
    SweptPoint,
    choose_points,
    choose_thresholds,
    sweep_message,
)
from engine import InvalidRequest, Prices, Request, Role, costs
from engine.events import role_at
from engine.pair import Pair
from tests.support.browser import Window, along, eventually, expect

PROMPT = "Ben has $20. Ben earns $15. Ben spends $9. How much money is it now?"
DISPUTED = "Add 47 and 38, then take away 19."
"""The tiny models disagree about it at many tokens."""


@pytest.fixture(scope="module")
def pair(tiny_pair):
    return tiny_pair


@pytest.fixture
def shown(site_window: Window):
    site_window.open()
    eventually(lambda: site_window.page.locator("text=tiny SLM").count(), 30)
    site_window.page.fill("#prompt textarea", PROMPT)
    yield site_window
    assert site_window.errors == []


@pytest.fixture
def held(monkeypatch):
    """Holds every sweep after six hundred tokens until it is cancelled: a whole one takes a fraction of a second."""
    plain = Sweep._grow

    def grow(sweep, event):
        plain(sweep, event)
        if sum(map(len, sweep.events)) == 600:
            sweep.cancel.wait(30)

    monkeypatch.setattr(Sweep, "_grow", grow)


def swept(pair: Pair, over: Over = "threshold", prompt: str = PROMPT, **options) -> Sweep:
    host = Host(lambda preset, progress: pair)
    asked = Request(prompt, max_new_tokens=40, max_draft=8, **options)  # "auto" depends on the clock
    sweep = Sweep(asked, [], Prices(), over).start(host)
    assert sweep.finished.wait(60), sweep.state
    return sweep


def press(shown: Window, over: str = "threshold") -> None:
    """Presses Sweep and waits for its end."""
    shown.page.select_option(".sweep-over", over)
    shown.page.click(".sweep-go")
    shown.page.wait_for_selector('#sweep [data-state="done"], #sweep[data-state="done"]', timeout=60_000)


def last_sweep(site) -> Sweep:
    return [s.jobs["sweep"] for s in site.sessions._sessions.values() if "sweep" in s.jobs][-1]


def text_of(shown: Window) -> tuple[str, list[str]]:
    roles = "nodes => nodes.map(n => n.classList.contains('llm') ? 'llm' : 'slm')"
    return shown.text(), shown.page.eval_on_selector_all(".t", roles)


@pytest.mark.parametrize("policy", ["router", "confidence", "random"])
@pytest.mark.parametrize("over", OVER)
def test_every_setting_of_a_sweep_has_the_text_and_the_cost_of_a_run_of_its_own(pair, policy, over):
    sweep = swept(pair, over, policy=policy, acceptance=0.2)
    assert sweep.state == "done" and sweep.points[-1].threshold > 1
    for row in range(0, len(sweep.points), 4):
        alone = pair.generate(sweep.at(row))
        assert [(e.id, e.role) for e in sweep.events[row]] == [(e.id, e.role) for e in alone.events]
        share, moved, *_ = sweep.figures[row] or []
        assert share == pytest.approx(alone.llm_share, abs=1e-4)
        spent = costs(alone.events, alone.prompt_tokens, pair.slm_cost, pair.llm_cost)
        assert moved == pytest.approx(spent.run.bytes / spent.llm_only.bytes, rel=5e-3)


def test_a_swept_text_has_the_figures_that_the_meter_has_of_a_run_of_its_own(pair):
    sweep = swept(pair)
    message = json.loads(sweep_message(sweep, 0)[0])
    for row in range(0, len(sweep.points), 5):
        alone = pair.generate(sweep.at(row))
        total = costs(alone.events, alone.prompt_tokens, pair.slm_cost, pair.llm_cost)
        for unit in ("bytes", "flops", "price"):
            told = meter(alone.events, total, unit)
            for name in ("share", "run", "slm", "llm", "relative", "saves", "gauge"):
                assert message["meters"][row][unit][name] == told[name], (row, unit, name)


def test_the_thresholds_of_scores_lie_between_them_with_few_digits():
    assert simplest(0.2, 0.5) == 0.4 and simplest(0.31, 0.32) == 0.319
    assert simplest(0.9997, 1.0) == 1.0 and simplest(0.99912, 0.99987) == 0.9998
    assert simplest(0.5, 0.5000001) is None and simplest(0.5, 0.5) is None


@pytest.mark.parametrize("over", OVER)
def test_a_sweep_sends_every_token_of_the_tree_once(pair, over):
    sweep = swept(pair, over, DISPUTED)
    message = json.loads(sweep_message(sweep, 0)[0])
    assert message["count"] == len(message["nodes"]) < sum(map(len, sweep.events)) / 2
    for leaf, events in zip(message["leaves"], sweep.events, strict=True):
        path = []
        while leaf >= 0:
            parent, text, _ = message["nodes"][leaf]
            assert parent < leaf
            path.append(text)
            leaf = parent
        assert path[::-1] == [event.text for event in events]
    rest = json.loads(sweep_message(sweep, 7)[0])
    assert rest["nodes"] == message["nodes"][7:]


def test_authors_follow_from_scores_and_from_the_drafts_that_were_replaced(pair):
    sweep = swept(pair, "both", DISPUTED)
    message = json.loads(sweep_message(sweep, 0)[0])
    ratios = dict(message["replaced"])
    assert len(ratios) == len(message["replaced"]) > 5 and all(0 <= ratio < 1 for ratio in ratios.values())
    for (threshold, _), leaf, events in zip(sweep.points, message["leaves"], sweep.events, strict=True):
        authors = []
        while leaf >= 0:
            parent, _, score = message["nodes"][leaf]
            authors.append(Role.LLM if leaf in ratios else role_at(score, threshold))
            leaf = parent
        assert authors[::-1] == [event.role for event in events]


@pytest.mark.parametrize("over", OVER)
def test_within_its_ranges_of_both_dials_a_text_is_the_same(pair, over):
    sweep = swept(pair, over, DISPUTED, threshold=0.9)
    for row in range(0, len(sweep.points), 3):
        low, high, least, most = sweep.same[row] or []
        at = sweep.points[row]
        assert low < at.threshold <= high and least < at.acceptance <= most
        # Not at the end itself, but next to it: in a batch of other rows a ratio differs in its sixth digit.
        inside = 0.99 * min(most, 1.0) + 0.01 * at.acceptance
        other = replace(sweep.at(row), threshold=max(0.0, (low + at.threshold) / 2), acceptance=inside)
        alone = pair.generate(other)
        assert [e.id for e in alone.events] == [e.id for e in sweep.events[row]], (at, other)


def test_the_map_has_llm_only_once_and_the_llms_own_text_wherever_acceptance_is_1(pair):
    sweep = swept(pair, "both", DISPUTED)
    assert len(sweep.points) == len(set(sweep.points)) == 31
    assert sum(point.threshold > 1 for point in sweep.points) == 1
    for point, leaf in zip(sweep.points, sweep.leaves, strict=True):
        assert point.acceptance < 1 or leaf == sweep.leaves[-1]
    assert len(set(sweep.leaves)) > 3


def test_the_dial_that_is_not_swept_stays_where_it_is(pair):
    asked = Request(PROMPT, 0.7, acceptance=0.2)
    *along, llm_only = choose_points(asked, "acceptance", [], pair)
    assert along == [SweptPoint(0.7, acceptance) for acceptance in ACCEPTANCES] and llm_only.threshold > 1
    assert {point.acceptance for point in choose_points(asked, "threshold", [], pair)} == {0.2}


def test_acceptance_alone_is_not_swept_where_the_llm_writes_everything(pair):
    sweep = swept(pair, "acceptance", threshold=1.01)
    assert sweep.state == "failed" and "threshold = 1.01" in (sweep.error or "")


def test_thresholds_are_steps_of_the_slider_and_lie_where_the_router_was_measured(pair):
    found = choose_thresholds(Request(PROMPT), [], pair)
    assert found == sorted(set(found)) and all(round(t, THRESHOLD_DIGITS) == t for t in found)
    curve = pair.operating_points.curves[0]
    shares = [curve.at(t).llm_share for t in found]
    assert sum(0.05 < share < 0.95 for share in shares) >= 5


def test_a_policy_without_a_threshold_is_refused(pair):
    sweep = swept(pair, policy="slm")
    assert sweep.state == "failed" and "no threshold to sweep over" in (sweep.error or "")
    with pytest.raises(InvalidRequest):
        Request(PROMPT, policy="none")


def test_stopping_keeps_what_is_there_and_leaves_no_thread(pair, held):
    host = Host(lambda preset, progress: pair)
    sweep = Sweep(Request(PROMPT, max_new_tokens=400), [], Prices(), "both").start(host)
    eventually(lambda: len(sweep.nodes) > 10)
    sweep.cancel.set()
    assert sweep.finished.wait(3) and sweep.state == "stopped" and len(sweep.nodes) > 10
    eventually(lambda: not [t for t in threading.enumerate() if t.name == f"citer-run-{sweep.number}"])
    assert isinstance(sweep, Job)


def test_the_slider_scrubs_through_finished_texts_without_asking_the_models(shown, site, pair):
    press(shown)
    sweep = last_sweep(site)
    fed = (pair.slm.fed, pair.llm.fed)
    for row in (0, len(sweep.points) // 2, len(sweep.points) - 1, 3):
        shown.slide("#threshold", sweep.points[row].threshold)
        text, roles = "".join(e.text for e in sweep.events[row]), [e.role.value for e in sweep.events[row]]
        # Two rows may differ in their authors alone, so that the text is there before it is this row's.
        eventually(lambda text=text, roles=roles: list(text_of(shown)) == [text, roles])
    assert (pair.slm.fed, pair.llm.fed) == fed, "nothing was decoded"


def test_the_strip_shows_where_the_text_changes(shown):
    press(shown)
    pieces = shown.page.locator(".sweep-strip i")
    changes = shown.page.locator(".sweep-strip i.changes").count()
    assert pieces.count() > 5 and 0 < changes < pieces.count()
    assert f"changes {changes} times" in (shown.page.get_attribute(".sweep-strip", "aria-label") or "")


def test_the_labels_of_the_chart_tell_thresholds_apart_where_they_crowd(shown):
    press(shown)
    labels = eventually(lambda: shown.page.locator(".sweep-plot .xtick text").all_text_contents(), 20)
    assert len(labels) == len(set(labels)) == 5


def test_what_differs_from_the_text_before_is_marked(shown, pair):
    press(shown)
    shown.slide("#threshold", 0.0)
    eventually(lambda: shown.page.locator(".t.llm").count() == 0)
    shown.slide("#threshold", 1.01)
    tokens = len(pair.generate(Request(PROMPT, 1.01, max_new_tokens=60)).events)
    marked = "nodes => nodes.map(n => Number(n.dataset.i))"
    # Every token has another author now.
    eventually(lambda: shown.page.eval_on_selector_all(".t.changed", marked) == list(range(tokens)))
    assert shown.page.inner_text(".key-changed") == "not in the text before", "the legend says what the mark is"
    mark = shown.page.eval_on_selector(".t.changed", "node => getComputedStyle(node).boxShadow")
    assert "inset" in mark and "0px 2px 0px" in mark, "above the text: below is the LLM's underline"


@pytest.mark.parametrize(
    ("old", "new", "differing"),
    [
        ("a b c", "a b c", []),
        ("a b c", "a x c", [1]),
        ("a b c d", "a d", []),
        ("a d", "a b c d", [1, 2]),
        ("x y z", "a b", [0, 1]),
        ("the cat sat on the mat", "the dog sat near the mat now", [1, 3, 6]),
        ("a b c", "A b c", [0]),  # another author: a capital is the LLM's here
        ("", "a b", [0, 1]),
        ("a b", "", []),
    ],
)
def test_a_difference_is_a_word_that_the_other_text_has_not_there_or_has_by_another_author(
    site_window, old, new, differing
):
    def tokens(text: str) -> list[list[object]]:
        return [[word.lower(), int(word.isupper())] for word in text.split()]

    call = """async ([a, b]) => {
      const { differing } = await import(new URL('gradio_api/citer/page/stream/difference.js', document.baseURI));
      return [...differing(a, b)].sort();
    }"""
    assert site_window.page.evaluate(call, [tokens(old), tokens(new)]) == differing


def test_a_text_of_the_sweep_opens_with_candidates_and_branches(shown, pair):
    press(shown)
    shown.slide("#threshold", 0.5)
    eventually(lambda: shown.page.locator(".sweep-open:not(:disabled)").count())
    shown.page.click(".sweep-open")
    expected = pair.generate(Request(PROMPT, 0.5, max_new_tokens=60, alternatives=5))
    eventually(lambda: shown.text() == expected.text)
    eventually(lambda: shown.page.get_attribute(".stream-state", "data-state") == "done")
    shown.page.click('.t[data-i="4"]')
    eventually(lambda: shown.page.locator(".candidate").count() == 10)
    shown.slide("#threshold", 0.0)
    eventually(lambda: shown.text() == pair.generate(Request(PROMPT, 0.0, max_new_tokens=60)).text)


def test_another_price_changes_what_the_texts_of_a_sweep_cost_and_an_opened_one_costs_the_same(shown, pair):
    press(shown)
    shown.page.click('#unit label:has-text("price")')
    shown.slide("#threshold", 0.5)
    before = settled_cost(shown)
    shown.slide("#llm-price", 0.25)
    eventually(lambda: cost_in(shown) not in (None, before))
    swept = settled_cost(shown)
    shown.page.click(".sweep-open")
    shown.wait_state("done")
    eventually(lambda: "Sweep:" not in (shown.page.text_content(".stream-state") or ""))
    eventually(lambda: cost_in(shown) == swept)


def cost_in(shown: Window) -> str | None:
    """The cost that the line beside the dials says."""
    found = re.search(r"(\S+)\s*% of its cost", shown.page.inner_text(".headline"))
    return found and found[1]


def settled_cost(shown: Window) -> str | None:
    """The same once it does not change any more: unit, threshold and price come one after the other."""
    read: list[str | None] = []

    def same_three_times() -> bool:
        shown.page.wait_for_timeout(200)
        read.append(cost_in(shown))
        return read[-1] is not None and read[-3:] == 3 * read[-1:]

    eventually(same_three_times)
    return read[-1]


def test_undo_brings_the_text_back_from_a_sweep(shown, pair):
    text = shown.write(PROMPT)
    undo = '[data-step="-1"]'
    expect(shown.page.locator(undo).first).to_be_disabled()
    press(shown)
    eventually(lambda: shown.page.is_enabled(undo))
    shown.slide("#threshold", 0.0)
    eventually(lambda: "Sweep:" in (shown.page.text_content(".stream-state") or ""))
    fed = pair.slm.fed
    shown.page.click(undo)
    eventually(lambda: "Sweep:" not in (shown.page.text_content(".stream-state") or ""))
    assert shown.text() == text and pair.slm.fed == fed
    eventually(lambda: float(shown.page.input_value("#threshold input[type=range]")) == pair.threshold)


def test_generate_during_a_sweep_stops_it_and_writes_at_once(shown, site, pair, held):
    shown.page.click(".sweep-go")
    eventually(lambda: shown.page.locator('#sweep [data-state="running"], #sweep[data-state="running"]').count())
    sweep = last_sweep(site)
    shown.write(PROMPT)
    assert sweep.state == "stopped"


def test_after_a_sweep_that_was_stopped_before_it_had_a_text_the_dials_are_those_of_the_text_on_the_page(
    shown, pair, monkeypatch
):
    shown.write(PROMPT)
    monkeypatch.setattr(Sweep, "_begin_rows", lambda sweep, points: sweep.cancel.wait(30))
    shown.page.click(".sweep-go")
    shown.page.wait_for_selector('#sweep[data-state="waiting"], #sweep [data-state="waiting"]', state="attached")
    shown.page.click("#stop")
    shown.page.wait_for_selector('#sweep[data-state="stopped"], #sweep [data-state="stopped"]', state="attached")
    shown.slide("#threshold", 0.0)
    eventually(lambda: shown.text() == pair.generate(Request(PROMPT, 0.0, max_new_tokens=60)).text)


def test_a_sweep_that_ends_after_the_text_on_the_page_is_there_after_a_reload(shown, site, monkeypatch):
    plain, go_on = Sweep._grow, threading.Event()

    def grow(sweep, event):
        plain(sweep, event)
        if sum(each is not None for each in sweep.figures) >= len(sweep.points) - 1 > 0:
            go_on.wait(20)

    monkeypatch.setattr(Sweep, "_grow", grow)
    shown.page.select_option(".sweep-over", "threshold")
    shown.page.click(".sweep-go")
    shown.page.wait_for_selector('#sweep [data-state="running"], #sweep[data-state="running"]', state="attached")
    sweep = last_sweep(site)
    eventually(lambda: any(sweep.figures), 20)
    row = next(n for n, each in enumerate(sweep.figures) if each is not None)
    shown.slide("#threshold", sweep.points[row].threshold)
    shown.page.wait_for_function("() => sessionStorage.getItem('citer-text')", timeout=15_000)
    assert '"leaves"' not in shown.page.evaluate("sessionStorage.getItem('citer-text')"), "it is still written"
    go_on.set()
    shown.page.wait_for_function("() => sessionStorage.getItem('citer-text').includes('\"leaves\"')", timeout=15_000)
    shown.reload()
    eventually(lambda: shown.page.locator(".sweep-strip i").count() > 5, 15)


def test_a_sweep_that_is_refused_leaves_the_sliders_to_the_text_on_the_page(shown, site, pair):
    press(shown)
    other = "Start with 7. Add 5. What is the result?"
    shown.write(other)
    shown.page.fill("#prompt textarea", "")
    shown.page.click(".sweep-go")
    eventually(lambda: "prompt" in shown.page.inner_text(".toast-body"))
    shown.page.mouse.move(*along(shown.page, 0.5))
    shown.page.mouse.down()
    shown.page.mouse.move(*along(shown.page, 0.1), steps=4)
    shown.page.wait_for_timeout(200)
    said = shown.page.text_content(".stream-state") or ""
    shown.page.mouse.up()
    assert "Sweep:" not in said
    shown.slide("#threshold", 0.0)
    eventually(lambda: shown.text() == (own := pair.generate(Request(other, 0.0, max_new_tokens=60)).text) and own)
    text = shown.text()
    shown.page.click('#unit label:has-text("price")')
    shown.slide("#llm-price", 0.25)
    shown.page.wait_for_timeout(800)
    assert shown.text() == text and "Sweep:" not in (shown.page.text_content(".stream-state") or "")


def test_generate_after_a_sweep_writes_a_text_of_its_own(shown, pair):
    press(shown)
    at = float(shown.page.input_value("#threshold input[type=number]"))
    assert shown.write(PROMPT) == pair.generate(Request(PROMPT, at, max_new_tokens=60)).text
    shown.slide("#threshold", 0.0)
    eventually(lambda: shown.text() == pair.generate(Request(PROMPT, 0.0, max_new_tokens=60)).text)


def test_a_sweep_says_what_it_waits_for_and_how_far_it_is(pair, monkeypatch):
    host, session = Host(lambda preset, progress: pair), Session()
    sweep = session.jobs["sweep"] = Sweep(Request(PROMPT), [], Prices(), "threshold")
    updates = SweepUpdates(session, host, PanelState())
    host.status = replace(host.status, phase="ready")

    def notes(place: int, seconds: float | None = None) -> list[str]:
        first = SimpleNamespace(place=place, estimate=seconds, state=row, ended=False)
        sweep._pending = SimpleNamespace(handles=[first])
        return [json.loads(message)["note"] for message in updates.due()]

    row = "waiting"
    assert notes(3) == ["Waiting: place 3 in line."]
    assert notes(3) == []
    assert notes(2, 20.0) == ["Waiting: place 2 in line, about 20 s."]
    assert notes(0) == ["Reading the prompt …"]
    sweep.state = "running"
    assert notes(2, 9.0) == ["Others are served first: place 2 in line, about 9 s. It goes on by itself."]
    row = "running"
    sweep.points, sweep.events, sweep.began = [(0.1, 0.0)] * 3, [["token"] * 10, ["token"] * 4, []], 0.0  # type: ignore[assignment]
    sweep.figures, sweep.same, sweep.leaves = [None] * 3, [None] * 3, [-1] * 3
    assert notes(0) == ["0 of 3 texts · 14 of at most 768 tokens"]
    monkeypatch.setattr("time.monotonic", lambda: 14.0)
    figures: list[float | None] = [0.0] * 5
    sweep.figures[0] = figures
    assert notes(0) == ["1 of 3 texts · 14 of about 30 tokens, about 16 s left"]
