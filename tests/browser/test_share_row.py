"""Texts go out and come back in Chromium: files, pictures, Markdown and links, and traces that are opened again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
from PIL import Image

from app.fields import request_fields
from app.share.export import link_json
from engine import Trace, WeightsError, build_request
from tests.support import shared_text as row
from tests.support.browser import Site, Window, eventually, expect, newest, serve, window
from tests.support.fake_pair import FakePair
from tests.support.shared_text import HOSTILE, copied, download, ready, says


@pytest.fixture
def shown(site_window: Window, site: Site, pair: FakePair) -> Iterator[Window]:
    pair.tokens_per_second = 400.0
    site_window.url = site.url
    site_window.page.context.grant_permissions(row.CLIPBOARD["permissions"])
    site_window.open()
    site_window.page.wait_for_selector(".models")
    yield site_window
    eventually(lambda: pair.open_streams == 0)
    assert complaints(site_window) == []


@pytest.fixture
def tiny(browser, tiny_pair) -> Iterator[tuple[Site, Window]]:
    """A site of the tiny pair, and a window on it."""
    with serve(lambda preset, progress: tiny_pair) as site, window(browser, site, **row.CLIPBOARD) as shown:
        shown.page.wait_for_selector(".models")
        yield site, shown


@pytest.fixture(scope="module")
def trace() -> Trace:
    """A text of another machine."""
    asked = build_request("echo where do you come from?", threshold=0.8, seed=9, max_new_tokens=40, alternatives=5)
    return replace(FakePair(1e6).generate(asked), slm="little", llm="big", router="their-router")


def complaints(shown: Window) -> list[str]:
    """Of the browser; a feed that is refused is told in its console, and gradio stands in for it."""
    return [each for each in shown.errors if not each.startswith("Failed to load resource")]


def colours(shown: Window) -> list[list[Any]]:
    """Of each token its text and its author; the end, which is no text, is left out."""
    return [[text, author] for text, author in zip(shown.tokens(), shown.authors(), strict=False) if text]


def has(shown: Window, text: str) -> None:
    eventually(lambda: shown.text() == text)


def follow(shown: Window, link: str) -> None:
    shown.url = link
    shown.open()


def note(shown: Window, part: str) -> str:
    expect(shown.page.locator(".link-note").first).to_contain_text(part)
    return shown.page.inner_text(".link-note")


def test_only_a_whole_text_can_be_taken_and_its_trace_is_that_of_the_run(shown: Window, site: Site, pair, tmp_path):
    takers = shown.page.locator("[data-take]:not([data-take=film])")
    assert takers.count() == 4 and all(button.is_disabled() for button in takers.all())
    pair.tokens_per_second = 1
    shown.ask("echo one two three")
    shown.page.wait_for_selector(".t")
    assert takers.first.is_disabled(), "it is not complete yet"
    pair.tokens_per_second = 400.0
    ready(shown)
    run = newest(site)
    expected = run.pair.trace(run.request, run.events)
    assert Trace.load(download(shown, "json", tmp_path)) == expected and expected.text == "one two three"
    site.sessions._sessions.clear()
    row.menu(shown)
    shown.page.click('[data-take="json"]')
    says(shown, "no longer")


def test_hostile_text_stays_text_in_every_file_and_copy(shown: Window, browser, tmp_path: Path):
    shown.write(f"echo {HOSTILE}")
    ready(shown)
    assert Trace.load(download(shown, "json", tmp_path)).text == HOSTILE
    with row.offline(browser, download(shown, "html", tmp_path)) as (page, _, _):
        assert page.locator(".t:not(.end)").all_text_contents() == shown.tokens()
        row.no_markup(page, "main")
    row.no_markup(shown.page, "#stream", "#share")
    shown.page.evaluate("void (navigator.clipboard.writeText = () => Promise.reject(new Error('no')))")
    row.menu(shown)
    shown.page.click('[data-take="link"]')
    says(shown, "by hand")
    assert shown.page.evaluate("getSelection().toString()").startswith(f"{shown.url}#text=")
    assert not [url for url in shown.requests if not url.startswith((shown.url, "data:", "blob:"))]


def test_what_is_too_long_for_a_picture_or_a_link_is_cut_or_offered_in_another_way(
    shown: Window, tmp_path: Path, monkeypatch
):
    monkeypatch.setattr("app.share.export.MAX_LINK_TOKENS", 3)
    text = shown.write("echo one " + ("x" + "\n" * 40 + " ") * 4 + "two three")
    ready(shown)
    image = Image.open(download(shown, "picture", tmp_path))
    assert image.width * image.height < 16_777_216, "browsers paint no larger one"
    says(shown, "first")
    shown.page.click('[data-take="link"]')
    says(shown, "32,000")
    with shown.page.expect_download() as coming:
        shown.page.click(".share-file")
    assert Trace.load(coming.value.path()).text == text


def test_a_link_to_settings_restores_every_field_runs_nothing_and_gives_the_same_text(tiny: tuple[Site, Window]):
    site, one = tiny
    query = (
        "prompt=Ben%20has%20%245.%0AHow%20much%3F&threshold=0.61&policy=confidence&seed=11&temperature=0.8&top_p=0.9"
        "&top_k=30&repetition_penalty=1.1&max_new_tokens=25&system=Be%20brief.&raw=1&stop=zz%5Cn"
        "&acceptance=0.25&max_draft=6"
    )
    follow(one, f"{site.url}?{query}")
    note(one, "prompt")
    one.page.wait_for_selector(".models")
    assert one.page.get_attribute(".stream-state", "data-state") == "idle" and not site.host.scheduler.rows
    one.page.click("#generate")
    ready(one)
    asked = {name: str(value) for name, value in request_fields(newest(site).request).items()}
    assert {**asked, "raw": "1"} == {**asked, **dict(parse_qsl(query))} and len(one.text()) > 10


def test_a_link_opens_the_very_text_after_others_were_written_and_after_a_reload(browser, tiny: tuple[Site, Window]):
    """Also where tokens of it were taken back, in a row that other texts had had."""
    site, one = tiny
    one.write("3 + 4 = ?")
    follow(one, f"{site.url}?prompt=Start+with+12.+Add+30.&system=sys&threshold=0.99&acceptance=0.3")
    note(one, "prompt")  # the fields come after the page
    one.write("Start with 12. Add 30.")
    ready(one)
    tokens, link = colours(one), copied(one, "link")
    assert any(event.taken_back for event in newest(site).events)
    kept = "events => JSON.parse(sessionStorage.getItem('citer-text') ?? '{}').events?.length >= events"
    one.page.wait_for_function(kept, arg=len(newest(site).folded))  # half a second after a text has ended
    one.reload()
    eventually(lambda: colours(one) == tokens)
    with window(browser, site, 360, 780) as there:
        steps = site.host.scheduler.steps
        follow(there, link)
        eventually(lambda: colours(there) == tokens and there.inner(".outcome") == one.inner(".outcome"))
        assert site.host.scheduler.steps == steps
        assert not any(link[-40:] in url for url in there.requests), "no server sees it in an address"
        there.page.focus(".link-again")
        there.page.keyboard.press("Enter")
        eventually(lambda: there.page.evaluate("location.hash") == "")
        eventually(lambda: site.host.scheduler.steps > steps and colours(there) == tokens)
        there.wait_state("done")
        assert len(link) < 60 * len(tokens), "short enough for a messenger"
        assert complaints(there) == []


def test_a_link_that_cannot_be_opened_says_why_and_what_is_good_stays(shown: Window, trace: Trace):
    follow(shown, f"{shown.url}?seed=7&threshold=80&policy=%3Cimg+src%3Dx+onerror%3Dwindow.hacked%3D1%3E&raw=${{1}}")
    said = note(shown, "seed")
    assert "threshold = 80" in said and "'<img src=x onerror=window.hacked=1>'" in said and "'${1}'" in said
    expect(shown.page.locator("#threshold input[type=number]")).to_have_value("0.5")
    text, good = shown.write("echo mine"), row.packed(link_json(trace))
    for bad, part in (
        ("x" * 32_001, "32,001"),
        (row.packed(b"a" * 20_000_000), "4 MB"),
        (good[:200], "cut off"),
        (row.packed(b"\xff\xfe{}"), "cut off"),
        (row.packed("{}"), "not a trace"),
        (row.packed(link_json(trace).replace("where", "<img src=x onerror=window.hacked=1>", 2)), "text is not"),
    ):
        shown.page.evaluate("document.querySelector('.link-note p').textContent = ''")
        shown.page.evaluate("(text) => { location.hash = `text=${text}`; }", bad)
        note(shown, part)
        eventually(lambda: shown.page.evaluate("location.hash") == "")
    assert shown.text() == text
    row.no_markup(shown.page, ".link-note")
    shown.page.evaluate("(text) => { location.hash = `text=${text}`; }", good)
    has(shown, trace.text)


def test_where_no_models_can_be_had_a_trace_is_opened_and_a_bad_file_is_refused_with_its_reason(
    browser, trace: Trace, tmp_path: Path
):
    def fail(preset, progress):
        raise WeightsError("No door is open.")

    texts = [HOSTILE, *(event.text for event in trace.events[1:])]
    events = tuple(replace(event, text=text) for event, text in zip(trace.events, texts, strict=True))
    about = {"prompt": HOSTILE, "slm": HOSTILE, "llm": HOSTILE, "stop": (f"{HOSTILE}\r",)}
    strange = replace(trace, events=events, text="".join(texts), **about)
    changed = json.loads(trace.to_json())
    changed["events"][2]["score"] = 7
    with serve(fail) as site, window(browser, site) as shown:
        eventually(lambda: site.host.status.phase == "failed")
        row.open_file(shown, strange.to_json(), "theirs.json")
        has(shown, strange.text)
        shown.page.click(".t.llm >> nth=0")
        expect(shown.page.locator(".token-card .candidate")).to_have_count(10)
        ready(shown)
        assert Trace.load(download(shown, "json", tmp_path)) == strange, "it can be taken along again"
        for name, content, part in (
            ("b.png", b"\x89PNG\r\n\x1a\n\x00\xff", "not a trace"),
            ("d.json", json.dumps(changed), "events.2.score = 7"),
            ("e.json", b" " * 20_000_001, "20 MB"),
            ("<img src=x onerror=window.hacked=1>.json", "[]", "not a trace"),
        ):
            assert part in row.open_file(shown, content, name)
        has(shown, strange.text)
        expect(shown.page.locator("#prompt textarea")).to_have_value(HOSTILE)
        assert HOSTILE in (shown.page.text_content(".stream-state") or "")
        row.no_markup(shown.page, "#stream", "#share")
        assert complaints(shown) == []


def test_an_opened_text_takes_the_place_of_one_being_written_and_stays_until_generate(shown: Window, trace, pair):
    pair.tokens_per_second = 4
    shown.ask("a palindrome")
    shown.wait_tokens(4)
    row.open_file(shown, trace.to_json())
    has(shown, trace.text)
    eventually(lambda: pair.open_streams == 0)
    shown.wait_state("done")
    pair.tokens_per_second, asked = 400.0, len(pair.requests)
    shown.slide("#threshold", 0)
    shown.page.wait_for_selector(".t.flip")
    assert shown.text() == trace.text and len(pair.requests) == asked, "it shows what would flip, and writes nothing"
    shown.slide("#threshold", 0.8)
    shown.page.click("#generate")
    eventually(lambda: len(pair.requests) > asked and pair.requests[-1].seed == 9)
    has(shown, trace.text)
