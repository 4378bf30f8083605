"""A text while it is written and once it is there: what is seen of it, who stops it, and what is said of a refusal."""

from __future__ import annotations

import re
import threading

import pytest

from engine import Role
from engine.events.progress import Progress
from tests.support.browser import Window, eventually, expect, newest, paused, serve, window
from tests.support.fake_pair import ANSWER, FakePair


@pytest.fixture
def shown(site_window, pair):
    """The page as it is when freshly opened."""
    pair.tokens_per_second = 2000
    site_window.open()
    site_window.page.wait_for_selector("text=fake-r1")
    yield site_window
    assert site_window.errors == []
    eventually(lambda: pair.open_streams == 0)


_TOLD = """() => ['.key-llm', '.headline b', '[data-field="share"]'].map(
  (selector) => document.querySelector(selector)?.textContent.match(/[0-9.]+(?=\\s*%)/)?.[0])"""
"""The share as it is told beside the text, in the headline, and in the meter, within one frame."""


def test_a_text_arrives_whole_in_the_colours_of_its_authors_and_all_shares_agree(shown: Window, site, pair):
    pair.tokens_per_second = 15
    shown.page.click("text=Palindrome")
    expect(shown.page.locator("#prompt textarea")).not_to_have_value("")
    shown.page.click("#generate")
    shown.page.wait_for_selector(".t >> nth=10")
    with paused(site.host):
        eventually(lambda: len(set(shown.page.evaluate(_TOLD))) == 1)
    pair.tokens_per_second = 2000
    shown.wait_state("done")
    run = newest(site)
    shown.shows(run.events)
    assert ANSWER.startswith(shown.text()) and len(run.events) == 60
    keys = {author: shown.inner(f".stream .key-{author}").split(" · ") for author in ("slm", "llm")}
    for author, (count, _) in keys.items():
        assert count.split()[-1] == str(sum(event.role is Role(author) for event in run.events))
    assert sum(float(share.split()[0]) for _, share in keys.values()) == 100
    shown.page.wait_for_selector(".dashboard [data-field=relative]:has-text('%')")
    for name, words in (("share", "by the LLM"), ("relative", "of its cost")):
        assert f"{shown.field(name)} {words}" in shown.inner(".headline")


def test_a_tokens_card_tells_who_wrote_it_why_and_at_what_cost_in_any_unit(shown: Window, pair):
    page, facts, cost = shown.page, shown.page.locator(".inspector .facts"), shown.page.locator(".inspector .cost")
    shown.write("echo a\nb")
    page.focus(".stream-text")
    for seen in ("a", "⏎", "b", "end"):
        page.keyboard.press("ArrowRight")
        expect(page.locator(".inspector .chip")).to_have_text(seen)
    shown.write("a palindrome")
    for author, decision in (("llm", "< threshold 0.5000 → LLM"), ("slm", "≥ threshold 0.5000 → SLM")):
        page.hover(f".t.{author} >> nth=1")
        expect(facts).to_contain_text(decision)
    expect(page.locator(".candidate")).to_have_count(10)
    first, second, *_ = shown.marked("llm")
    for step, place in ((1, first), (1, second), (-1, first)):
        page.click(f'[data-kind="llm"] [data-jump="{step}"]')
        expect(facts, "pinned").to_contain_text(f"token {place + 1},")
    eventually(lambda: shown.field("tokens") == "60")
    asked, share = len(pair.requests), shown.field("share")
    expect(page.locator("#llm-price"), "it is there where price is chosen").to_be_hidden()
    for label, amount in (("FLOPs", "[0-9.]+ .FLOP"), ("seconds", "[0-9.]+ s"), ("price", "0[.][0-9]+")):
        before = cost.first.text_content()
        page.click(f'#unit label:has-text("{label}")')
        eventually(lambda amount=amount: re.fullmatch(amount, shown.field("run")))
        expect(cost.first).not_to_have_text(before)
    before = shown.field("run")
    shown.slide("#llm-price", 5)
    eventually(lambda: shown.field("run") != before)
    assert shown.field("share") == share and len(pair.requests) == asked, "it is not written again"


def test_stop_keeps_what_is_there_frees_the_models_and_a_text_at_its_limit_goes_on(shown: Window, site, pair):
    pair.tokens_per_second = 20
    shown.ask("a palindrome")
    shown.page.wait_for_selector(".t >> nth=3")
    for _ in range(2):
        shown.page.evaluate("document.querySelector('#stop').click()")
    shown.wait_state("stopped")
    eventually(lambda: pair.open_streams == 0)
    shown.shows(newest(site).events)
    assert 3 < len(shown.tokens()) < 60
    expect(shown.page.locator("#stop")).to_be_disabled()
    pair.tokens_per_second = 2000
    shown.write("echo whole")
    expect(shown.page.locator(".stream-more")).to_be_hidden()
    text = shown.write("a palindrome")
    shown.page.click(".stream-more")
    eventually(lambda: len(shown.tokens()) == 120)
    expect(shown.page.locator(".stream-more")).to_be_visible()
    assert shown.text().startswith(text)
    shown.page.click("text=↶ Undo")
    eventually(lambda: shown.text() == text)


def test_two_windows_never_see_each_others_text_or_dials_and_one_that_closes_is_forgotten(browser, site, shown, pair):
    pair.tokens_per_second, before = 60, set(site.sessions._sessions)
    with window(browser, site) as other:
        shown.slide("#threshold", 0)
        other.slide("#threshold", 1.01)
        shown.ask("echo " + "first " * 30)
        other.ask("echo " + "second " * 30)
        for each, word in ((shown, "first "), (other, "second ")):
            each.page.wait_for_selector(".t.end")
            assert each.text() == word * 30
        assert shown.tokens(".llm") == [] and other.tokens(".slm") == []
        pair.tokens_per_second = 2
        other.ask("a palindrome")
        eventually(lambda: other.page.title() and pair.open_streams == 1)
        assert set(site.sessions._sessions) - before
    eventually(lambda: shown.page.title() and pair.open_streams == 0 and not set(site.sessions._sessions) - before)


def test_plots_come_once_they_are_seen_nothing_leaves_the_machine_and_a_theme_is_remembered(browser, site, pair):
    pair.tokens_per_second, dark = 2000, "document.body.classList.contains('dark')"
    with window(browser, site, color_scheme="light") as shown:
        page = shown.page
        shown.write("a palindrome")
        assert not any("plotly" in url for url in shown.requests)
        shown.see_plots()
        expect(page.locator('[data-plot="score"] .point')).to_have_count(60)
        ends = "document.querySelector('[data-plot=\"cost\"]').data?.map(trace => trace.x.length)"
        eventually(lambda: page.evaluate(ends) == [60, 60, 60])
        for name in ("Compare", "Tune on my prompts", "How it works"):
            page.click(f'role=tab[name="{name}"]')
        page.wait_for_selector("text=Two models, one text")
        assert not page.evaluate(dark)
        page.click(".theme-toggle")
        assert page.evaluate(dark)
        shown.reload()
        eventually(lambda: page.evaluate(dark))
        away = [url for url in shown.requests if not url.startswith((site.url, "data:", "blob:"))]
        assert shown.requests and away == [] and shown.errors == []


def test_a_refused_prompt_is_told_with_its_numbers_and_loses_nothing(shown: Window, pair):
    text, asked, page = shown.write("echo keep me"), len(pair.requests), shown.page
    shown.ask("   ")
    page.wait_for_selector(".toast-body:has-text('empty')")
    assert len(pair.requests) == asked
    long = "word " * 3000
    shown.ask(long)
    shown.wait_state("failed")
    for number in ("3,020", "2,048"):
        assert number in shown.inner(".stream-state")
    assert shown.text() == text
    expect(page.locator("#prompt textarea")).to_have_value(long)
    assert shown.write("echo still works") == "still works"
    expect(page.locator("#stop")).to_be_disabled()


def test_the_page_is_usable_while_the_models_load_and_stop_ends_the_wait(browser):
    go, pair = threading.Event(), FakePair()

    def load(preset, progress):
        progress(Progress("qwen2.5-coder-1.5b", 312_000_000, 1_117_320_768, 14_000_000.0, "hub"))
        go.wait(300)
        return pair

    with serve(load) as site, window(browser, site) as shown:
        for word in ("312 of 1,117 MB", "14.0 MB/s", "Hub"):
            expect(shown.page.locator("#models")).to_contain_text(word)
        shown.ask("echo never")
        expect(shown.page.locator(".stream-state")).to_contain_text("models")
        shown.page.click("#stop")
        shown.wait_state("stopped")
        shown.slide("#threshold", 0)
        shown.ask("echo worth the wait")
        go.set()
        shown.page.wait_for_selector(".t.end")
        assert shown.text() == "worth the wait" and shown.tokens(".llm") == []
        assert [request.prompt for request in pair.requests] == ["echo worth the wait"]
