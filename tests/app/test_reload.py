"""A page that is loaded again, and a server that goes away: prompt, settings and text stay."""

from __future__ import annotations

import json
import re
import time

import pytest

from app.share.buttons import _kept_fields
from engine import EngineError
from tests.support.browser import Site, Window, along, check_contrast, eventually, expect, window
from tests.support.fake_pair import FakePair
from tests.support.shared_text import held_reading


@pytest.fixture
def shown(browser, site: Site, pair: FakePair):
    """A window of its own, whose storage no other test has."""
    pair.tokens_per_second = 300
    with window(browser, site) as shown:
        yield shown


def kept(shown: Window, words: str, name: str = "text") -> None:
    """Waits until the window has kept a text, or what stands under another name."""
    shown.page.wait_for_function(
        "([name, words]) => (sessionStorage.getItem(`citer-${name}`) ?? '').includes(words)", arg=[name, words]
    )


def test_prompt_settings_and_text_are_there_after_a_reload_and_gone_in_a_page_opened_anew(shown: Window, pair):
    shown.slide("#threshold", 0.7)
    text = shown.write("echo what I had")
    cost = shown.page.inner_text(".headline")
    shown.page.fill("#prompt textarea", "what I was typing")
    kept(shown, "what I had")
    kept(shown, "what I was typing", "fields")
    asked = len(pair.requests)
    shown.reload()
    eventually(lambda: shown.text() == text, 10)
    expect(shown.page.locator("#prompt textarea")).to_have_value("what I was typing")
    assert shown.page.eval_on_selector("#threshold input[type=range]", "node => Number(node.value)") == 0.7
    expect(shown.page.locator(".stream-origin").first).to_contain_text("This text answers “echo what I had”")
    eventually(lambda: shown.page.inner_text(".headline") == cost)
    shown.page.wait_for_timeout(800)
    expect(
        shown.page.locator("#threshold input[type=number]"), "the router's own does not come after it"
    ).to_have_value("0.7")
    assert len(pair.requests) == asked and shown.errors == []
    shown.open()
    shown.page.wait_for_timeout(500)
    assert shown.text() == ""
    expect(shown.page.locator("#prompt textarea")).to_have_value("")


def test_a_text_that_failed_part_way_is_a_version_and_there_after_a_reload(shown: Window, pair: FakePair, monkeypatch):
    write = pair.write

    def fail(row, seconds):
        if len(row.events) == 9:
            raise EngineError("The LLM's server is gone.")
        return write(row, seconds)

    monkeypatch.setattr(pair, "write", fail)
    shown.ask("a palindrome")
    shown.wait_state("failed")
    expect(shown.page.locator(".version")).to_have_count(1)
    text, length = shown.text(), len(shown.tokens())
    assert length >= 9
    shown.page.wait_for_function(
        "(n) => JSON.parse(sessionStorage.getItem('citer-text') ?? '{}').events?.length === n", arg=length
    )
    shown.reload()
    eventually(lambda: shown.text() == text, 10)


def test_what_the_window_had_leaves_a_text_alone_that_was_begun_while_it_was_read(shown: Window, pair, monkeypatch):
    shown.write("echo what I had")
    kept(shown, "what I had")
    reading, go_on = held_reading(monkeypatch)
    shown.reload()
    eventually(reading.is_set, 10)
    pair.tokens_per_second = 10
    newer = "something newer that goes on and on and on and on"
    shown.ask(f"echo {newer}")
    shown.page.wait_for_selector(".t >> nth=2")
    go_on.set()
    shown.wait_state("done")
    assert shown.text() == newer


def test_what_is_typed_while_the_text_from_before_is_read_stays(shown: Window, monkeypatch):
    text, prompt = shown.write("echo what I had"), shown.page.locator("#prompt textarea")
    kept(shown, "what I had")
    kept(shown, "what I had", "fields")
    reading, go_on = held_reading(monkeypatch)
    shown.reload()
    eventually(reading.is_set, 10)
    expect(prompt, "it does not wait for the text").to_have_value("echo what I had")
    prompt.fill("what I type now")
    go_on.set()
    eventually(lambda: shown.text() == text, 10)
    shown.page.wait_for_timeout(300)
    expect(prompt).to_have_value("what I type now")


def test_a_server_that_does_not_answer_is_told_of_within_5_seconds_and_taken_up_again(shown: Window):
    text = shown.write("echo still here")
    kept(shown, "still here")
    shown.page.context.set_offline(True)
    started = time.monotonic()
    shown.page.wait_for_selector(".lost:visible", timeout=5000)
    assert time.monotonic() - started < 5 and shown.text() == text
    expect(shown.page.locator(".lost").first).to_contain_text("The server does not answer", use_inner_text=True)
    shown.page.evaluate("window.before = true")
    shown.page.context.set_offline(False)
    shown.page.wait_for_function("window.before === undefined", timeout=10_000)
    eventually(lambda: shown.text() == text, 10)
    expect(shown.page.locator(".lost").first).to_be_hidden()
    assert shown.write("echo as before") == "as before"


def test_a_page_that_the_browser_kept_is_loaded_again_when_one_comes_back_to_it(shown: Window):
    text = shown.write("echo still here")
    kept(shown, "still here")
    shown.page.evaluate("window.before = true; dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))")
    shown.page.wait_for_function("window.before === undefined", timeout=10_000)
    eventually(lambda: shown.text() == text, 10)


TABS = {"Compare": "#compare-prompt textarea", "Tune on my prompts": "#tune-prompts textarea"}


def test_the_prompts_of_the_other_tabs_are_there_after_a_reload_and_gone_in_a_page_opened_anew(shown: Window):
    page = shown.page
    for tab, box in TABS.items():
        page.click(f'button[role=tab]:has-text("{tab}")')
        page.fill(box, f"what I typed under {tab}")
        kept(shown, f"what I typed under {tab}", re.split("[# ]", box)[1])
    shown.reload()
    for tab, box in TABS.items():
        page.click(f'button[role=tab]:has-text("{tab}")')
        expect(page.locator(box).first).to_have_value(f"what I typed under {tab}")
    shown.open()
    for tab, box in TABS.items():
        page.click(f'button[role=tab]:has-text("{tab}")')
        expect(page.locator(box).first).to_have_value("")


def test_a_comparison_stays_when_the_server_is_back_until_the_visitor_loads_the_page_again(shown: Window, pair):
    page = shown.page
    page.click('button[role=tab]:has-text("Compare")')
    page.fill(TABS["Compare"], "echo one two")
    page.click("#compare-start")
    page.wait_for_selector('.compare-state[data-state="done"]')
    pair.tokens_per_second = 2
    page.fill(TABS["Compare"], "echo one two" + 40 * " and another")
    page.click("#compare-start")
    page.wait_for_selector('.compare-state[data-state="running"]')  # it is cut off, and stays so
    page.evaluate("window.before = true")
    cut: list[str] = []
    page.on("requestfailed", lambda request: cut.append(request.url))
    page.context.set_offline(True)
    # Gradio loads a page again by itself after a request of its own that was cut.
    eventually(lambda: shown.slide("#compare-threshold", 0.7) or any("/run/predict" in url for url in cut))
    page.wait_for_selector('.lost:has-text("does not answer"):visible', timeout=6000)
    page.context.set_offline(False)
    page.wait_for_selector('.lost:has-text("The server is back"):visible', timeout=6000)
    page.wait_for_timeout(3000)
    assert page.evaluate("window.before") and "one" in page.inner_text("#comparison")
    told = page.locator(':text("Connection to the server was lost")')
    assert told.count() == 1 and not told.is_visible(), "gradio's own words for it, which would lie over the page's"
    page.click('.lost button:has-text("Load the page again")')
    page.wait_for_function("window.before === undefined", timeout=10_000)


def drop(site: Site) -> None:
    """Takes the newest text's session away, as where others need its room."""
    kept = {name: each.run.number for name, each in site.sessions._sessions.items() if each.run}
    site.sessions.drop(max(kept, key=lambda name: kept[name]))


def test_a_window_whose_texts_had_to_make_room_hears_it_at_a_dial_and_loads_them_again(browser, site, pair):
    pair.tokens_per_second = 300
    with window(browser, site) as shown:
        text, page = shown.write("echo what I had"), shown.page
        kept(shown, "what I had")
        drop(site)
        page.mouse.move(*along(page, 0.5))
        page.mouse.down()
        page.mouse.move(*along(page, 0.95), steps=3)
        page.mouse.up()
        page.wait_for_selector(".refused:visible")
        said = page.inner_text(".refused p")
        assert "has the texts of this window no more" in said and "Load the page again" in said
        assert shown.text() == text
        check_contrast(page, ".refused p")
        page.evaluate("window.before = true")
        page.focus(".refused-again")
        page.keyboard.press("Enter")
        page.wait_for_function("window.before === undefined")
        eventually(lambda: shown.text() == text, 10)
        expect(page.locator("#prompt textarea")).to_have_value("echo what I had")
        expect(page.locator(".refused").first).to_be_hidden()


DEAF = """() => {
  const listen = EventSource.prototype.addEventListener;
  EventSource.prototype.addEventListener = function (type, heard) {
    return listen.call(this, type, (event) => { if (!window.deaf) heard(event); });
  };
  window.before = true;
}"""
"""What comes by the feed is lost once `window.deaf` is set, as where a laptop sleeps."""


def test_a_window_whose_session_went_loads_itself_again_where_it_awaits_a_text_and_else_stays(
    shown: Window, site, pair
):
    page = shown.page
    shown.write("echo one")
    page.wait_for_timeout(2500)  # the feed of the text is closed by then
    page.evaluate(DEAF)
    drop(site)
    for _ in range(2):
        with page.expect_response("**/gradio_api/citer/pair") as heard:
            pass
    assert heard.value.text().endswith(" unknown")
    shown.write("echo two")  # in another session
    pair.tokens_per_second = 4
    shown.ask("echo what is written while the laptop sleeps, and never ends in this window")
    shown.wait_state("running")
    with page.expect_response("**/gradio_api/citer/pair", timeout=10_000) as heard:
        pass
    assert page.evaluate("window.before"), "it awaits a text, and the server has it"
    page.evaluate("window.deaf = true")
    drop(site)
    page.wait_for_function("window.before === undefined", timeout=10_000)
    pair.tokens_per_second = 300
    expect(page.locator("#prompt textarea")).to_have_value(re.compile("while the laptop sleeps"))
    assert shown.write("echo as before") == "as before"


def test_so_it_does_at_every_button_that_needs_them(shown: Window, site: Site):
    shown.write("echo one")
    shown.write("echo what I had")
    page = shown.page
    kept(shown, "what I had")
    eventually(lambda: page.is_enabled('[data-step="-1"]'))
    drop(site)
    page.click('[data-step="-1"]')
    page.wait_for_selector(".refused:visible")
    expect(page.locator(".refused p").first).to_contain_text("Load the page again", use_inner_text=True)
    page.click('.refused button:has-text("Close")')
    expect(page.locator(".refused").first).to_be_hidden()
    page.click(".t >> nth=0")
    page.click(".candidate:enabled >> nth=0")
    page.wait_for_selector('.refused-again:has-text("Load the page again"):visible')
    assert page.locator(".toast-body").count() == 0, "it is said once"
    page.click('[data-take="markdown"]')
    eventually(lambda: "load the page again" in page.inner_text(".share-said"))


def test_a_follow_up_that_is_refused_gives_the_prompt_back(shown: Window, site: Site):
    shown.write("echo what I asked")
    kept(shown, "what I asked")
    drop(site)
    shown.page.click(".stream-follow")
    shown.page.wait_for_selector(".refused:visible")
    expect(shown.page.locator("#prompt textarea").first).to_have_value("echo what I asked")


def test_what_is_refused_without_a_queue_is_said_and_goes_by_itself(shown: Window):
    page = shown.page
    page.evaluate("""fetch('gradio_api/run/predict', { method: 'POST', headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ data: [], fn_index: 99999, session_hash: 'x' }) })""")
    page.wait_for_selector('.refused:has-text("There is nothing here of that name: fn_index = 99999.")')
    expect(page.locator(".refused-again").first, "that would change nothing").to_be_hidden()
    page.wait_for_selector(".refused", state="hidden", timeout=15_000)


def test_a_server_that_was_started_anew_between_two_looks_is_noticed(shown: Window):
    text, page = shown.write("echo still here"), shown.page
    kept(shown, "still here")
    with page.expect_response("**/gradio_api/citer/pair"):
        pass
    page.evaluate("window.before = true")
    page.route("**/gradio_api/citer/pair", lambda route: route.fulfill(body="another 0"))
    page.wait_for_function("window.before === undefined", timeout=10_000)
    eventually(lambda: shown.text() == text, 10)


@pytest.mark.parametrize("text", [None, 7, [], "", "{", "[" * 100_000, '{"values": 3}', "[1]", "x" * 2_000_000])
def test_what_is_no_store_of_fields_gives_none(text):
    assert _kept_fields(text) == {}
    assert _kept_fields(json.dumps({"at": "", "values": {"prompt": "a"}})) == {"prompt": "a"}
