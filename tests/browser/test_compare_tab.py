"""Compare, in Chromium in front of the tiny pair: three texts, the verdict, Play, and the film."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

import engine
from engine.batch.text import Text
from engine.events.cost import modelled_seconds
from engine.grading import is_right
from engine.scheduler import Scheduler
from tests.support.browser import Site, Window, eventually, expect, move, window
from tests.support.questions import QUESTIONS
from tests.support.shared_text import HOSTILE, no_job, no_markup

(PROMPT, ANSWER), (OTHER, _), *_ = QUESTIONS
COLUMNS = ("slm", "middle", "llm")
TOKENS = 60


@pytest.fixture(scope="module")
def pair(tiny_pair):
    return tiny_pair


@pytest.fixture
def shown(site_window: Window, pair):
    """The tab, freshly opened."""
    site_window.open()
    enter(site_window)
    yield site_window
    assert site_window.errors == []


@pytest.fixture
def held(monkeypatch):
    """Holds every comparison after four tokens of each text, until it is cancelled or the test is over."""
    over, plain = threading.Event(), Scheduler._arrange

    def arrange(scheduler):
        while (texts := [*scheduler._running]) and all(len(t.events) == 4 and not t.unwanted for t in texts):
            if over.wait(0.01):
                break
        plain(scheduler)

    monkeypatch.setattr(Scheduler, "_arrange", arrange)
    yield
    over.set()


def enter(shown: Window) -> None:
    shown.page.wait_for_selector(".models")
    shown.page.click('role=tab[name="Compare"]')
    shown.page.wait_for_selector("#compare-start")


def ask(shown: Window, prompt: str = PROMPT) -> None:
    shown.page.fill("#compare-prompt textarea", prompt)
    shown.page.press("#compare-prompt textarea", "Enter")


def compare(shown: Window, prompt: str = PROMPT) -> None:
    last = shown.page.get_attribute(".compare-state", "data-run")
    ask(shown, prompt)
    shown.page.wait_for_selector(f'.compare-state[data-state="done"]:not([data-run="{last}"])')


def words(shown: Window, key: str) -> list[str]:
    """Texts of a column's tokens."""
    return shown.page.locator(f'[data-column="{key}"] .w').all_text_contents()


def marked(shown: Window, key: str, name: str) -> list[int]:
    """Which of a column's tokens have a class."""
    script = "(nodes, name) => nodes.flatMap((node, i) => node.classList.contains(name) ? [i] : [])"
    return shown.page.eval_on_selector_all(f'[data-column="{key}"] .w', script, name)


def traces(pair, threshold: float, policy: str = "router", acceptance: float = 0.0):
    """What the engine writes for the three columns, each text by itself."""
    return {
        key: pair.generate(PROMPT, policy=name, threshold=threshold, acceptance=kept, max_new_tokens=TOKENS)
        for key, name, kept in zip(COLUMNS, ("slm", policy, "llm"), (0.0, acceptance, 0.0), strict=True)
    }


def stand_there(shown: Window, written: dict) -> None:
    """Fails unless the columns are the engine's texts with its authors and costs."""
    for key, trace in written.items():
        assert "".join(words(shown, key)) == trace.text
        assert marked(shown, key, "llm") == [event.index for event in trace.events if event.role is engine.Role.LLM]


def seconds_of(pair, trace: engine.Trace) -> list[float]:
    """When each token of a text is there, by the costs of its models."""
    ends = range(1, len(trace.events) + 1)
    return [modelled_seconds(trace.events[:end], pair.slm_cost, pair.llm_cost) for end in ends]


def test_the_three_texts_are_those_that_each_would_be_alone_compared_and_played_in_its_time(shown: Window, pair):
    compare(shown)
    written = traces(pair, pair.threshold)
    stand_there(shown, written)
    ids = {key: [event.id for event in trace.events] for key, trace in written.items()}
    for key, trace in written.items():  # the prompt is an example, whose answer is known
        said = "✓ right" if is_right(trace.text, ANSWER) else "✗ wrong"
        assert shown.inner(f'[data-column="{key}"] .compare-verdict') == said
    assert "% of the large model’s bytes" in shown.inner('[data-column="middle"] .compare-count')
    assert all(url.startswith((shown.url, "data:", "blob:")) for url in shown.requests)

    times = {key: seconds_of(pair, trace) for key, trace in written.items()}
    longest = max(column[-1] for column in times.values())
    for part in (0.5, 0.25, 0.0, 1.0):
        move(shown.page, ".compare-scrub", round(1000 * part))
        for key, column in times.items():
            expected = sum(value > part * longest + 1e-6 for value in column)
            assert abs(len(marked(shown, key, "later")) - expected) <= 1, "times travel in microseconds"
    shown.page.focus(".compare-scrub")
    shown.page.keyboard.press("Home")
    assert len(marked(shown, "llm", "later")) == len(ids["llm"])
    play = shown.page.locator(".compare-play")
    play.press("Enter")
    expect(play).to_have_text("Pause")
    expect(shown.page.locator(".compare .w.later")).to_have_count(0)
    expect(play).to_have_text("Play")
    film = shown.page.locator(".compare-film")
    if film.is_visible():  # a Chromium that records WebM
        with shown.page.expect_download() as coming:
            film.press("Enter")
        assert coming.value.path().read_bytes().startswith(b"\x1aE\xdf\xa3")


def test_the_playgrounds_setting_and_prompt_come_along_and_going_back_goes_back(shown: Window, pair):
    page = shown.page
    page.click('role=tab[name="Playground"]')
    page.fill("#prompt textarea", OTHER)
    shown.more()
    page.fill("#max-new-tokens input", "9")
    shown.slide("#threshold", 0.2)
    shown.slide("#acceptance", 0.6)
    page.click('role=tab[name="Compare"]')
    assert page.url.endswith("?tab=compare")
    expect(page.locator("#compare-prompt textarea")).to_have_value(OTHER)
    page.go_back()
    expect(page.locator("#prompt")).to_be_visible()
    page.go_forward()
    compare(shown, OTHER)
    asked = {"policy": "router", "threshold": 0.2, "acceptance": 0.6, "max_new_tokens": 9}
    assert "".join(words(shown, "middle")) == pair.generate(OTHER, **asked).text
    assert len(words(shown, "llm")) == 9


def test_stop_and_another_comparison_and_a_closed_tab_each_end_the_one_before(browser, site: Site, held):
    with window(browser, site) as shown:
        enter(shown)
        ask(shown)
        shown.page.wait_for_selector('[data-column="middle"] .w >> nth=3')
        expect(shown.page.locator(".compare-scrub"), "the axis still grows").to_be_disabled()
        shown.page.click("#compare-stop")
        shown.page.wait_for_selector('.compare-state[data-state="stopped"]')
        eventually(no_job)
        assert [len(words(shown, key)) for key in COLUMNS] == [4, 4, 4], "what was written stays"
        ask(shown)
        shown.page.wait_for_selector('.compare-state[data-state="running"]')
        jobs = [session.jobs.get("compare") for session in site.sessions._all()]
        (first,) = [job for job in jobs if job is not None and job.active]
        ask(shown, OTHER)
        eventually(first.finished.is_set)
        assert first.state == "stopped"
        shown.page.wait_for_selector(f'.compare-state[data-state="running"]:not([data-run="{first.number}"])')
        assert not no_job()
    eventually(no_job)


def test_hostile_text_stays_text_and_what_is_refused_leaves_it_marked_as_old(shown: Window, monkeypatch):
    tell = Text.tell
    hostile = {"text": f"{HOSTILE}\x1b"}
    monkeypatch.setattr(Text, "tell", lambda text, event=None: tell(text, event and replace(event, **hostile)))
    compare(shown, f"{PROMPT} {HOSTILE}")
    before, old = words(shown, "llm"), shown.page.locator(".compare-old")
    assert before[0] == f"{HOSTILE}␛"
    no_markup(shown.page, ".compare")
    expect(old).to_be_hidden()
    ask(shown, "Ben has $20. " * 2000)
    shown.page.wait_for_selector('.compare-state[data-state="failed"]')
    assert "prompt" in shown.inner(".compare-state") and words(shown, "llm") == before
    expect(old).to_be_visible()
    compare(shown, OTHER)
    expect(old).to_be_hidden()
