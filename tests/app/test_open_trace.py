"""A trace is opened on the page, in Chromium: it is shown and inspected like any text; bad files are refused."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from app.share.open_trace import opened_run
from engine import Request, Trace, WeightsError
from tests.app.test_share import BAR, SAID, download, fields, ready, says
from tests.support.browser import Window, eventually, expect, serve, window
from tests.support.fake_pair import FakePair


@pytest.fixture
def shown(site_window, site, pair):
    pair.tokens_per_second = 400.0
    site_window.open()
    yield site_window
    eventually(lambda: pair.open_streams == 0)
    assert site_window.errors == []


def open_file(shown: Window, content: bytes | str, name: str = "some.json") -> str:
    """Chooses a file; returns what is said about it."""
    content = content.encode() if isinstance(content, str) else content
    shown.page.set_input_files(f"{BAR} input", {"name": name, "mimeType": "application/json", "buffer": content})
    return says(shown, name)


@pytest.fixture(scope="module")
def trace() -> Trace:
    """A text of another machine."""
    asked = Request(
        "echo where do you come from?", threshold=0.8, policy="router", seed=9, max_new_tokens=40, alternatives=5
    )
    return replace(FakePair(1e6).generate(asked), slm="little", llm="big", router="their-router")


def is_shown(shown: Window, trace: Trace) -> bool:
    return shown.text() == trace.text and shown.field("tokens") == str(len(trace.events))


def test_a_trace_is_opened_and_inspected_where_the_models_cannot_be_had(browser, trace: Trace, tmp_path: Path):
    def fail(preset, progress):
        raise WeightsError("No door is open.")

    with serve(fail) as site, window(browser, site) as shown:
        eventually(lambda: site.host.status.phase == "failed")
        said = open_file(shown, trace.to_json(), "theirs.json")
        assert said == "Opened theirs.json; the fields above are those it was written with."
        eventually(lambda: is_shown(shown, trace))
        state = shown.page.text_content(".stream-state")
        assert state == "Opened from a trace: little ⇄ big, router their-router"
        expect(shown.page.locator(".stream-state").first).to_have_attribute("data-state", "done")
        shown.page.hover(".t.llm >> nth=0")
        expect(shown.page.locator(".inspector").first).to_contain_text("< threshold 0.8000 → LLM", use_inner_text=True)
        expect(shown.page.locator(".inspector .candidate")).to_have_count(10)
        shown.see_plots()
        eventually(lambda: shown.page.locator('[data-plot="score"] .point').count() == len(trace.events))
        assert shown.field("relative") != "–"
        shown.page.click('label:has-text("FLOPs")')
        eventually(lambda: "FLOP" in shown.field("run"))
        filled = fields(shown)
        assert (filled["Prompt"], filled["Threshold"], filled["Seed"]) == (trace.prompt, "0.8", "9")
        ready(shown)
        assert Trace.load(download(shown, "json", tmp_path)) == trace, "it can be taken along again"
        assert shown.errors == []


def test_another_threshold_shows_what_would_flip_and_leaves_an_opened_text(shown: Window, trace: Trace, pair):
    open_file(shown, trace.to_json())
    eventually(lambda: is_shown(shown, trace))
    before = len(pair.requests)
    shown.slide("#threshold", 0)
    shown.page.wait_for_selector(".t.flip")
    shown.page.wait_for_timeout(500)
    assert is_shown(shown, trace) and len(pair.requests) == before


def test_an_opened_text_can_be_written_again_with_the_models_here(shown: Window, trace: Trace, pair):
    open_file(shown, trace.to_json())
    eventually(lambda: is_shown(shown, trace))
    shown.page.click("#generate")
    eventually(lambda: pair.requests and pair.requests[-1].prompt == trace.prompt and pair.open_streams == 0)
    eventually(lambda: "Done" in shown.page.inner_text(".stream-state"))
    again = pair.requests[-1]
    assert (again.threshold, again.seed, again.max_new_tokens) == (0.8, 9, 40)
    assert shown.text() == trace.text


def test_opening_a_trace_stops_the_text_that_is_being_written(shown: Window, trace: Trace, pair):
    pair.tokens_per_second = 4
    shown.ask("a palindrome")
    shown.page.wait_for_selector(".t >> nth=3")
    open_file(shown, trace.to_json())
    eventually(lambda: is_shown(shown, trace) and pair.open_streams == 0)
    shown.page.wait_for_timeout(500)
    assert is_shown(shown, trace)
    expect(shown.page.locator(".stream-state").first).to_have_attribute("data-state", "done")
    eventually(lambda: shown.page.is_disabled("#stop"))


def held_reading(monkeypatch):
    """Traces are read as slowly as a test wants: an event once one was, and one that lets it go on."""
    reading, go_on = threading.Event(), threading.Event()

    def slowly(text, after):
        run = opened_run(text, after)
        reading.set()
        assert go_on.wait(20)
        return run

    monkeypatch.setattr("app.share.buttons.opened_run", slowly)
    return reading, go_on


def test_a_trace_takes_the_place_of_a_text_that_was_begun_while_it_was_read(
    shown: Window, trace: Trace, pair, monkeypatch
):
    reading, go_on = held_reading(monkeypatch)
    file = {"name": "some.json", "mimeType": "application/json", "buffer": trace.to_json().encode()}
    shown.page.set_input_files(f"{BAR} input", file)
    eventually(reading.is_set)
    pair.tokens_per_second = 4
    shown.ask("a palindrome")
    shown.page.wait_for_selector(".t >> nth=3")
    go_on.set()
    eventually(lambda: is_shown(shown, trace) and pair.open_streams == 0)
    expect(shown.page.locator(".stream-state").first).to_have_attribute("data-state", "done")
    eventually(lambda: shown.page.is_disabled("#stop"))


def test_bad_files_are_refused_with_their_reason_and_the_text_stays(shown: Window, trace: Trace):
    text = shown.write("echo one two three")
    changed = json.loads(trace.to_json())
    changed["events"][2]["score"] = 7
    bad = {
        "a.json": (b"", "not a trace"),
        "b.png": (b"\x89PNG\r\n\x1a\n\x00\xff", "not a trace"),
        "c.json": (b"{}", "prompt: Field required"),
        "d.json": (json.dumps(changed).encode(), "events.2.score = 7.0 must be a number from 0 to 1"),
        "e.json": (trace.to_json().replace("where", "<b>where", 2).encode(), "text is not that of its tokens"),
        "f.json": (b" " * 20_000_001, "20.0 MB; a trace of at most 20 MB"),
        "<img src=x onerror=window.hacked=1>.json": (b"[]", "not a trace"),
    }
    for name, (content, reason) in bad.items():
        said = open_file(shown, content, name)
        assert name in said and reason in said
        assert "bad" in (shown.page.get_attribute(SAID, "class") or "")
    assert shown.text() == text
    assert shown.page.evaluate("window.hacked") is None
    expect(shown.page.locator(f"{SAID} img")).to_have_count(0)
    expect(shown.page.locator("#prompt textarea")).to_have_value("echo one two three")


def test_the_same_file_can_be_opened_again(shown: Window, trace: Trace):
    open_file(shown, trace.to_json())
    eventually(lambda: is_shown(shown, trace))
    shown.write("echo something else")
    open_file(shown, trace.to_json())
    eventually(lambda: is_shown(shown, trace))


def test_hostile_text_stays_text_on_the_way_in(shown: Window, trace: Trace):
    hostile = "</script><img src=x onerror=window.hacked=1>${window.hacked=1}\u2028\ufeff"
    texts = [hostile, *(event.text for event in trace.events[1:])]
    events = tuple(replace(event, text=text) for event, text in zip(trace.events, texts, strict=True))
    strange = replace(
        trace, events=events, text="".join(texts), prompt=hostile, slm=hostile, llm=hostile, stop=(hostile,)
    )
    open_file(shown, strange.to_json())
    eventually(lambda: is_shown(shown, strange))
    expect(shown.page.locator("#prompt textarea")).to_have_value(hostile)
    assert hostile in shown.page.text_content(".stream-state")
    expect(shown.page.locator(SAID).first).to_contain_text("stop: the page's field cannot hold", use_inner_text=True)
    assert shown.page.evaluate("window.hacked") is None
    expect(shown.page.locator("#stream img")).to_have_count(0)
