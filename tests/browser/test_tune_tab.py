"""Tune on my prompts, in Chromium in front of the tiny pair: from prompts to a setting to take away."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from app.tune.prompts import parse
from tests.support.browser import Site, Window, eventually, expect, window
from tests.support.questions import CSV, MANY, QUESTIONS
from tests.support.shared_text import CLIPBOARD, HOSTILE, no_job, no_markup

TWO = "\n".join(prompt for prompt, _ in QUESTIONS[:2])
TOKENS = 60


class Tab:
    """The tab in a window."""

    def __init__(self, window: Window) -> None:
        self.window, self.page = window, window.page
        self.typed = self.page.locator("#tune-prompts textarea")

    def open(self) -> Tab:
        self.page.click('role=tab[name="Tune on my prompts"]')
        self.page.wait_for_selector(".tune-sources")
        return self

    def choose(self, name: str, content: bytes | str) -> None:
        buffer = content.encode() if isinstance(content, str) else content
        file = {"name": name, "mimeType": "text/plain", "buffer": buffer}
        self.page.set_input_files(".tune-sources input[type=file]", [file])

    def start(self, text: str, count: int = 1, tokens: int = TOKENS) -> None:
        self.typed.fill(text)
        self.page.fill("#tune-count input", str(count))
        self.page.fill("#tune-limit input", str(tokens))
        self.page.evaluate("document.querySelector('.tune-state').dataset.state = 'before'")  # the end of another's
        self.page.evaluate("document.querySelector('#tune-run').click()")  # Stop may stand in its place

    def measure(self, *asked: Any, **more: Any) -> None:
        self.start(*asked, **more)
        self.wait("done")

    def wait(self, state: str) -> None:
        self.page.wait_for_selector(f'.tune-state[data-state="{state}"]')

    def shows(self, selector: str, part: str) -> None:
        expect(self.page.locator(selector).first).to_contain_text(part)

    def pick(self, key: str) -> None:
        self.page.focus(".tune-handle input")
        self.page.keyboard.press(key)

    def setting(self) -> str:
        return self.page.input_value(".tune-settings").strip().removeprefix("CITER_SETTING=").strip('"')


@pytest.fixture(scope="module")
def pair(tiny_pair):
    return tiny_pair


@pytest.fixture
def tab(site_window: Window) -> Iterator[Tab]:
    site_window.open()
    yield Tab(site_window).open()
    assert site_window.errors == []


def test_a_person_measures_their_prompts_and_takes_the_recommended_setting_along(browser, site: Site, pair):
    with window(browser, site, **CLIPBOARD) as shown:
        tab = Tab(shown).open()
        tab.measure(CSV, 5)
        tab.shows(".tune-state", "4 of 4")
        tab.shows(".tune-said", "Recommended")
        tab.page.click(".tune-copy")
        tab.shows(".tune-done", "Copied")
        assert shown.page.evaluate("navigator.clipboard.readText()") == tab.page.input_value(".tune-settings")
        tab.page.click(".tune-list summary")
        expect(tab.page.locator(".tune-mark").first).not_to_be_empty()
        tab.page.click(".tune-item button >> nth=1")
        for key, policy in (("Home", "slm"), ("End", "llm")):
            tab.pick(key)
            tab.shows(".tune-text >> nth=1", pair.generate(QUESTIONS[1][0], policy=policy, max_new_tokens=TOKENS).text)
            eventually(lambda policy=policy: tab.setting().split()[0] == policy)
        tab.pick("ArrowLeft")
        eventually(lambda: tab.setting().startswith("router"))
        threshold = tab.setting().split()[2]
        expect(tab.page.locator(".tune-plot .scatterlayer .trace:first-child .point")).to_have_count(7)
        tab.page.click(".tune-use")
        expect(shown.page.locator("#threshold input[type=number]")).to_have_value(threshold)
        assert not [url for url in shown.requests if not url.startswith((site.url, "data:", "blob:"))]
        assert shown.errors == []


def test_the_playgrounds_acceptance_counts_and_without_answers_quality_is_agreement(tab: Tab):
    tab.page.click('role=tab[name="Playground"]')
    tab.window.slide("#acceptance", 0.6)
    tab.window.more()
    tab.page.fill("#max-draft input", "3")
    tab.page.click("#policy input")
    tab.page.click('[role="option"] >> text="chance"')
    tab.open()
    tab.measure(TWO, 4)
    tab.shows(".tune-said", "agreement")
    for key in ("End", "ArrowLeft"):
        tab.pick(key)
    eventually(lambda: tab.setting().startswith("random < ") and tab.setting().endswith(" @ 0.6/3"))


def test_what_a_run_takes_is_said_before_it_begins_and_the_playgrounds_prompts_come_along(tab: Tab):
    tab.page.click('role=tab[name="Playground"]')
    for prompt in (QUESTIONS[0][0], "two\nlines"):
        tab.window.write(prompt)
    tab.open().page.click('[data-do="history"]')
    tab.shows(".tune-read", "2 prompts")
    assert [row.prompt for row in parse(tab.typed.input_value()).rows][-2:] == [QUESTIONS[0][0], "two\nlines"]
    tab.page.fill("#tune-count input", "3")
    tab.page.fill("#tune-limit input", "50")
    for part in ("10 texts at 5 settings", "500 tokens", "20 prompts or more"):
        tab.shows(".tune-plan", part)


def test_stop_keeps_the_curve_so_far_and_another_run_or_a_closed_window_ends_it(browser, site: Site):
    with window(browser, site) as shown:
        tab = Tab(shown).open()
        tab.start(MANY, 9)
        tab.page.wait_for_selector(".tune-plot .point")
        tab.page.click("#tune-stop")
        tab.wait("stopped")
        eventually(no_job)
        done = int(tab.page.get_attribute(".tune progress", "value") or "0")
        assert 0 < done < 80
        tab.shows(".tune-about", f"{done} of 80")
        tab.start(MANY, 9)
        tab.wait("running")
        tab.measure(TWO)
        tab.shows(".tune-state", "2 of 2")
        expect(tab.page.locator(".tune-item"), "the prompts of the run before are gone").to_have_count(2)
        eventually(no_job)
        tab.start(MANY, 9)
        tab.wait("running")
    eventually(no_job)


def test_a_file_that_is_refused_changes_nothing_and_one_that_is_taken_can_be_undone(tab: Tab):
    tab.typed.fill("What did I type?")
    tab.shows(".tune-read", "1 prompt")
    for name, content, part in (
        ("no.csv", "question,answer\n<b>,1,2", "3 cells"),
        ("big.csv", b"x" * 5_000_001, "5,000,001"),
        ("wide.csv", "a".encode("utf-16"), "UTF-8"),
        (f"{HOSTILE}.csv".replace("/", ""), "a,b\nc,d", "row 1"),
    ):
        tab.choose(name, content)
        tab.shows(".tune-refused", part)
        assert tab.typed.input_value() == "What did I type?"
    no_markup(tab.page, ".tune-preview", ".tune-sources")
    rows = "\n".join(json.dumps({"question": prompt, "expected": int(answer)}) for prompt, answer in QUESTIONS)
    windows = "\ufeff" + CSV.replace("\n", "\r\n")
    for name, content in (("mine.csv", windows), ("mine.jsonl", rows), ("again.jsonl", rows)):
        tab.choose(name, content)
        tab.shows(".tune-read", name)
        assert [(row.prompt, row.expected) for row in parse(tab.typed.input_value()).rows] == QUESTIONS
    tab.page.click('[data-do="back"]')
    expect(tab.typed).to_have_value(CSV)


def test_hostile_prompts_stay_text_and_what_cannot_be_run_is_refused_and_leaves_the_curve(tab: Tab):
    text = HOSTILE.replace("\ufeff", "").replace("\u2028", "")
    tab.measure(json.dumps({"prompt": text, "answer": text, text[:30]: 1}))
    tab.shows(".tune-more", text[:30])  # a column that nobody reads
    tab.page.click(".tune-list summary")
    tab.page.click(".tune-item button")
    tab.shows(".tune-text", text)
    assert tab.page.locator(".tune-item-prompt").first.text_content() == text
    no_markup(tab.page, ".tune", ".tune-preview")
    tab.measure(QUESTIONS[0][0])
    said = tab.page.inner_text(".tune-said")
    tab.start("prompt,answer\n,1")
    tab.page.wait_for_selector('.refused:has-text("row 2")')
    tab.page.click('.refused button:has-text("Close")')
    tab.page.fill("#tune-limit input", "0")
    tab.typed.focus()
    tab.shows("#tune-limit .field-note", "0")
    expect(tab.page.locator("#tune-limit input")).to_have_value(str(TOKENS))
    tab.start("Ben has $2.\n" + "Ben has $20. " * 600)
    tab.wait("failed")
    tab.shows(".tune-state", "line 2")
    assert tab.page.inner_text(".tune-said") == said
    expect(tab.page.locator(".tune-old").first).to_be_visible()
    tab.measure(CSV, tokens=4)
    expect(tab.page.locator(".tune-old").first).to_be_hidden()
    tab.shows(".tune-said", "100 %")  # of the texts were cut off
    expect(tab.page.locator(".tune-use").first).to_be_disabled()
    tab.pick("End")
    expect(tab.page.locator(".tune-use").first, "what a person picks is theirs to use").to_be_enabled()
