"""A text while it is written and once it is there: what is seen of it, who stops it, and what is said of a refusal."""

from __future__ import annotations

import threading

import pytest

from app.figures import cost_parts, percent, token_ratios
from engine import llm_share
from tests.support.browser import Window, drag, eventually, expect, newest, serve, window
from tests.support.fake_pair import ANSWER, FakePair


@pytest.fixture
def shown(site_window, pair):
    """The page as it is when freshly opened."""
    pair.tokens_per_second = 2000
    site_window.open()
    site_window.page.wait_for_selector(".models")
    yield site_window
    assert site_window.errors == []
    eventually(lambda: pair.open_streams == 0)


def test_a_text_arrives_whole_in_the_colours_of_its_authors_with_its_outcome(shown: Window, site, pair):
    pair.tokens_per_second = 15
    shown.page.click(".example:visible >> nth=1")
    expect(shown.page.locator("#prompt textarea")).not_to_have_value("")
    shown.page.click("#generate")
    expect(shown.page.locator("#generate"), "it is Stop while it writes").to_be_hidden()
    shown.wait_tokens(11)
    pair.tokens_per_second = 2000
    shown.wait_state("done")
    run = newest(site)
    shown.shows(run.events)
    assert ANSWER.startswith(shown.text()) and len(run.events) == 60
    share = " ".join(percent(llm_share(run.events)).split())
    eventually(lambda: shown.inner(".outcome").startswith(f"{share} by the large model · "))
    expect(shown.page.locator(".stream-state")).to_contain_text("60 tokens")


def test_the_price_of_a_token_moves_the_outcome_and_nothing_is_written_again(shown: Window, site, pair):
    page = shown.page
    shown.write("a palindrome")
    run, asked = newest(site), len(pair.requests)
    *parts, (slm_read, slm_written, llm_read, llm_written, *alone) = cost_parts(
        run.events, run.prompt_tokens, pair.slm_cost, pair.llm_cost
    )
    whole = alone[0] * 0.25 + alone[1]
    parts.append(((slm_read * 0.025 + slm_written * 0.1) / whole, (llm_read * 0.25 + llm_written) / whole))
    ratios, seen = [*token_ratios(pair.slm_cost, pair.llm_cost), 10.0], set()
    for unit in range(4):
        page.click(f".cost-units label >> nth={unit}")
        for ratio in (ratios[unit], 100.0):
            if ratio == 100:
                page.locator("#cost").fill("200")
            part, own = parts[unit], ratios[unit]
            assert part and own
            cost = " ".join(percent(part[0] * own / (ratio or own) + part[1]).split())
            eventually(lambda cost=cost: f"· {cost} of" in shown.inner(".outcome"))
            seen.add(shown.inner(".outcome"))
    shown.more()
    page.fill("#prices input >> nth=2", "0")  # what the large model reads
    share = (slm_read * 0.025 + slm_written * 0.1 + llm_written) / alone[1]
    eventually(lambda: f"· {' '.join(percent(share).split())} of" in shown.inner(".outcome"))
    assert len(seen) > 4 and len(pair.requests) == asked


def test_a_tokens_card_opens_at_the_token_and_tells_who_wrote_it_and_why(shown: Window):
    page, card = shown.page, shown.page.locator(".token-card")
    shown.write("a palindrome")
    for author, decision in (("llm", "< threshold 0.5000 → large"), ("slm", "≥ threshold 0.5000 → small")):
        page.click(f".t.{author} >> nth=1")
        expect(card).to_contain_text(decision)
    expect(page.locator(".candidate")).to_have_count(10)
    first = shown.marked("llm")[0]
    page.focus(".stream-text")
    page.keyboard.press("Home")
    page.keyboard.press("ArrowDown")
    assert shown.marked("focused") == [first or shown.marked("llm")[1]], "the next of the large model's"
    expect(card, "it follows the keys").to_contain_text("by the large model")
    page.mouse.click(5, 300)
    expect(card, "a click elsewhere closes it").to_be_hidden()


def test_stop_keeps_what_is_there_frees_the_models_and_a_text_at_its_limit_goes_on(shown: Window, site, pair):
    pair.tokens_per_second = 20
    shown.ask("a palindrome")
    shown.wait_tokens(4)
    for _ in range(2):
        shown.page.evaluate("document.querySelector('#stop').click()")
    shown.wait_state("stopped")
    eventually(lambda: pair.open_streams == 0)
    shown.shows(newest(site).events)
    assert 3 < len(shown.tokens()) < 60
    expect(shown.page.locator("#stop")).to_be_hidden()
    some = shown.text()
    pair.tokens_per_second = 2000
    shown.page.click(".stream-more")
    eventually(lambda: len(shown.tokens()) == 60)
    assert shown.text().startswith(some), "what was stopped goes on"
    shown.write("echo whole")
    expect(shown.page.locator(".stream-more")).to_be_hidden()
    text = shown.write("a palindrome")
    shown.page.click(".stream-more")
    eventually(lambda: len(shown.tokens()) == 120)
    expect(shown.page.locator(".stream-more")).to_be_visible()
    assert shown.text().startswith(text)
    shown.page.click('[data-step="-1"]')
    eventually(lambda: shown.text() == text)


def test_two_windows_never_see_each_others_text_or_dials_and_one_that_closes_may_come_back(browser, site, shown, pair):
    pair.tokens_per_second, before = 60, set(site.sessions._sessions)
    with window(browser, site) as other:
        shown.slide("#threshold", 0)
        other.slide("#threshold", 1.01)
        shown.ask("echo " + "first " * 30)
        other.ask("echo " + "second " * 30)
        for each, word in ((shown, "first "), (other, "second ")):
            each.wait_state("done")
            assert each.text() == word * 30
        assert shown.tokens(".llm") == [] and other.tokens(".slm") == []
        pair.tokens_per_second = 2
        other.ask("a palindrome")
        eventually(lambda: other.page.title() and pair.open_streams == 1)
        (name,) = set(site.sessions._sessions) - before
    eventually(lambda: shown.page.title() and site.sessions._sessions[name].left)
    assert pair.open_streams == 1
    site.sessions.drop(name)
    eventually(lambda: shown.page.title() and pair.open_streams == 0)


def test_nothing_leaves_the_machine_and_a_theme_is_remembered(browser, site, pair):
    pair.tokens_per_second, dark = 2000, "document.body.classList.contains('dark')"
    with window(browser, site, color_scheme="light") as shown:
        page = shown.page
        shown.write("a palindrome")
        for name in ("Compare", "Tune on my prompts", "How it works"):
            page.click(f'role=tab[name="{name}"]')
        page.wait_for_selector("text=One step of a text")
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
    page.wait_for_selector("#prompt .field-note:has-text('empty')")
    assert len(pair.requests) == asked
    long = "word " * 3000
    shown.ask(long)
    shown.wait_state("failed")
    for number in ("3,020", "2,048"):
        assert number in shown.inner(".stream-state")
    assert shown.text() == text
    expect(page.locator("#prompt textarea")).to_have_value(long)
    assert shown.write("echo still works") == "still works"
    expect(page.locator("#stop")).to_be_hidden()


def test_the_page_is_usable_while_the_models_load_and_stop_ends_the_wait(browser):
    go, pair = threading.Event(), FakePair()

    def load(preset, progress):
        progress("fetching qwen2.5-coder-1.5b: part 3 of 22")
        go.wait(300)
        return pair

    with serve(load) as site, window(browser, site) as shown:
        expect(shown.page.locator("#models")).to_contain_text("Fetching qwen2.5-coder-1.5b: part 3 of 22")
        shown.ask("echo never")
        expect(shown.page.locator(".stream-state")).to_contain_text("models")
        shown.page.click("#stop")
        shown.wait_state("stopped")
        drag(shown.page, "#balance", 0.5, 0.0)
        shown.ask("echo worth the wait")
        go.set()
        shown.wait_state("done")
        assert shown.text() == "worth the wait"
        assert shown.tokens(".llm") == [], "a position means one setting, also before its threshold is known"
        assert [request.prompt for request in pair.requests] == ["echo worth the wait"]


def test_a_long_text_stays_above_the_slider_until_the_reader_scrolls_away(browser, site, pair):
    pair.tokens_per_second = 8
    bottoms = """[".stream-state", "#slider"].map(part => document.querySelector(part).getBoundingClientRect())"""
    with window(browser, site, 1366, 720) as shown:
        page = shown.page
        shown.ask("echo " + "line\n" * 40)
        eventually(lambda: page.evaluate("scrollY") > 60)
        assert page.evaluate(f"(([line, slider]) => line.bottom <= slider.top)({bottoms})")
        page.mouse.move(600, 300)
        page.mouse.wheel(0, -5000)
        eventually(lambda: page.evaluate("scrollY") == 0)
        there = len(shown.tokens())
        eventually(lambda: len(shown.tokens()) > there + 5)
        assert page.evaluate("scrollY") == 0
        shown.wait_state("done")
