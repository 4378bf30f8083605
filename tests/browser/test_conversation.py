"""A conversation in Chromium: a prompt follows a text, and what it follows stands above it and comes along."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine.request import Turn
from tests.support.browser import Site, Window, eventually, expect, newest, window
from tests.support.fake_pair import FakePair, request

PROMPT = "#prompt textarea"


@pytest.fixture
def shown(browser, site: Site, pair: FakePair):
    """A window of its own, whose storage no other test has."""
    pair.tokens_per_second = 400
    with window(browser, site) as shown:
        yield shown
        assert shown.errors == []


def above(shown: Window) -> list[list[str]]:
    """The messages above the prompt: by whom, and the text."""
    parts = "['.turn-who', '.turn-text'].map(part => node.querySelector(part).textContent)"
    return shown.page.eval_on_selector_all("#conversation .turn", f"nodes => nodes.map(node => {parts})")


def follow_up(shown: Window, count: int) -> None:
    shown.page.click(".stream-follow")
    eventually(lambda: len(above(shown)) == count)


def coloured(shown: Window, place: str) -> str:
    return "".join(shown.page.locator(f"{place}.llm").all_text_contents())


def asked(pair: FakePair) -> list[tuple[str, str]]:
    return [(turn.role, turn.text) for turn in pair.requests[-1].turns]


def test_a_prompt_follows_a_text_dials_leave_what_it_follows_and_undo_brings_it(shown: Window, site: Site, pair):
    page = shown.page
    expect(page.locator("#conversation, .stream-follow").first).to_be_hidden()
    shown.slide("#threshold", 0.8)
    shown.write("echo one two three four five")
    by_llm = coloured(shown, ".t:not(.end)")
    follow_up(shown, 2)
    first = [["User", "echo one two three four five"], ["Models", "one two three four five"]]
    assert above(shown) == first and by_llm and coloured(shown, "#conversation .w") == by_llm
    expect(page.locator(".stream-text"), "the answer stands once, in the conversation").to_be_hidden()
    page.keyboard.type("echo six seven eight")  # the prompt is empty, and has the focus
    page.keyboard.press("Enter")
    eventually(lambda: shown.text() == "six seven eight")
    shown.wait_state("done")
    said = [("user", first[0][1]), ("assistant", first[1][1])]
    assert asked(pair) == said
    shown.slide("#threshold", 1.01)
    shown.page.wait_for_selector(".t.slm", state="detached")
    assert asked(pair) == said and above(shown) == first
    page.fill(PROMPT, "echo nine")  # typed before Follow up, it is the next prompt
    follow_up(shown, 4)
    page.click("#generate")
    eventually(lambda: shown.text() == "nine")
    assert asked(pair)[2:] == [("user", "echo six seven eight"), ("assistant", "six seven eight")]
    for messages in (2, 2, 0):
        page.click('[data-step="-1"]')
        eventually(lambda messages=messages: len(above(shown)) == messages)
    expect(page.locator("#conversation")).to_be_hidden()
    page.click('[data-step="1"]')
    eventually(lambda: above(shown) == first)
    page.click(".conversation-new")
    eventually(lambda: above(shown) == [])
    page.keyboard.press("Enter")  # the prompt has the focus
    eventually(lambda: pair.requests[-1].turns == ())


def test_what_cannot_follow_is_said_and_loses_nothing(shown: Window, site: Site, pair, monkeypatch):
    page = shown.page
    shown.write("echo one two three four five six seven eight")
    follow_up(shown, 2)
    before = above(shown)
    monkeypatch.setattr(pair, "context", 30)
    shown.ask("echo nine")
    expect(page.locator(".stream-state")).to_contain_text("the context holds 30")
    assert above(shown) == before and shown.text().startswith("one two")
    monkeypatch.undo()
    site.sessions.drop(next(name for name, each in site.sessions._sessions.items() if each.run is newest(site)))
    page.click(".stream-follow")
    page.wait_for_selector(".refused:visible")
    expect(page.locator(PROMPT)).to_have_value("echo nine")
    shown.errors.clear()  # of the refusals


def test_messages_stay_text_in_their_authors_colours_through_a_file_and_a_reload(shown: Window, pair, tmp_path):
    hostile = "</script><img src=x onerror=window.hacked=1>${window.hacked=1}\u2028"
    answer = replace(FakePair(1e6).generate(request("echo 😀 one two three four", threshold=0.8)), turns=())
    authors = tuple((event.role, len(event.text)) for event in answer.events if event.text)
    talk = (Turn("system", hostile), Turn("user", hostile), Turn("assistant", answer.text, authors))
    trace = FakePair(1e6).generate(request("echo and then", turns=talk))
    (tmp_path / "trace.json").write_text(trace.to_json(), "utf-8")
    shown.page.set_input_files(".share input[type=file]", str(tmp_path / "trace.json"))

    def is_there() -> bool:
        return [text for _, text in above(shown)] == [turn.text for turn in talk] and shown.text() == "and then"

    eventually(is_there)
    by_llm = "".join(event.text for event in answer.events if event.role.value == "llm")
    shown.page.wait_for_function("sessionStorage.getItem('citer-text')?.includes('and then')")
    shown.page.wait_for_function("sessionStorage.getItem('citer-fields')?.includes('hacked')")
    shown.reload()
    eventually(is_there)
    assert [who for who, _ in above(shown)] == ["System", "User", "Models"]
    assert by_llm and coloured(shown, "#conversation .w") == by_llm
    assert shown.page.evaluate("window.hacked") is None
    expect(shown.page.locator("#conversation img")).to_have_count(0)
    shown.page.click("#generate")
    eventually(lambda: pair.requests and pair.requests[-1].turns == talk)
    shown.wait_state("done")
