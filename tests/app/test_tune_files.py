"""Prompts and files of the tab “Tune on my prompts”: what is read and refused, strange text, and how the tab looks."""

from __future__ import annotations

import json
import threading
import time

import pytest

from app.tune.prompts import parse
from tests.support.browser import Site, check_contrast, eventually, expect, sizes, window
from tests.support.paths import TINY
from tests.support.tune_tab import CSV, QUESTIONS, TOKENS, Tab

pytestmark = pytest.mark.skipif(not (TINY / "llm").is_dir(), reason="the tiny pair is not in assets/tiny")


@pytest.fixture(scope="module")
def pair(tiny_pair):
    """The page is served in front of the tiny pair."""
    return tiny_pair


@pytest.fixture(scope="module")
def measured_tab(browser, site):
    """A window in which the four questions were measured."""
    with window(browser, site) as shown:
        tab = Tab(shown).open()
        tab.paste(CSV)
        tab.page.fill("#tune-count input[type=number]", "1")
        tab.run()
        tab.wait("done")
        yield tab


@pytest.fixture
def measured(measured_tab):
    yield measured_tab
    assert measured_tab.window.errors == []


@pytest.fixture
def tab(site_window):
    site_window.open()
    yield Tab(site_window).open()
    assert site_window.errors == []


# ---- prompts and files ----


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("mine.csv", CSV),
        ("mine.csv", "\ufeff" + CSV.replace("\n", "\r\n")),
        ("mine.jsonl", "\n".join(json.dumps({"question": q, "expected": int(a)}) for q, a in QUESTIONS)),
        ("mine.txt", CSV),
    ],
)
def test_a_good_file_is_read_and_goes_into_the_box(tab: Tab, name: str, content: str):
    tab.choose(name, content)
    eventually(lambda: tab.says(".tune-read") == f"4 prompts, each with an answer · {name}")
    cells = [" ".join(text.split()) for text in tab.page.locator(".tune-rows td").all_inner_texts()]
    assert cells[:2] == list(QUESTIONS[0]) and len(cells) == 8
    rows = parse(tab.page.input_value("#tune-prompts textarea")).rows
    assert [(row.prompt, row.expected) for row in rows] == QUESTIONS, "and can be changed there"


def test_text_that_is_still_being_read_is_shown_beside_a_file_that_is_refused(tab: Tab, monkeypatch):
    begun = threading.Event()

    def slowly(text: str):
        begun.set()
        time.sleep(0.5)
        return parse(text)

    monkeypatch.setattr("app.tune.tab.parse", slowly)
    tab.paste(CSV)
    eventually(begun.is_set)
    tab.choose("x.csv", "a,b")
    tab.page.wait_for_selector(".tune-refused")
    expect(tab.page.locator(".tune-rows td")).to_have_count(8)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("long.csv", "prompt\n" + "a\n" * 201, "long.csv: 201 prompts; at most 200"),
        ("wide.csv", "prompt\n" + "x" * 10_000, "wide.csv, row 2, prompt: 10,000 characters"),
        ("columns.csv", "text,label\na,b", "columns.csv, row 1: no column “prompt”"),
        ("formula.csv", "prompt,answer\n<b>,=1+1", "formula.csv, row 2, answer: “=1+1”"),
        ("image.csv", b"\x89PNG\r\n\x1a\n\x00\x00", "image.csv: byte 9 is 0"),
        ("book.csv", b"PK\x03\x04\x00", "book.csv: this is a ZIP archive"),
        ("latin.csv", b"prompt\n\xe4", "latin.csv, line 2: byte 0xE4"),
        ("broken.jsonl", '{"prompt": "a"}\n{', "broken.jsonl, line 2: no JSON"),
        ("empty.txt", "", "empty.txt: there is nothing in it"),
        ("other.pdf", "prompt\na", "other.pdf: a .csv, .jsonl or .txt file is needed"),
        ("big.csv", b"x" * 5_000_001, "big.csv: 5,000,001 bytes; at most 5,000,000"),
        ("<img src=x onerror=hacked=1>.csv", "a,b\nc,d", "<img src=x onerror=hacked=1>.csv, row 1"),
    ],
)
def test_a_bad_file_is_refused_with_its_reason_and_nothing_is_lost(measured: Tab, name, content, reason):
    measured.type("share", 20)
    before = [measured.says(s) for s in (".tune-read", ".tune-rows", ".tune-said")]
    measured.choose(name, content)
    eventually(lambda: measured.says(".tune-refused").startswith(reason))
    expect(measured.page.locator("#tune-prompts textarea")).to_have_value(CSV)
    assert [measured.says(s) for s in (".tune-read", ".tune-rows", ".tune-said")] == before
    assert measured.page.evaluate("window.hacked") is None


def test_a_file_that_takes_the_place_of_typed_prompts_can_be_undone(tab: Tab):
    tab.paste("What did I type?")
    eventually(lambda: tab.says(".tune-read") == "1 prompt, none with an answer · one per line")
    expect(tab.page.locator('[data-do="back"]').first).to_be_hidden()
    tab.choose("mine.csv", CSV)
    tab.page.click('[data-do="back"]')
    eventually(lambda: tab.says(".tune-read") == "1 prompt, none with an answer · one per line")
    expect(tab.page.locator("#tune-prompts textarea")).to_have_value("What did I type?")


@pytest.mark.parametrize("source", ["example", "file"])
def test_the_same_source_twice_leaves_the_way_back_to_what_was_pasted(tab: Tab, source: str):
    tab.paste("What did I type?")
    for _ in range(2):
        tab.page.click('[data-do="example"]') if source == "example" else tab.choose("mine.csv", CSV)
        eventually(lambda: tab.says(".tune-read").startswith("4 prompts, each with an answer"))
        eventually(lambda: tab.page.locator(".tune-sources input").input_value() == "")  # the file is read
    tab.page.click('[data-do="back"]')
    expect(tab.page.locator("#tune-prompts textarea")).to_have_value("What did I type?")


def test_pasted_prompts_are_read_as_they_change(tab: Tab):
    tab.paste("prompt,answer\na,=1")
    eventually(lambda: tab.says(".tune-refused").startswith("Your prompts, row 2, answer: “=1”"))
    expect(tab.page.locator(".tune-rows").first).to_be_hidden()
    tab.paste("id,prompt,answer\n" + "\n".join(f"{n},a{n}," for n in range(9)))
    eventually(lambda: tab.says(".tune-read") == "9 prompts, none with an answer · CSV")
    assert tab.says(".tune-refused") == "" and tab.says(".tune-more") == "and 4 more. Not used: id."
    tab.paste("")
    eventually(lambda: tab.says(".tune-read") == "")


@pytest.mark.parametrize("by", ["hand", "file"])
def test_what_is_given_before_the_scripts_are_there_is_read(tab: Tab, by: str):
    held, free = [], []
    tab.page.route("**/citer/page/**", lambda route: route.continue_() if free else held.append(route))
    tab.window.open()
    tab.open()
    tab.paste(CSV) if by == "hand" else tab.choose("mine.csv", CSV)
    assert tab.says(".tune-read") == ""
    free.append(True)
    for route in held:
        route.continue_()
    kind = "CSV" if by == "hand" else "mine.csv"
    eventually(lambda: tab.says(".tune-read") == f"4 prompts, each with an answer · {kind}")
    tab.page.unroute("**/citer/page/**")


def test_the_example_runs_and_is_right(tab: Tab):
    tab.page.click('[data-do="example"]')
    eventually(lambda: tab.says(".tune-read") == "4 prompts, each with an answer · CSV")
    tab.page.fill("#tune-count input[type=number]", "1")
    tab.run()
    tab.wait("done")
    assert tab.json()["curve"][-1]["quality"] == 1, "the LLM alone answers all of it"


def test_what_cannot_be_run_is_refused_and_what_is_there_stays(measured: Tab, pair):
    said = measured.says(".tune-said")
    for text, reason in (("prompt\n=1", "row 2"), ("", "Give at least one prompt")):
        measured.paste(text)
        measured.run()
        measured.page.wait_for_selector(f'.toast-body:has-text("{reason}")')
        measured.page.click(".toast-close")
    measured.paste(CSV)
    measured.page.fill("#tune-limit input", "0")
    measured.run()
    measured.page.wait_for_selector('.toast-body:has-text("max_new_tokens = 0")')
    measured.page.click(".toast-close")
    measured.page.fill("#tune-limit input", str(TOKENS))
    assert measured.says(".tune-said") == said


def test_a_prompt_beyond_the_context_is_named_and_the_curve_before_stays(tab: Tab):
    tab.paste(QUESTIONS[0][0])
    tab.page.fill("#tune-count input[type=number]", "1")
    tab.run()
    tab.wait("done")
    said, point = tab.says(".tune-said"), tab.json()["point"]
    tab.paste("Ben has $2.\n" + "Ben has $20. " * 600)
    tab.run()
    tab.wait("failed")
    assert "line 2: The prompt is too long: it has" in tab.says(".tune-state")
    assert (tab.says(".tune-said"), tab.json()["point"]) == (said, point)
    assert tab.says(".tune-old").startswith("Below is what the run before gave")
    tab.paste(f"{QUESTIONS[1][0]}\n{QUESTIONS[2][0]}")
    tab.run()
    tab.wait("done")
    expect(tab.page.locator(".tune-old").first).to_be_hidden()
    assert "on 2 prompts" in tab.says(".tune-said")
    assert tab.says(".tune-live") == "done · 2 of 2 prompts"


def test_markup_in_prompts_and_answers_is_shown_as_it_is(tab: Tab):
    name = "<img src=x onerror=window.hacked=1>"
    text = f"{name}${{window.hacked=1}}{{{{value}}}}</script><b>x"
    tab.paste(json.dumps({"prompt": text, "answer": text, name: 1}))
    eventually(lambda: tab.says(".tune-more") == f"Not used: {name}.")
    tab.page.fill("#tune-count input[type=number]", "1")
    tab.page.fill("#tune-limit input", "4")
    tab.run()
    tab.wait("done")
    tab.page.click(".tune-list summary")
    tab.page.click(".tune-item button")
    eventually(lambda: text in tab.page.locator(".tune-text").text_content())
    assert tab.page.locator(".tune-item-prompt").inner_text() == text
    assert tab.page.evaluate("window.hacked") is None
    expect(tab.page.locator(".tune img, .tune-preview img, .tune-list b")).to_have_count(0)


# ---- looks ----


def test_nothing_sticks_out(browser, site: Site):
    with window(browser, site, width=360) as shown:
        tab = Tab(shown).open()
        tab.paste(CSV)
        tab.page.fill("#tune-count input[type=number]", "1")
        tab.page.fill("#tune-limit input", "6")
        tab.run()
        tab.wait("done")
        tab.page.evaluate("document.querySelectorAll('.tune details').forEach((node) => { node.open = true; })")
        for width, _ in sizes(tab.page, (360, 900), (768, 900)):
            assert tab.page.evaluate("document.documentElement.scrollWidth") <= width


def test_text_has_enough_contrast(browser, site: Site):
    with window(browser, site) as shown:
        tab = Tab(shown).open()
        check_contrast(tab.page, ".tune-empty li", ".tune-limits", ".tune-sources button")
        tab.paste(CSV)
        tab.page.fill("#tune-count input[type=number]", "1")
        tab.page.fill("#tune-limit input", "6")
        tab.run()
        tab.wait("done")
        tab.choose("x.csv", "a,b")
        tab.page.wait_for_selector(".tune-refused")
        tab.page.evaluate("document.querySelectorAll('.tune details').forEach((node) => { node.open = true; })")
        tab.page.wait_for_selector(".tune-mark:not(:empty)")
        check_contrast(
            tab.page, ".tune-refused", ".tune-rows td", ".tune-rows th", ".tune-state", ".tune-about", ".tune-said",
            ".tune-how", ".tune-unit", ".tune-take textarea", ".tune-buttons button", ".tune-table th",
            ".tune-mark", ".tune-item-expected", ".tune-views label", ".tune-shipped",
        )  # fmt: skip
