"""A conversation: a prompt follows a text, what stands above the prompt is what it follows, and all that is kept or
taken along has it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from app.conversation import conversation_after
from app.fields import FIELDS, turns_text
from app.handlers import Handlers
from app.running.session import Session
from app.running.sessions import Sessions
from app.share.export import facts, markdown
from app.share.link import link_json
from engine import InvalidRequest, Request, Role, Trace, load_settings
from engine.request import Turn
from tests.app.test_reload import kept
from tests.support.browser import Site, Window, eventually, expect, window
from tests.support.fake_pair import FakePair, request
from tests.support.shared_text import download, open_file, opened_page, ready

PROMPT = "#prompt textarea"
TALK = (
    Turn("user", "echo one <b>two</b>"),
    Turn("assistant", "one ⟦two⟧ 😀 three", ((Role.SLM, 4), (Role.LLM, 7), (Role.SLM, 6))),
)


@pytest.fixture
def shown(browser, site: Site, pair: FakePair):
    """A window of its own, whose storage no other test has."""
    pair.tokens_per_second = 400
    with window(browser, site) as shown:
        yield shown
        assert shown.errors == []
    eventually(lambda: pair.open_streams == 0)


def messages(shown: Window) -> list[list[str]]:
    """What stands above the prompt: by whom, and the text."""
    return shown.page.eval_on_selector_all(
        "#conversation .turn",
        "nodes => nodes.map(node => ['.turn-who', '.turn-text'].map(part => node.querySelector(part).textContent))",
    )


def follow_up(shown: Window, count: int = 2) -> None:
    """Presses Follow up, and waits until so many messages stand above the prompt."""
    shown.page.click(".stream-follow")
    eventually(lambda: len(messages(shown)) == count)


def said(asked: Request) -> list[tuple[str, str]]:
    return [(turn.role, turn.text) for turn in asked.turns]


def coloured(shown: Window, place: str) -> str:
    return "".join(shown.page.eval_on_selector_all(f"{place}.llm", "nodes => nodes.map(node => node.textContent)"))


# ---- the page --------------------------------------------------------------------------------------------------------


def test_a_prompt_follows_a_text_and_what_it_follows_stands_above_it(shown: Window, pair: FakePair):
    page = shown.page
    expect(page.locator("#conversation")).to_be_hidden()
    expect(page.locator(".stream-follow").first).to_be_hidden()
    shown.slide("#threshold", 0.8)
    shown.write("echo one two three four five")
    by_llm = coloured(shown, ".t:not(.end)")
    follow_up(shown)
    assert messages(shown) == [["User", "echo one two three four five"], ["Models", "one two three four five"]]
    assert by_llm and coloured(shown, "#conversation .w") == by_llm
    expect(page.locator("#conversation")).to_contain_text("Generate answers your prompt after it.", use_inner_text=True)
    expect(page.locator(".stream-origin").first).to_contain_text(
        "This text is the last answer above", use_inner_text=True
    )
    page.keyboard.type("echo six")  # the prompt is empty, and has the focus
    page.keyboard.press("Enter")
    eventually(lambda: shown.text() == "six")
    shown.wait_state("done")
    assert said(pair.requests[-1]) == [
        ("user", "echo one two three four five"),
        ("assistant", "one two three four five"),
    ]
    expect(page.locator(PROMPT).first).to_have_value("echo six")
    assert len(messages(shown)) == 2
    eventually(lambda: page.inner_text(".stream-origin") == "")
    follow_up(shown, 4)
    assert messages(shown)[2:] == [["User", "echo six"], ["Models", "six"]]


def test_what_was_typed_before_follow_up_is_the_next_prompt(shown: Window, pair: FakePair):
    shown.write("echo one")
    shown.page.fill(PROMPT, "echo two")
    follow_up(shown)
    expect(shown.page.locator(PROMPT).first).to_have_value("echo two")
    shown.page.click("#generate")
    eventually(lambda: shown.text() == "two")
    assert said(pair.requests[-1]) == [("user", "echo one"), ("assistant", "one")]


def test_dials_and_branches_rewrite_the_last_text_only(shown: Window, pair: FakePair):
    shown.write("echo one two three four five")
    follow_up(shown)
    before = messages(shown)
    shown.write("echo six seven eight nine ten")
    asked = len(pair.requests)
    shown.slide("#threshold", 0.95)
    eventually(lambda: len(pair.requests) > asked)
    shown.wait_state("done")
    assert pair.requests[-1].threshold == 0.95 and said(pair.requests[-1])[0] == ("user", before[0][1])
    assert messages(shown) == before and shown.text() == "six seven eight nine ten"
    shown.page.click(".t.slm >> nth=0")
    shown.page.click(".candidate:not(:disabled) >> nth=0")
    eventually(lambda: pair.requests[-1].forced)
    assert len(pair.requests[-1].turns) == 2 and messages(shown) == before


def test_where_the_answer_above_is_no_longer_the_text_it_is_said_and_follow_up_takes_the_new_one(shown: Window):
    text, page = shown.write("a palindrome"), shown.page
    follow_up(shown)
    page.click(".stream-more")
    eventually(lambda: len(shown.text()) > len(text) and page.is_visible(".stream-more"))
    shown.wait_state("done")
    eventually(lambda: "The last answer above is another text" in page.inner_text(".stream-origin"))
    assert messages(shown)[1][1] == text
    page.click(".stream-follow")
    eventually(lambda: messages(shown)[1][1] == shown.text())
    assert len(messages(shown)) == 2


def test_undo_and_redo_bring_the_conversation_of_the_text(shown: Window):
    shown.write("echo one")
    follow_up(shown)
    shown.write("echo two")
    shown.page.click("text=↶ Undo")
    eventually(lambda: shown.text() == "one" and messages(shown) == [])
    eventually(lambda: shown.page.input_value(PROMPT) == "echo one")
    expect(shown.page.locator("#conversation")).to_be_hidden()
    shown.page.click("text=Redo ↷")
    eventually(lambda: shown.text() == "two" and [text for _, text in messages(shown)] == ["echo one", "one"])


def test_a_new_conversation_answers_the_prompt_alone_and_says_so_before(shown: Window, pair: FakePair):
    shown.write("echo one")
    follow_up(shown)
    shown.write("echo two")
    shown.page.click(".conversation-new")
    eventually(lambda: messages(shown) == [])
    expected = "This text was written after 2 messages; Generate answers the prompt without a conversation before it."
    eventually(lambda: shown.page.inner_text(".stream-origin") == expected)
    shown.page.keyboard.press("Enter")  # the prompt has the focus, and is as it was
    eventually(lambda: pair.requests[-1].turns == () and shown.page.inner_text(".stream-origin") == "")
    assert shown.text() == "two"


def test_a_stopped_text_is_followed_and_a_raw_one_is_not(shown: Window, pair: FakePair):
    pair.tokens_per_second = 15
    shown.ask("a palindrome")
    shown.page.wait_for_selector(".t >> nth=4")
    expect(shown.page.locator(".stream-follow").first).to_be_hidden()
    shown.page.click("#stop")
    shown.wait_state("stopped")
    pair.tokens_per_second = 400
    text = shown.text()
    follow_up(shown)
    assert messages(shown)[1] == ["Models", text]
    shown.page.click(".conversation-new")
    shown.page.click("text=Sampling and prompt format")
    shown.page.check("#raw input")
    shown.write("echo raw")
    expect(shown.page.locator(".stream-follow").first).to_be_hidden()


def test_a_reload_keeps_the_conversation_the_prompt_and_the_text(shown: Window, pair: FakePair):
    shown.write("echo one")
    follow_up(shown)
    before = messages(shown)
    shown.write("echo two and more")
    shown.page.fill(PROMPT, "echo three")
    kept(shown, "two and more")
    shown.page.wait_for_function("sessionStorage.getItem('citer-fields').includes('echo three')")
    shown.reload()
    eventually(lambda: shown.text() == "two and more" and messages(shown) == before, 10)
    expect(shown.page.locator(PROMPT).first).to_have_value("echo three")
    follow_up(shown, 4)
    shown.page.click("#generate")
    eventually(lambda: shown.text() == "three")
    assert [text for _, text in said(pair.requests[-1])] == ["echo one", "one", "echo two and more", "two and more"]


def test_two_windows_conversations_never_mix(browser, site: Site, pair: FakePair):
    pair.tokens_per_second = 400
    with window(browser, site) as one, window(browser, site) as two:
        for word in ("red", "blue"):
            shown = one if word == "red" else two
            shown.write(f"echo {word}")
        follow_up(one)
        follow_up(two)
        asked = len(pair.requests)
        for shown, word in ((one, "rose"), (two, "sky")):
            shown.ask(f"echo {word}")
        for shown, first, then in ((one, "red", "rose"), (two, "blue", "sky")):
            eventually(lambda shown=shown, then=then: shown.text() == then)
            assert messages(shown) == [["User", f"echo {first}"], ["Models", first]]
        talks = {asked.prompt: said(asked) for asked in pair.requests[asked:]}
        assert talks == {
            "echo rose": [("user", "echo red"), ("assistant", "red")],
            "echo sky": [("user", "echo blue"), ("assistant", "blue")],
        }


def test_a_window_follows_no_text_of_another(host):
    sessions = Sessions()
    handlers = Handlers(host, sessions, load_settings(), [None] * len(FIELDS))
    for name in ("mine", "theirs"):
        sessions.enter(name).begin(request(f"echo {name}"), host).finished.wait(20)
    run = sessions.get("theirs").run

    def follow(name: str) -> Any:
        asked: Any = SimpleNamespace(session_hash=name)
        event: Any = SimpleNamespace(_data={"run": run.id if run else ""})
        return handlers.follow_up(asked, event)

    assert not isinstance(follow("mine"), str)
    assert [turn["text"] for turn in json.loads(follow("theirs"))] == ["echo theirs", "theirs"]


def test_a_conversation_that_leaves_no_room_is_refused_with_the_way_out(shown: Window, pair: FakePair, monkeypatch):
    shown.write("echo one two three four five six seven eight")
    follow_up(shown)
    before = messages(shown)
    monkeypatch.setattr(pair, "context", 30)
    shown.ask("echo nine")
    shown.page.wait_for_selector("text=the context holds 30")
    assert messages(shown) == before and shown.text() == "one two three four five six seven eight"


def test_on_a_telephone_the_conversation_stands_right_above_the_prompt(browser, site: Site, pair: FakePair):
    pair.tokens_per_second = 400
    with window(browser, site, 360, 760, reduced_motion="reduce") as shown:
        shown.write("a palindrome")
        follow_up(shown)
        places = [shown.page.locator(name).bounding_box() for name in ("#conversation", "#prompt", "#stream")]
        assert [place["y"] for place in places] == sorted(place["y"] for place in places)
        assert 0 <= places[1]["y"] < 760, "the prompt is in sight"
        assert places[0]["height"] < 380 and shown.page.evaluate("document.documentElement.scrollWidth") <= 360
        shown.page.keyboard.press("Shift+Tab")
        assert shown.page.evaluate("document.activeElement.className") == "turns", "the messages scroll by keyboard"


# ---- taken along -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trace() -> Trace:
    return FakePair(1e6).generate(Request("echo three", turns=TALK, max_new_tokens=30, alternatives=2))


def test_a_saved_trace_has_all_messages_and_opens_with_them(shown: Window, pair: FakePair, tmp_path: Path):
    shown.slide("#threshold", 0.8)
    shown.write("echo one two three four five")
    by_llm = coloured(shown, ".t:not(.end)")
    follow_up(shown)
    before = messages(shown)
    shown.write("echo six")
    ready(shown)
    file = download(shown, "json", tmp_path)
    trace = Trace.load(file)
    assert [turn.text for turn in trace.turns] == [text for _, text in before]
    assert trace.prompt_tokens == pair.check(trace.request), "the conversation is read, and paid for"
    shown.open()
    assert messages(shown) == []
    open_file(shown, file.read_bytes())
    eventually(lambda: messages(shown) == before)
    assert coloured(shown, "#conversation .w") == by_llm
    shown.page.click("#generate")
    eventually(lambda: pair.requests[-1].turns == trace.turns)
    shown.wait_state("done")


def test_messages_of_an_opened_trace_are_text_whatever_they_look_like(shown: Window, trace: Trace):
    hostile = "</script><img src=x onerror=window.hacked=1>${window.hacked=1}\u2028"
    talk = (Turn("system", hostile), *TALK, Turn("user", hostile), Turn("assistant", hostile))
    open_file(shown, replace(trace, turns=talk).to_json())
    eventually(lambda: [text for _, text in messages(shown)] == [turn.text for turn in talk])
    assert [who for who, _ in messages(shown)] == ["System", "User", "Models", "User", "Models"]
    assert coloured(shown, "#conversation .w") == "⟦two⟧ 😀"
    assert shown.page.evaluate("window.hacked") is None
    expect(shown.page.locator("#conversation img")).to_have_count(0)


def test_the_exported_page_shows_the_conversation(browser, trace: Trace, tmp_path: Path):
    with opened_page(browser, tmp_path, trace) as (page, _, complaints):
        texts = page.eval_on_selector_all(".turn div", "nodes => nodes.map(node => node.textContent)")
        assert texts == [turn.text for turn in TALK]
        assert page.text_content(".turn .llm") == "⟦two⟧ 😀" and complaints == []


def test_markdown_has_the_conversation_with_its_answers_marked(trace: Trace):
    text = markdown(trace)
    assert text.index("Conversation before the prompt") < text.index("**Prompt**")
    left, right = "⦃⦄"
    assert f"> one {left}⟦two⟧ 😀{right} three" in text
    assert ("Before the prompt", "2 messages") in facts(trace)


def test_a_link_that_carries_the_text_carries_the_conversation(trace: Trace):
    assert Trace.parse(link_json(trace)).turns == TALK


# ---- what follows a text ---------------------------------------------------------------------------------------------


def test_a_text_is_followed_with_who_wrote_what(host):
    session = Session()
    run = session.begin(request("echo one two three four", turns=TALK), host)
    assert run.finished.wait(20)
    turns = conversation_after(run)
    assert turns[:3] == (*TALK, Turn("user", "echo one two three four"))
    written = "".join(text for event in run.events for text in [event.text] if event.role is Role.LLM)
    at, by_llm = 0, ""
    for role, length in turns[3].authors:
        by_llm += turns[3].text[at : at + length] if role is Role.LLM else ""
        at += length
    assert turns[3].text == "one two three four" and by_llm == written
    assert json.loads(turns_text(turns))[0] == {"role": "user", "text": TALK[0].text}


@pytest.mark.parametrize(
    ("options", "why"),
    [({"raw": True}, "raw = True"), ({"turns": (Turn("user", "x"),) * 999}, "turns has 1,001 entries; at most 1,000")],
)
def test_what_cannot_be_followed_is_refused_in_the_words_of_the_other_limits(host, options, why):
    run = Session().begin(request("echo one", **options), host)
    assert run.finished.wait(20)
    with pytest.raises(InvalidRequest, match=why):
        conversation_after(run)
