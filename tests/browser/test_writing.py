"""A text while it is written and once it is there: what is seen of it, who stops it, and what is said of a refusal."""

from __future__ import annotations

import re
import threading

import pytest

from engine import Role
from engine.weights.progress import Progress
from tests.support.browser import Window, eventually, expect, newest, paused, serve, window
from tests.support.fake_pair import ANSWER, FakePair


@pytest.fixture
def shown(site_window, pair):
    """The page as it is when freshly opened."""
    pair.tokens_per_second = 200.0
    site_window.open()
    site_window.page.wait_for_selector("text=fake-r1")
    yield site_window
    eventually(lambda: pair.open_streams == 0)


# Within one frame, while the text grows: the share beside the text, in the headline, and in the meter.
_TOLD = """() => {
  const share = (selector) => document.querySelector(selector)?.textContent.match(/[0-9.]+(?=\\s*%)/)?.[0];
  return ['.key-llm', '.headline b', '[data-field="share"]'].map(share);
}"""


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
    roles = [event.role for event in run.events]
    keys = {author: shown.inner(f".stream .key-{author}") for author in ("slm", "llm")}
    for author, text in keys.items():
        assert f"{roles.count(Role(author))} ·" in text
    assert sum(float(text.split(" · ")[1].split()[0]) for text in keys.values()) == 100
    shown.page.wait_for_selector(".dashboard [data-field=relative]:has-text('%')")
    assert f"{shown.field('share')} by the LLM" in shown.inner(".headline")
    assert f"{shown.field('relative')} of its cost" in shown.inner(".headline")
    assert shown.errors == []


def test_a_token_tells_who_wrote_it_and_why_and_what_it_cost_in_the_chosen_unit(shown: Window):
    page, facts = shown.page, shown.page.locator(".inspector .facts")

    def cost() -> str:
        return "".join(page.locator(".inspector .cost").all_text_contents())

    shown.write("a palindrome")
    page.hover(".t.llm >> nth=0")
    expect(facts).to_contain_text("< threshold 0.5000 → LLM")
    expect(page.locator(".candidate")).to_have_count(10)
    page.hover(".t.slm >> nth=1")
    expect(facts).to_contain_text("≥ threshold 0.5000 → SLM")
    page.click('.t[data-i="2"]')
    eventually(lambda: "B (" in cost())
    page.click('#unit label:has-text("FLOPs")')
    eventually(lambda: "FLOP (" in cost())
    page.click('#unit label:has-text("price")')
    eventually(lambda: cost() and "FLOP" not in cost())
    before = cost()
    shown.slide("#slm-price", 2)
    eventually(lambda: cost() not in ("", before))


def test_tokens_are_walked_by_keys_and_by_the_buttons_from_one_of_the_llm_to_the_next(shown: Window):
    page, chip, facts = (
        shown.page,
        shown.page.locator(".inspector .chip"),
        shown.page.locator(".inspector .facts"),
    )
    shown.write("echo a\nb")
    page.focus(".stream-text")
    for seen in ("a", "⏎", "b", "end"):
        page.keyboard.press("ArrowRight")
        expect(chip).to_have_text(seen)
    page.keyboard.press("Home")
    page.keyboard.press("Enter")
    page.focus("#prompt textarea")
    expect(facts, "pinned").to_contain_text("token 1,")
    shown.write("a palindrome")
    first, second, *_ = shown.marked("llm")
    for step, place in ((1, first), (1, second), (-1, first)):
        page.click(f'[data-kind="llm"] [data-jump="{step}"]')
        expect(facts).to_contain_text(f"token {place + 1},")


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


def test_whatever_is_done_in_any_phase_of_a_text_no_token_is_lost_and_none_mixed(shown: Window, site, pair):
    def begin(prompt: str, tokens: int) -> None:
        pair.tokens_per_second = 20
        shown.ask(prompt)
        eventually(lambda: any(s.run and s.run.request.prompt == prompt for s in site.sessions._all()))
        eventually(lambda: len(newest(site).events) >= tokens)

    for tokens in (0, 1, 15):
        begin(f"a palindrome {tokens}", tokens)
        for value in (0.1, 0.9, 0.4):
            shown.slide("#threshold", value)
        for name in ("Compare", "How it works", "Playground"):
            shown.page.click(f'role=tab[name="{name}"]')
        pair.tokens_per_second = 2000
        eventually(lambda: newest(site).settings.threshold == 0.4 and not newest(site).active)
        shown.shows(newest(site).events)
        begin(f"another palindrome {tokens}", tokens)
        shown.ask("echo the second one")
        pair.tokens_per_second = 2000
        shown.page.wait_for_selector(".t.end")
        assert shown.text() == "the second one"
        begin(f"a last palindrome {tokens}", tokens)
        pair.tokens_per_second = 2  # one that is not stopped would go on for long
        shown.open()
        eventually(lambda: pair.open_streams == 0)
    assert shown.errors == []


def test_closing_the_tab_stops_the_models_and_forgets_the_session(browser, site, pair):
    pair.tokens_per_second = 2
    before = set(site.sessions._sessions)
    with window(browser, site) as shown:
        shown.ask("a palindrome")
        shown.page.wait_for_selector(".t")
        assert set(site.sessions._sessions) - before
    eventually(lambda: pair.open_streams == 0 and not set(site.sessions._sessions) - before)


def test_two_windows_never_see_each_others_text_or_dials(browser, site, shown: Window, pair):
    pair.tokens_per_second = 60
    with window(browser, site) as other:
        shown.slide("#threshold", 0)
        other.slide("#threshold", 1.01)
        shown.ask("echo " + "first " * 30)
        other.ask("echo " + "second " * 30)
        for each, word in ((shown, "first "), (other, "second ")):
            each.page.wait_for_selector(".t.end")
            assert each.text() == word * 30
        assert shown.tokens(".llm") == [] and other.tokens(".slm") == []


def test_unit_and_prices_reprice_a_text_and_never_write_it_again(shown: Window, pair):
    page = shown.page
    shown.write("a palindrome")
    eventually(lambda: shown.field("tokens") == "60")
    asked, share = len(pair.requests), shown.field("share")
    assert shown.field("run").endswith("GB")
    expect(page.locator("#llm-price"), "it is there where price is chosen").to_be_hidden()
    for label, amount in (("FLOPs", "[0-9.]+ .FLOP"), ("seconds", "[0-9.]+ s"), ("price", "0[.][0-9]+")):
        page.click(f'#unit label:has-text("{label}")')
        eventually(lambda amount=amount: re.fullmatch(amount, shown.field("run")))
    before = shown.field("run")
    shown.slide("#llm-price", 5)
    eventually(lambda: shown.field("run") != before)
    assert shown.field("share") == share and len(pair.requests) == asked


def test_plots_are_drawn_where_they_are_seen_whole_and_again_where_plotly_did_not_come(shown: Window):
    page, points = shown.page, shown.page.locator('[data-plot="score"] .point')
    page.route("**/plotly.min.js", lambda route: route.abort())
    shown.write("a palindrome")
    assert page.evaluate("window.Plotly === undefined") and not any("plotly" in url for url in shown.requests)
    shown.see_plots()
    eventually(lambda: page.title() and any("could not be loaded" in error for error in shown.errors))
    page.unroute("**/plotly.min.js")
    shown.errors.clear()
    page.evaluate("scrollTo(0, 0)")
    shown.write("a palindrome")
    shown.see_plots()
    expect(points).to_have_count(60)
    ends = "document.querySelector('[data-plot=\"cost\"]').data?.map(trace => trace.x.length)"
    eventually(lambda: page.evaluate(ends) == [60, 60, 60])
    assert shown.errors == []


def test_a_refused_prompt_is_told_with_its_numbers_and_loses_nothing(shown: Window, pair):
    text, asked, page = shown.write("echo keep me"), len(pair.requests), shown.page
    shown.ask("   ")
    page.wait_for_selector(".toast-body:has-text('empty')")
    assert shown.text() == text and len(pair.requests) == asked
    long = "word " * 3000
    shown.ask(long)
    shown.wait_state("failed")
    for number in ("3,020", "2,048"):
        assert number in shown.inner(".stream-state")
    assert shown.text() == text
    expect(page.locator("#prompt textarea")).to_have_value(long)
    page.click("text=Sampling and prompt format")
    page.fill("#max-new-tokens input", "-3")
    shown.ask("a palindrome")
    page.wait_for_selector(".toast-body:has-text('max_new_tokens = -3')")
    page.fill("#max-new-tokens input", "60")
    assert shown.write("echo still works") == "still works"
    expect(page.locator("#stop")).to_be_disabled()


def test_the_page_is_usable_while_the_models_load_and_stop_ends_the_wait(browser):
    go, pair = threading.Event(), FakePair()

    def load(preset, progress):
        progress(Progress("qwen2.5-coder-1.5b", 312_000_000, 1_117_320_768, 14_000_000.0, "hub"))
        go.wait(300)
        return pair

    with serve(load) as site, window(browser, site) as shown:
        for word in ("312 of 1,117 MB", "14.0 MB/s", "Hugging Face Hub"):
            expect(shown.page.locator("#models")).to_contain_text(word)
        shown.ask("echo never")
        expect(shown.page.locator(".stream-state")).to_contain_text("models")
        shown.page.click("#stop")
        shown.wait_state("stopped")
        shown.slide("#threshold", 0)
        shown.ask("echo worth the wait")
        expect(shown.page.locator(".stream-state")).to_contain_text("models")
        go.set()
        shown.page.wait_for_selector(".t.end")
        assert shown.text() == "worth the wait" and shown.tokens(".llm") == []
        assert [request.prompt for request in pair.requests] == ["echo worth the wait"]
        shown.page.wait_for_selector("text=Qwen2.5-Coder 0.5B ⇄ 1.5B")


def test_no_request_leaves_the_machine_and_the_theme_is_remembered(browser, site, pair):
    pair.tokens_per_second = 2000
    with window(browser, site, color_scheme="light") as shown:
        shown.write("a palindrome")
        shown.see_plots()
        shown.page.wait_for_selector('[data-plot="score"] .point')
        for name in ("Compare", "Tune on my prompts", "How it works"):
            shown.page.click(f'role=tab[name="{name}"]')
        shown.page.wait_for_selector("text=Two models, one text")
        dark = "document.body.classList.contains('dark')"
        assert not shown.page.evaluate(dark)
        shown.page.click(".theme-toggle")
        assert shown.page.evaluate(dark)
        shown.reload()
        shown.page.wait_for_selector(".stream-state")
        eventually(lambda: shown.page.evaluate(dark))
        away = [url for url in shown.requests if not url.startswith((site.url, "data:", "blob:"))]
        assert shown.requests and away == []
