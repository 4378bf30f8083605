"""Visitors of `tools/soak`: texts end whole or are refused in words, and equal requests give equal texts."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import Any, cast

import httpx

from tests.support.browser import Site, Window, chromium, drag, window
from tools.soak.page import LONGEST, Asked, BareWindow, Lost, Refused, Served
from tools.soak.tally import Tally

PROMPTS = [
    "Mia has 12 shells. Mia finds 7 more. A friend brings 5. How many shells are there now?",
    "Ben has $20. Ben earns $15. Ben spends $9. How much money is it now?",
    "Start with 12. Add 30. What is the result?",
    "A city has 14,000 people. In a year 9,000 come. Then 5,000 go away. How many people are there now?",
]
THRESHOLDS = (0.0, 0.3, 0.8, 1.01)  # not the page's first, which the router's own replaces
ACCEPTANCES = (0.0, 0.5, 1.0)
_PATIENCE = 90  # seconds for a page to load or a button to act, on cores that all clients share
_AGAIN = 0.5  # seconds after which who was refused asks again
READING = 4.0
"""Seconds, at most, for which somebody reads a text before they do the next thing."""
# Each script also ends where the page says that the server has refused.
_FIRST = """asked => document.querySelector('.refused:not([hidden])') || (
  Number(document.querySelector('.stream-state').dataset.run) >= asked && document.querySelector('.t'))"""
_OVER = """asked => document.querySelector('.refused:not([hidden])') || (
  Number(document.querySelector('.stream-state').dataset.run) >= asked
  && ['done', 'stopped', 'failed'].includes(document.querySelector('.stream-state').dataset.state))"""

# The text is done, and no token is outlined or dimmed because of the dials.
_SETTLED = """() => document.querySelector('.refused:not([hidden])') || (
  document.querySelector('.stream-state').dataset.state === 'done'
  && document.querySelector('.t') && !document.querySelector('.t.flip, .t.stale'))"""


class Texts:
    """The first text of each request. With the tiny pair it depends on the request alone: later ones must equal it."""

    def __init__(self, equal: bool = True) -> None:
        self._known: dict[Asked, str] = {}
        self._equal = equal  # else near ties in 4 or 8 bits fall either way, as others are in the batch
        self._lock = threading.Lock()

    def check(self, asked: Asked, text: str) -> None:
        """Raises Lost if the request gave another text before."""
        with self._lock:
            first = self._known.setdefault(asked, text)
        if text != first and self._equal:
            raise Lost(f"a text is not whole: {text[:60]!r} in place of {first[:60]!r}")


class Visitor:
    """Comes again and again until the time is over."""

    def __init__(self, served: Served, tally: Tally, texts: Texts, marker: str, number: int, seed: int) -> None:
        self.served, self.tally, self.texts, self.marker = served, tally, texts, marker
        self.random = random.Random(f"visitor {seed} {number}")
        self.address = f"198.51.100.{number % 250 + 1}"
        self._refused_since: float | None = None

    def asked(self) -> Asked:
        """Something that the tiny pair can answer, and the marker, which must not reach the log."""
        prompt, threshold = self.random.choice(PROMPTS), self.random.choice(THRESHOLDS)
        return Asked(f"{prompt} ({self.marker})", threshold, self.random.choice(ACCEPTANCES), 48)

    def stay(self, until: float) -> None:
        """Visits until the clock (`time.monotonic`) says so, with pauses in which a text would be read."""
        self.visit()
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(left, _AGAIN) if self._refused_since else self.random.uniform(0, min(READING, left)))
            self.visit()
        self._note_refusals()

    def visit(self) -> None:
        """Comes, asks, and goes."""
        raise NotImplementedError

    def attempt(self, what: str, act: Callable[[], None]) -> bool:
        """Counts how something went; whether it held."""
        try:
            act()
        except Refused as reason:
            self._refused_since = self._refused_since or time.monotonic()
            self.tally.refused(what, str(reason))
        except (Lost, httpx.HTTPError) as error:
            self.tally.lost(what, f"{type(error).__name__}: {error}" if not isinstance(error, Lost) else str(error))
        else:
            if what.startswith("text"):
                self._note_refusals()
            self.tally.held(what)
            return True
        return False

    def _note_refusals(self) -> None:
        """How long it was refused on end, until now."""
        if self._refused_since is not None:
            self.tally.time("refused on end", time.monotonic() - self._refused_since)
        self._refused_since = None


class FeedVisitor(Visitor):
    """A window without a browser: some texts, a dial that is moved, a stop, a tab that is closed in mid-text."""

    def visit(self) -> None:
        with self.served.client(self.address) as client:
            opened: list[BareWindow] = []
            session = "".join(self.random.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=11))
            if not self.attempt("windows opened", lambda: opened.append(BareWindow(self.served, client, session))):
                return
            shown, asked = opened[0], self.asked()
            if self.attempt("texts by the feed", lambda: self._write(shown, asked)):
                for _ in range(self.random.randint(0, 2)):
                    time.sleep(self.random.uniform(0, READING))
                    if not self.attempt("dials moved after a text", lambda: self._turn(shown, asked)):
                        break
            match self.random.choice(["stop", "close", "stay"]):
                case "stop":
                    self.attempt("texts stopped", lambda: self._stop(shown))
                case "close":
                    self.attempt("tabs closed in mid-text", lambda: self._leave(shown))
            shown.close()

    def _write(self, shown: BareWindow, asked: Asked) -> None:
        self.tally.time("first token, by the feed", shown.write(asked))
        self.texts.check(asked, "".join(shown.tokens))

    def _turn(self, shown: BareWindow, asked: Asked) -> None:
        threshold, acceptance = self.random.choice(THRESHOLDS), self.random.choice(ACCEPTANCES)
        shown.post("set_dials", [threshold, acceptance, "router"])
        shown.follow()
        shown.check_end("done")
        wanted = Asked(asked.prompt, threshold, acceptance, asked.tokens)
        self.texts.check(wanted, "".join(shown.tokens))

    def _stop(self, shown: BareWindow) -> None:
        before = shown.number
        shown.post("write", self.asked().fields(self.served))
        begun = shown.follow(lambda: shown.number > before)
        shown.post("stop")
        pressed = time.perf_counter()
        if begun:
            over = shown.follow(lambda: shown.ended(before))
            self.tally.time("from Stop to its end", time.perf_counter() - pressed)
            if not over:
                raise Lost("a stopped text did not end")
            shown.check_end("done", "stopped")

    def _leave(self, shown: BareWindow) -> None:
        before = shown.number
        shown.post("write", self.asked().fields(self.served))
        shown.follow(lambda: shown.number > before and shown.first is not None)


class BrowserVisitor(Visitor):
    """Chromium: generates, drags the threshold, stops, closes the tab, and comes back."""

    def stay(self, until: float) -> None:
        with chromium() as self.browser:
            super().stay(until)

    def visit(self) -> None:
        site = Site(self.served.url, cast(Any, None), None)
        forwarded = {"X-Forwarded-For": self.address}
        self.attempt("visits with a browser", lambda: self._visit(site, forwarded))

    def _visit(self, site: Site, forwarded: dict[str, str]) -> None:
        try:
            with window(self.browser, site, seconds=_PATIENCE, extra_http_headers=forwarded) as shown:
                shown.page.wait_for_function("document.querySelector('#models')?.textContent.includes('⇄')")
                if self.attempt("texts in a browser", lambda: self._complaints(shown, lambda: self._write(shown))):
                    self.attempt("threshold dragged", lambda: self._complaints(shown, lambda: self._drag(shown)))
                self.attempt("texts stopped in a browser", lambda: self._complaints(shown, lambda: self._stop(shown)))
                shown.ask(self.asked().prompt)  # and the tab is closed
        except Exception as error:  # Playwright's own
            if type(error).__module__.startswith("playwright"):
                raise Lost(f"a browser waited in vain: {str(error).splitlines()[0][:120]}") from None
            raise

    def _complaints(self, shown: Window, act: Callable[[], None]) -> None:
        shown.errors.clear()
        try:
            act()
        except Exception as error:
            if type(error).__module__.startswith("playwright"):
                age = time.time() - int(shown.page.get_attribute(".stream-state", "data-run") or 0) / 1000
                dials = [shown.page.input_value(f"{each} input[type=number]") for each in ("#threshold", "#acceptance")]
                said = f"{str(error).splitlines()[0][:80]} {shown.inner('.stream-state')[:80]}, begun {age:.0f} s ago"
                said += f", dials {dials}, {len(shown.marked('flip'))} outlined"
                raise Lost(f"a browser waited in vain: {said}") from None
            raise
        # The console reports a refused feed; the page then asks gradio instead.
        complaints = [each for each in shown.errors if not each.startswith("Failed to load resource")]
        if complaints:
            raise Lost(f"the browser complains: {complaints[0][:120]}")

    def _wait(self, shown: Window, script: str, asked: int) -> None:
        shown.page.wait_for_function(script, arg=asked, polling=20, timeout=1000 * LONGEST)
        refused = shown.page.query_selector(".refused:not([hidden]) p")
        if refused is not None:
            said = " ".join(refused.text_content().split())
            shown.open()
            raise Refused(said) if " " in said else Lost("refused without a reason")

    def _write(self, shown: Window) -> None:
        began, asked = time.perf_counter(), int(1000 * time.time())
        shown.ask(self.asked().prompt)
        self._wait(shown, _FIRST, asked)
        self.tally.time("first token, in a browser", time.perf_counter() - began)
        self._wait(shown, _OVER, asked)
        self._whole(shown)

    def _drag(self, shown: Window) -> None:
        drag(shown.page, "#balance", 0.5, 0.9, self.random.choice([0.1, 0.6, 1.0]))
        self._wait(shown, _SETTLED, 0)

    def _whole(self, shown: Window) -> None:
        state, tokens = shown.page.get_attribute(".stream-state", "data-state"), len(shown.tokens())
        if state != "done" or not tokens:
            raise Lost(f"a text in a browser is {state}, of {tokens} tokens: {shown.inner('.stream-state')[:120]}")

    def _stop(self, shown: Window) -> None:
        asked = int(1000 * time.time())
        shown.ask(self.asked().prompt)
        self._wait(shown, _FIRST, asked)
        if shown.page.is_enabled("#stop"):
            shown.page.click("#stop", timeout=1000, no_wait_after=True)
        self._wait(shown, _OVER, asked)
