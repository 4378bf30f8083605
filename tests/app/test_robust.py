"""Whatever a person does, and when: no model thread is left running, no event is lost, nothing is mixed up."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.support.browser import Site, Window, eventually, window
from tests.support.fake_pair import FakePair


@pytest.fixture
def shown(site_window: Window, pair: FakePair):
    pair.tokens_per_second, pair.prefill_seconds = 60.0, 0.3
    site_window.open()
    yield site_window
    no_threads()
    assert site_window.errors == []


def no_threads() -> None:
    """Waits until no job runs in this process, but not until one that is not stopped has ended by itself."""
    eventually(lambda: not [t.name for t in threading.enumerate() if t.name.startswith("citer-run")], 15)


@contextmanager
def slowly(pair: FakePair) -> Iterator[None]:
    """A text that is not stopped would go on for long."""
    before, pair.tokens_per_second = pair.tokens_per_second, 2
    try:
        yield
    finally:
        pair.tokens_per_second = before


def all_there(shown: Window, site: Site) -> None:
    """Waits until the page shows exactly the events of its session's newest run."""
    number = eventually(lambda: shown.page.get_attribute(".stream-state", "data-run"))
    runs = [s.run for s in site.sessions._sessions.values() if s.run is not None]
    run = next((r for r in runs if str(r.number) == number), None) or runs[-1]
    eventually(lambda: run.finished.is_set())
    eventually(lambda: shown.tokens() == [event.text for event in run.events])


def phases(shown: Window):
    """Moments in the life of a run: just asked for, at its first token, in the middle."""
    yield "asked", lambda: None
    yield "first", lambda: shown.page.wait_for_selector(".t")
    yield "middle", lambda: shown.page.wait_for_selector(".t >> nth=15")


def test_moving_the_slider_in_every_phase_loses_nothing(shown: Window, site: Site):
    for n, (_, reach) in enumerate(phases(shown)):
        shown.ask(f"palindrome {n}")
        reach()
        for value in (0.1, 0.9, 0.4):
            shown.slide("#threshold", value)
        shown.wait_state("done", "stopped")
        all_there(shown, site)


def test_pressing_stop_twice_in_every_phase_keeps_what_is_there(shown: Window, site: Site, pair: FakePair):
    for n, (_, reach) in enumerate(phases(shown)):
        shown.ask(f"palindrome {n}")
        reach()
        with slowly(pair):
            for _ in range(2):
                shown.page.evaluate("document.querySelector('#stop').click()")
            shown.page.click("#stop", force=True, no_wait_after=True)
            no_threads()
    all_there(shown, site)


def test_a_second_run_in_every_phase_of_the_first_is_the_one_that_is_shown(shown: Window, site: Site):
    for _, reach in phases(shown):
        shown.ask("a palindrome")
        reach()
        text = shown.write("echo the second one")
        assert text == "the second one"
    no_threads()


def test_switching_tabs_while_a_text_is_written_loses_nothing(shown: Window, site: Site):
    shown.ask("a palindrome")
    shown.page.wait_for_selector(".t")
    for name in ("Compare", "How it works", "Playground"):
        shown.page.click(f'role=tab[name="{name}"]')
        shown.page.wait_for_timeout(150)
    shown.wait_state("done")
    all_there(shown, site)


def test_reloading_in_every_phase_stops_the_models(shown: Window, site: Site, pair: FakePair):
    for _, reach in phases(shown):
        shown.ask("a palindrome")
        reach()
        with slowly(pair):
            shown.open()
            no_threads()


def test_closing_the_window_in_every_phase_stops_the_models(browser, site: Site, pair: FakePair):
    for n in range(3):
        with window(browser, site) as other:
            other.ask("a palindrome")
            list(phases(other))[n][1]()
        no_threads()
    eventually(lambda: pair.open_streams == 0)


def test_moving_the_slider_while_a_text_is_written_anew_ends_with_the_last_position(shown: Window, site: Site):
    shown.write("a palindrome", seconds=30)
    for value in (0.9, 0.2, 0.8, 0.3, 0.7):
        shown.slide("#threshold", value)
        shown.page.wait_for_timeout(60)
    session = [s for s in site.sessions._sessions.values() if s.run is not None][-1]
    eventually(lambda: session.run.request.threshold == 0.7 and session.run.state == "done", 20)
    all_there(shown, site)
    assert all(event.threshold == 0.7 for event in session.run.events)


def test_a_button_takes_no_click_before_its_script_is_there(shown: Window):
    held = []
    shown.page.route("**/citer/page/**", lambda route: held.append(route))
    shown.open()
    with pytest.raises(Exception, match="Timeout"):
        shown.page.click(".theme-toggle", timeout=500)
    for route in held:
        route.continue_()
    shown.page.unroute("**/citer/page/**")
    dark = shown.page.evaluate("document.body.classList.contains('dark')")
    shown.page.click(".theme-toggle")
    assert shown.page.evaluate("document.body.classList.contains('dark')") is not dark
