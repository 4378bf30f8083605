"""A page that is loaded again, and a server that goes away: prompt, settings and text stay."""

from __future__ import annotations

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


def test_a_reload_in_the_middle_of_a_text_leaves_what_was_kept_of_it_and_frees_the_models(shown: Window, site, pair):
    pair.tokens_per_second = 5
    shown.ask("a palindrome")
    shown.page.wait_for_selector(".t >> nth=5")
    kept(shown, "palindrome")
    kept(shown, "palindrome", "fields")
    run = newest(site)
    shown.reload()
    shown.page.wait_for_selector(".t")
    assert run.finished.wait(LIMIT) and run.state == "stopped"
    text = "".join(event.text for event in run.events)
    eventually(lambda: shown.text() and text.startswith(shown.text()))
    expect(shown.page.locator(PROMPT)).to_have_value("a palindrome")
    pair.tokens_per_second = 300
    assert shown.write("a palindrome").startswith(text)


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
    page.route("**/gradio_api/citer/pair", lambda route: route.fulfill(body="another 0"))
    loads_again(shown)
    page.unroute("**/gradio_api/citer/pair")
    eventually(lambda: shown.text() == text)
    assert shown.write("echo as before") == "as before"


def test_a_comparison_stays_when_the_server_is_back_until_the_visitor_loads_the_page_again(shown: Window, pair):
    page = shown.page
    page.click('role=tab[name="Compare"]')
    page.fill("#compare-prompt textarea", "echo one two")
    page.click("#compare-start")
    page.wait_for_selector('.compare-state[data-state="done"]')
    pair.tokens_per_second = 2
    page.fill("#compare-prompt textarea", "echo one two" + 40 * " and another")
    page.press("#compare-prompt textarea", "Enter")
    page.wait_for_selector('.compare-state[data-state="running"]')  # it is cut off, and stays so
    mark(shown)
    cut: list[str] = []
    page.on("requestfailed", lambda request: cut.append(request.url))
    page.context.set_offline(True)
    # Gradio loads a page again by itself after a request of its own that was cut.
    page.click("#compare-stop")
    eventually(lambda: page.evaluate("0") or any("/run/predict" in url for url in cut))
    page.wait_for_selector(LOST)
    page.context.set_offline(False)
    page.wait_for_selector(f"{LOST} button:visible")
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
