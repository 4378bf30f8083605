"""A page that is loaded again, and a server that goes away: prompt, settings and text stay."""

from __future__ import annotations

import random
import threading

import pytest

from app.share.open_trace import opened_run
from tests.support.browser import LIMIT, Site, Window, eventually, expect, newest, window
from tests.support.fake_pair import FakePair

PROMPT, LOST, REFUSED = "#prompt textarea", ".lost:visible", ".refused:visible"
BOXES = {"Compare": "compare-prompt", "Tune on my prompts": "tune-prompts"}


@pytest.fixture
def shown(browser, site: Site, pair: FakePair):
    """A window of its own, whose storage no other test has."""
    pair.tokens_per_second = 300
    with window(browser, site) as shown:
        yield shown


def kept(shown: Window, words: str, name: str = "text") -> None:
    """Waits until the window has kept a text, or what stands under another name."""
    script = "([name, words]) => (sessionStorage.getItem(`citer-${name}`) ?? '').includes(words)"
    shown.page.wait_for_function(script, arg=[name, words])


def mark(shown: Window) -> None:
    shown.page.evaluate("window.before = true")


def loads_again(shown: Window) -> None:
    """Waits until the page that was marked is no more."""
    shown.page.wait_for_function("window.before === undefined")


def test_prompts_settings_and_text_are_there_after_a_reload_and_gone_in_a_page_opened_anew(shown: Window, pair):
    page = shown.page

    def boxes_have(text: str) -> None:
        for tab, name in BOXES.items():
            page.click(f'role=tab[name="{tab}"]')
            expect(page.locator(f"#{name} textarea")).to_have_value(text.format(tab))

    for tab, name in BOXES.items():
        page.click(f'role=tab[name="{tab}"]')
        page.fill(f"#{name} textarea", f"what I typed under {tab}")
        kept(shown, f"what I typed under {tab}", name)
    page.click('role=tab[name="Playground"]')
    shown.slide("#threshold", 0.7)
    text, asked = shown.write("echo what I had"), len(pair.requests)
    page.fill(PROMPT, "what I was typing")
    kept(shown, "what I had")
    kept(shown, "what I was typing", "fields")
    shown.reload()
    eventually(lambda: shown.text() == text)
    expect(page.locator(PROMPT)).to_have_value("what I was typing")
    expect(page.locator("#threshold input[type=number]")).to_have_value("0.7")
    expect(page.locator(".stream-origin"), "whose text it is").to_contain_text("what I had")
    page.wait_for_selector(".models")  # the router is there, and its own threshold does not come after it
    expect(page.locator("#threshold input[type=number]")).to_have_value("0.7")
    boxes_have("what I typed under {}")
    assert len(pair.requests) == asked and shown.errors == []
    shown.open()
    page.wait_for_selector(".models")
    assert shown.text() == ""
    expect(page.locator(PROMPT)).to_have_value("")
    boxes_have("")


@pytest.mark.parametrize("way", ["loaded again", "closed and opened", "the network gone"])
def test_a_text_outlives_its_window_and_goes_on_in_the_next(shown: Window, site, pair, way):
    page = shown.page
    pair.tokens_per_second = 1
    shown.ask("a palindrome")
    shown.wait_tokens(3)
    run = newest(site)
    if way == "loaded again":
        shown.reload()
    elif way == "closed and opened":
        shown.reopen()
    else:
        mark(shown)
        page.context.set_offline(True)
        page.wait_for_selector(LOST)
        page.context.set_offline(False)
        loads_again(shown)
    shown.wait_tokens(3)
    expect(page.locator("#stop")).to_be_visible()
    expect(page.locator(PROMPT)).to_have_value("a palindrome")
    pair.tokens_per_second = 300
    shown.wait_state("done")
    assert newest(site) is run and run.complete
    shown.shows(run.events)
    page.click(".stream-more")
    eventually(lambda: len(shown.tokens()) > len(run.events))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_hundred_reloads_in_mid_text_show_the_whole_text(shown: Window, site, pair):
    moments, middle = random.Random(0), 0
    pair.tokens_per_second = 40
    for _ in range(100):
        before = newest(site)
        shown.ask("a palindrome")
        eventually(lambda before=before: newest(site) is not before and newest(site).events)
        run = newest(site)
        shown.page.wait_for_timeout(moments.uniform(0, 600))
        middle += not run.complete
        shown.reload()
        eventually(lambda run=run: run.complete)
        shown.shows(run.events)
        assert newest(site) is run
    assert middle > 50, "reloads came too late"


def test_two_windows_of_one_person_have_a_text_each(shown: Window, site):
    texts = [shown.write("echo mine")]
    other = Window(shown.page.context.new_page(), site.url)
    other.reopen()
    other.page.wait_for_selector(".models")
    assert other.text() == ""
    texts.append(other.write("echo the other one"))
    for each, text in zip((shown, other), texts, strict=True):
        each.reload()  # at once: the window itself keeps a text a moment later
        eventually(lambda each=each, text=text: each.text() == text)
    other.page.close()


def test_what_is_typed_while_the_text_from_before_is_read_stays(shown: Window, monkeypatch):
    page, prompt = shown.page, shown.page.locator(PROMPT)
    text = shown.write("echo what I had")
    kept(shown, "what I had")
    kept(shown, "what I had", "fields")
    reading, go_on = threading.Event(), threading.Event()

    def slowly(*given):
        run = opened_run(*given)
        reading.set()
        assert go_on.wait(LIMIT)
        return run

    monkeypatch.setattr("app.share.buttons.opened_run", slowly)
    shown.reload()
    eventually(lambda: page.evaluate("0") or reading.is_set())
    expect(prompt, "it does not wait for the text").to_have_value("echo what I had")
    prompt.fill("what I type now")
    go_on.set()
    eventually(lambda: shown.text() == text)
    expect(prompt).to_have_value("what I type now")


def test_a_server_that_is_away_or_started_anew_is_noticed_and_taken_up_again(shown: Window):
    page, text = shown.page, shown.write("echo still here")
    kept(shown, "still here")
    page.context.set_offline(True)
    page.wait_for_selector(LOST)
    assert shown.text() == text
    mark(shown)
    page.context.set_offline(False)
    loads_again(shown)
    eventually(lambda: shown.text() == text)
    expect(page.locator(LOST)).to_have_count(0)
    with page.expect_response("**/gradio_api/citer/pair"):
        pass
    mark(shown)
    page.route("**/gradio_api/citer/pair", lambda route: route.fulfill(body="another 0"), times=1)
    loads_again(shown)
    eventually(lambda: shown.text() == text)
    assert shown.write("echo as before") == "as before"


def test_a_comparison_comes_back_with_the_network_and_stays_where_the_server_was_started_anew(shown: Window, pair):
    page = shown.page
    page.click('role=tab[name="Compare"]')
    pair.tokens_per_second = 2
    page.fill("#compare-prompt textarea", "echo one two" + 40 * " and another")
    page.click("#compare-start")
    page.wait_for_selector('[data-column="middle"] .w >> nth=1')
    mark(shown)
    cut: list[str] = []
    page.on("requestfailed", lambda request: cut.append(request.url))
    page.context.set_offline(True)
    # Gradio loads a page again by itself after a request of its own that was cut.
    page.click("#compare-stop")
    eventually(lambda: page.evaluate("0") or any("/run/predict" in url for url in cut))
    page.wait_for_selector(LOST)
    page.context.set_offline(False)
    loads_again(shown)
    page.wait_for_selector('[data-column="middle"] .w >> nth=1')
    with page.expect_response("**/gradio_api/citer/pair"):
        pass
    mark(shown)
    page.route("**/gradio_api/citer/pair", lambda route: route.fulfill(body="another unknown"))
    page.wait_for_selector(f"{LOST} button:visible")
    page.unroute("**/gradio_api/citer/pair")
    assert page.evaluate("window.before") and "one" in page.inner_text("#comparison")
    page.click(f"{LOST} button")
    loads_again(shown)


def test_a_window_whose_texts_had_to_make_room_hears_it_at_every_button_and_loads_them_again(shown: Window, site):
    page = shown.page
    shown.write("echo one")
    text = shown.write("echo what I had")
    kept(shown, "what I had")
    expect(page.locator('[data-step="-1"]')).to_be_visible()
    run = newest(site)  # others need its room
    site.sessions.drop(next(name for name, each in site.sessions._sessions.items() if each.run is run))
    for act in (
        lambda: shown.slide("#threshold", 0.95),
        lambda: page.click('[data-step="-1"]'),
        lambda: (page.click(".t >> nth=0"), page.click(".candidate:enabled >> nth=0")),
    ):
        act()
        page.wait_for_selector(f"{REFUSED} .refused-again:visible")
        assert page.locator(".toast-body").count() == 0, "it is said once"
        page.click(f'{REFUSED} button:has-text("Close")')
        expect(page.locator(REFUSED)).to_have_count(0)
    assert shown.text() == text
    page.click('[data-step="-1"]')
    mark(shown)
    page.click(".refused-again")
    loads_again(shown)
    eventually(lambda: shown.text() == text)
    expect(page.locator(PROMPT)).to_have_value("echo what I had")
