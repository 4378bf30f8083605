"""Tune on my prompts, in Chromium in front of the tiny pair: from prompts to a setting to take away."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from app.tune.prompts import parse
from engine import load_settings
from engine.operating_points import Curve, OperatingPoint
from tests.support.browser import Site, Window, eventually, expect, window
from tests.support.paths import TINY
from tests.support.questions import CSV, MANY, QUESTIONS
from tests.support.shared_text import CLIPBOARD, HOSTILE, no_markup

pytestmark = pytest.mark.skipif(not (TINY / "llm").is_dir(), reason="the tiny pair is not in assets/tiny")

HANDLES = ("threshold", "share", "budget", "weight")
TOKENS = 60


class Tab:
    """The tab in a window."""

    def __init__(self, window: Window) -> None:
        self.window, self.page = window, window.page

    def open(self) -> Tab:
        self.page.click('role=tab[name="Tune on my prompts"]')
        self.page.wait_for_selector(".tune-sources")
        return self

    def paste(self, text: str) -> None:
        self.page.fill("#tune-prompts textarea", text)

    def choose(self, name: str, content: bytes | str) -> None:
        content = content.encode() if isinstance(content, str) else content
        file = {"name": name, "mimeType": "text/plain", "buffer": content}
        self.page.set_input_files(".tune-sources input[type=file]", [file])

    def start(self, text: str, count: int = 1, tokens: int = TOKENS) -> None:
        self.paste(text)
        self.page.fill("#tune-count input[type=number]", str(count))
        self.page.fill("#tune-limit input", str(tokens))
        self.page.evaluate("document.querySelector('.tune-state').dataset.state = 'before'")  # the end of another's
        self.page.click("#tune-run")

    def measure(self, text: str, count: int = 1, tokens: int = TOKENS) -> None:
        self.start(text, count, tokens)
        self.wait('[data-state="done"]')

    def wait(self, state: str) -> None:
        self.page.wait_for_selector(f".tune-state{state}")

    def says(self, selector: str) -> str:
        text = self.page.locator(selector).first.inner_text()
        return " ".join(text.replace("\N{NARROW NO-BREAK SPACE}", " ").split())

    def shows(self, selector: str, part: str) -> None:
        expect(self.page.locator(selector).first).to_contain_text(part)

    def number(self, handle: str) -> float:
        return float(self.page.input_value(f'[data-handle="{handle}"] input[type=number]'))

    def type(self, handle: str, value: float) -> None:
        """Types into a handle's box, and lets the page draw."""
        self.page.fill(f'[data-handle="{handle}"] input[type=number]', str(value))
        self.page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def taken(self, name: str) -> str:
        return self.page.input_value(f'.tune [data-take="{name}"]')

    def json(self) -> dict[str, Any]:
        with self.page.expect_download() as found:
            self.page.click('.tune [data-save="json"]')
        return json.loads(found.value.path().read_bytes())


def curve_of(exported: dict[str, Any]) -> Curve:
    """The engine's curve of an exported one."""
    names = ("threshold", "quality", "low", "high", "llm_share", "bytes", "flops", "seconds")
    points = [OperatingPoint(*(point[name] for name in names)) for point in exported["curve"]]
    return Curve("own", 4, "", "", "", "", points[0], points[-1], tuple(points[1:-1]))


def no_job() -> bool:
    return not any(thread.name.startswith("citer-run") for thread in threading.enumerate())


@pytest.fixture(scope="module")
def pair(tiny_pair):
    """The page is served in front of the tiny pair."""
    return tiny_pair


@pytest.fixture(scope="module")
def measured_tab(browser, site: Site) -> Iterator[Tab]:
    """A window in which the four questions were measured at five thresholds; tests move its handles."""
    with window(browser, site, **CLIPBOARD) as shown:
        tab = Tab(shown).open()
        tab.measure(CSV, 5)
        tab.page.wait_for_selector(".tune-plot .point")
        yield tab


@pytest.fixture
def measured(measured_tab: Tab) -> Iterator[Tab]:
    yield measured_tab
    assert measured_tab.window.errors == []


@pytest.fixture
def tab(site_window: Window) -> Iterator[Tab]:
    site_window.open()
    yield Tab(site_window).open()
    assert site_window.errors == []


def test_a_person_measures_their_prompts_and_takes_the_recommended_setting_along(measured: Tab, site: Site):
    measured.shows(".tune-state", "4 of 4")
    measured.shows(".tune-beside", "400")  # questions of the router's shipped curve
    exported, curve = measured.json(), curve_of(measured.json())
    about = exported["measured_on"]
    assert (about["prompts"], about["quality"], about["preset"]) == (4, "accuracy", "tiny")
    best = max(curve.measured, key=lambda point: (point.accuracy, -point.bytes))
    measured.type("weight", 0)
    assert measured.number("threshold") == best.threshold
    said = measured.says(".tune-said")
    assert f"{100 * best.accuracy:.0f} %" in said and f"{100 * best.bytes / curve.llm.bytes:.0f} %" in said
    measured.page.click('.tune [data-copy="settings"]')
    measured.shows(".tune-done", "Copied")
    copied = measured.page.evaluate("navigator.clipboard.readText()")
    names = dict(line.removeprefix("CITER_").split("=") for line in copied.split())
    settings = load_settings(policy=names["POLICY"], threshold=float(names["THRESHOLD"]))
    assert settings.threshold == best.threshold and measured.taken("settings") == copied
    for threshold, policy in ((0, "slm"), (1.01, "llm"), (0.9, "router")):
        measured.type("threshold", threshold)
        assert measured.taken("link") == f"{site.url}?threshold={threshold}&acceptance=0&policy={policy}"
    measured.page.click(".tune-use")
    expect(measured.page.locator("#threshold input[type=number]")).to_have_value("0.9")
    measured.open()
    assert not [url for url in measured.window.requests if not url.startswith((site.url, "data:", "blob:"))]


def test_the_handles_read_the_curve_as_the_engine_does(measured: Tab):
    curve = curve_of(measured.json())
    thresholds = [point.threshold for point in curve.measured]
    for threshold in (0, thresholds[1], (thresholds[3] + thresholds[4]) / 2, 1.01):
        measured.type("threshold", threshold)
        there = curve.at(threshold)
        assert measured.number("share") == pytest.approx(100 * there.llm_share, abs=0.06)
        assert measured.number("budget") == pytest.approx(100 * there.bytes / curve.llm.bytes, abs=0.06)
    for share in (0, 12.5, 40, 100):
        measured.type("share", share)
        there = curve.for_share(share / 100)
        coarse = 2e-3 * (1.0001 - there.threshold) + 1e-6
        assert measured.number("threshold") == pytest.approx(there.threshold, abs=coarse)
    for unit in ("flops", "bytes"):
        measured.page.check(f'[name="tune-unit"][value="{unit}"]')
        for weight in (0, 0.5, 50):
            measured.type("weight", weight)
            assert measured.number("threshold") == curve.best(weight, unit).threshold
    measured.type("budget", 0)
    assert measured.number("threshold") == 0
    half = 50 * (curve.measured[0].bytes + curve.measured[1].bytes) / curve.llm.bytes
    measured.type("budget", half)
    assert 100 * curve.at(measured.number("threshold")).bytes / curve.llm.bytes <= half + 0.2, "never more"
    for name in HANDLES:
        measured.type("share", 30)
        others = {other: measured.number(other) for other in HANDLES if other != name}
        measured.page.focus(f'[data-handle="{name}"] input[type=range]')
        measured.page.keyboard.press("End" if name == "weight" else "Home")
        eventually(lambda others=others: all(measured.number(each) != at for each, at in others.items()))


def test_the_text_of_each_prompt_is_there_on_demand(measured: Tab, pair):
    measured.type("threshold", 0)
    measured.page.click(".tune-list summary")
    expect(measured.page.locator(".tune-mark").first).not_to_be_empty()
    measured.page.click(".tune-item button >> nth=1")
    for threshold, policy in ((0, "slm"), (1.01, "llm")):
        measured.type("threshold", threshold)
        alone = pair.generate(QUESTIONS[1][0], policy=policy, max_new_tokens=TOKENS).text
        text = measured.page.locator(".tune-text >> nth=1")
        expect(text).to_contain_text(QUESTIONS[1][0])
        eventually(lambda text=text, alone=alone: text.text_content().endswith(alone))
    measured.page.click(".tune-list summary")


def test_the_playgrounds_acceptance_counts_and_without_answers_quality_is_agreement(tab: Tab):
    tab.page.click('role=tab[name="Playground"]')
    tab.window.slide("#acceptance", 0.6)
    tab.page.click("text=Sampling and prompt format")
    tab.page.fill("#max-draft input", "3")
    tab.open().shows(".tune-acceptance", "0.6")
    tab.page.click("#tune-policy input")
    tab.page.click('[role="option"] >> text="chance"')
    tab.measure("\n".join(prompt for prompt, _ in QUESTIONS[:2]), 4)
    expect(tab.page.locator('[name="tune-kind"][value="right"]')).to_be_disabled()
    exported = tab.json()
    about, curve = exported["measured_on"], exported["curve"]
    assert [point["threshold"] for point in curve[1:-1]] == [0.2, 0.4, 0.6, 0.8]
    assert curve[-1]["quality"] == 1 and "agreement" in about["quality"] and about["router"] is None
    assert (about["acceptance"], about["max_draft"]) == (0.6, 3)
    tab.type("threshold", 0)
    tab.shows(".tune-said", "acceptance 0.6")
    assert tab.taken("link").endswith("?threshold=0&acceptance=0.6&policy=slm&max_draft=3")


def test_stop_keeps_the_curve_so_far_and_another_run_or_a_closed_window_ends_it(browser, site: Site):
    with window(browser, site) as shown:
        tab = Tab(shown).open()
        tab.start(MANY, 9)
        tab.page.wait_for_selector(".tune-plot .point")
        tab.page.click("#tune-stop")
        tab.wait('[data-state="stopped"]')
        eventually(no_job)
        done = int(tab.page.get_attribute(".tune progress", "value") or "0")
        about = tab.json()["measured_on"]
        assert 0 < done < 80 and (about["prompts_done"], about["prompts_given"]) == (done, 80)
        tab.start(MANY, 9)
        tab.wait('[data-state="running"]')
        tab.measure("\n".join(prompt for prompt, _ in QUESTIONS[:2]))
        tab.shows(".tune-state", "2 of 2")
        eventually(no_job)
        tab.start(MANY, 9)
        tab.wait('[data-state="running"]')
    eventually(no_job)


def test_a_file_that_is_refused_changes_nothing_and_one_that_is_taken_can_be_undone(tab: Tab):
    tab.paste("What did I type?")
    tab.shows(".tune-read", "1 prompt")
    for name, content, part in (
        ("formula.csv", "prompt,answer\n<b>,=1+1", "=1+1"),
        ("image.csv", b"\x89PNG\r\n\x1a\n\x00\x00", "0x89"),
        ("big.csv", b"x" * 5_000_001, "5,000,001"),
        (f"{HOSTILE}.csv".replace("/", ""), "a,b\nc,d", "row 1"),
    ):
        tab.choose(name, content)
        tab.shows(".tune-refused", part)
        assert tab.page.input_value("#tune-prompts textarea") == "What did I type?"
    no_markup(tab.page, ".tune-preview", ".tune-sources")
    for name, content in (("mine.csv", "\ufeff" + CSV.replace("\n", "\r\n")), ("mine.jsonl", jsonl(QUESTIONS))):
        tab.choose(name, content)
        tab.shows(".tune-read", name)
        expect(tab.page.locator(".tune-refused").first).to_be_hidden()
        rows = parse(tab.page.input_value("#tune-prompts textarea")).rows
        assert [(row.prompt, row.expected) for row in rows] == QUESTIONS, "and can be changed there"
    tab.choose("mine.jsonl", jsonl(QUESTIONS))  # the same once more leaves the way back to what was there before
    tab.page.click('[data-do="back"]')
    expect(tab.page.locator("#tune-prompts textarea")).to_have_value(CSV)
    tab.paste("id,prompt,answer\n" + "\n".join(f"{n},a{n}," for n in range(9)))
    tab.shows(".tune-more", "id")
    tab.shows(".tune-read", "9 prompts")


def jsonl(rows) -> str:
    return "\n".join(json.dumps({"question": prompt, "expected": int(answer)}) for prompt, answer in rows)


def test_what_cannot_be_run_is_refused_by_its_place_and_the_curve_before_stays(tab: Tab):
    tab.measure(QUESTIONS[0][0])
    said, point = tab.says(".tune-said"), tab.json()["point"]
    for text, tokens, part in (("prompt\n=1", TOKENS, "row 2"), (CSV, 0, "max_new_tokens = 0")):
        tab.start(text, tokens=tokens)
        tab.page.wait_for_selector(f'.toast-body:has-text("{part}")')
        tab.page.click(".toast-close")
    tab.start("Ben has $2.\n" + "Ben has $20. " * 600)
    tab.wait('[data-state="failed"]')
    assert "line 2" in tab.says(".tune-state") and (tab.says(".tune-said"), tab.json()["point"]) == (said, point)
    expect(tab.page.locator(".tune-old").first).to_be_visible()
    tab.measure(CSV, tokens=4)
    expect(tab.page.locator(".tune-old").first).to_be_hidden()
    tab.shows(".tune-advice", "100 %")  # of the texts were cut off
    expect(tab.page.locator(".tune-use").first).to_be_disabled()
    tab.type("threshold", 0.5)
    expect(tab.page.locator(".tune-use").first, "what a person picks is theirs to use").to_be_enabled()


def test_hostile_prompts_answers_and_columns_stay_text(tab: Tab):
    text = HOSTILE.replace("\ufeff", "").replace("\u2028", "")
    tab.paste(json.dumps({"prompt": text, "answer": text, text[:30]: 1}))
    tab.shows(".tune-more", text[:30])
    tab.page.fill("#tune-count input[type=number]", "1")
    tab.page.fill("#tune-limit input", "4")
    tab.page.click("#tune-run")
    tab.wait('[data-state="done"]')
    tab.page.click(".tune-list summary")
    tab.page.click(".tune-item button")
    tab.shows(".tune-text", text)
    assert tab.page.locator(".tune-item-prompt").first.text_content() == text
    no_markup(tab.page, ".tune", ".tune-preview")
