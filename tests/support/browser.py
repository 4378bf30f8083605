"""What the browser tests share: a page served from this process, and the Chromium found on PATH to look at it."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import pytest

from app.entrance.launch import application
from app.page import build
from app.recorded import Recorded
from app.running.host import Host
from app.running.session import Session
from app.stream.updates import TextUpdates
from engine import Settings, load_settings
from tests.support.served_endpoint import eventually, running

BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser")
"""By preference: the first takes three quarters of the time."""
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-sync"]
LIMIT = 90
"""Seconds that only a real fault reaches, on the busiest machine, too."""


@dataclass
class Site:
    """A served page, and what stands behind it."""

    url: str
    host: Host
    sessions: Any
    page: Any = None


@contextmanager
def serve(
    load: Callable[..., Any],
    preset: str | None = None,
    settings: Settings | None = None,
    recorded: Recorded | None = None,
) -> Iterator[Site]:
    """Serves the page on a free port; `load(preset, progress=…)` gives the pair. Without `recorded` it starts empty."""
    settings = settings or load_settings(max_new_tokens=60)
    host = Host(load, preset, settings.rows)
    demo = build(host, settings, recorded)
    try:
        with running(application(demo, settings)) as port, closing(demo):
            yield Site(f"http://127.0.0.1:{port}/", host, demo.sessions, demo)
    finally:
        host.close()


@contextmanager
def chromium() -> Iterator[Any]:
    """A headless browser; skips the test where there is none."""
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip("no chromium on PATH (Debian: apt-get install chromium-headless-shell)")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Window:
    """A browser window on the page, and what it asked for and complained about."""

    page: Any
    url: str
    requests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Listens to the page."""
        self.page.on("request", lambda request: self.requests.append(request.url))
        # Gradio's own requests end with an AbortError where the page is left while they are on their way.
        self.page.on("pageerror", lambda error: "AbortError" in str(error) or self.errors.append(str(error)))
        self.page.on("console", lambda message: message.type == "error" and self._complain(message.text))

    def _complain(self, text: str) -> None:
        if "status of 422" not in text:  # what the server refuses is told by the page, too
            self.errors.append(text)

    def open(self) -> None:
        """Opens the page as somebody who was never here, and waits until it can be used."""
        if self.page.url.startswith(self.url):
            self.page.goto(self.url + "v1/models")  # has the page's storage, and no script that writes to it again
            self.page.evaluate("localStorage.clear()")
        self.reopen()

    def reopen(self) -> None:
        """Closes the page and opens it."""
        self.page.goto("about:blank")  # what a page that is left says of its open requests is not the next one's
        self.requests.clear()
        self.errors.clear()
        self.page.goto(self.url)
        self.page.wait_for_selector("#generate", state="attached")  # hidden where a text from before goes on
        self.page.wait_for_selector(".stream-state")

    def reload(self) -> None:
        """Loads the page again in the same window. How open requests of the page that is left end is no error."""
        self.page.reload(wait_until="commit")
        self.errors.clear()
        self.page.wait_for_load_state()

    def ask(self, prompt: str) -> None:
        """Writes a prompt and presses Generate, or Enter where Stop stands in its place."""
        self.page.fill("#prompt textarea", prompt)
        if self.page.locator("#generate").is_visible():
            self.page.click("#generate")
        else:
            self.page.press("#prompt textarea", "Enter")

    def wait_state(self, state: str, seconds: float = LIMIT) -> None:
        """Waits for the line above the text to show a state."""
        self.page.wait_for_selector(f'.stream-state[data-state="{state}"]', timeout=1000 * seconds)

    def wait_tokens(self, count: int) -> None:
        """Waits until the text has so many tokens, seen or not: a line break has no width."""
        self.page.wait_for_selector(f".t >> nth={count - 1}", state="attached")

    def write(self, prompt: str, seconds: float = LIMIT) -> str:
        """Asks, waits for the end, and returns the text."""
        asked = int(1000 * time.time())  # runs are numbered by when they began: the end of an earlier one will not do
        self.ask(prompt)
        self.page.wait_for_function(_WRITTEN, arg=asked, polling=50, timeout=1000 * seconds)
        return self.text()

    def text(self) -> str:
        """The generated text as it stands there, without the end chip."""
        return "".join(self.tokens())

    def tokens(self, kind: str = "") -> list[str]:
        """The texts of the tokens, of one author (".slm", ".llm") or all."""
        return self.page.eval_on_selector_all(f".t{kind}:not(.end)", _TEXTS)

    def authors(self) -> list[str]:
        """Who wrote each token, the end included: "slm" or "llm"."""
        return [author for _, author in self.page.eval_on_selector_all(".t", _WRITTEN_BY)]

    def shows(self, events: Iterable[Any]) -> None:
        """Waits until the page has the text of some events, each token in the colour of its author."""
        wanted = [[event.text, event.role.value] for event in events]
        eventually(lambda: self.page.eval_on_selector_all(".t", _WRITTEN_BY) == wanted)

    def marked(self, kind: str) -> list[int]:
        """The numbers of the tokens of a class, as "flip"."""
        return self.page.eval_on_selector_all(f".t.{kind}", "nodes => nodes.map(node => Number(node.dataset.i))")

    def inner(self, selector: str) -> str:
        """What a reader sees of a part, with plain spaces."""
        return " ".join(self.page.locator(selector).first.inner_text().split())

    def more(self) -> None:
        """Unfolds the other settings."""
        if self.page.get_attribute(".more-open", "aria-expanded") == "false":
            self.page.click(".more-open")

    def slide(self, selector: str, value: float) -> None:
        """Moves a slider and lets it go, as a hand does: the browser's own events on the range."""
        move(self.page, f"{selector} input[type=range]", value)


def along(page: Any, place: float, track: str = "#balance") -> tuple[float, float]:
    """Where a thumb's middle stands on a track, from 0 to 1, for the mouse."""
    box, thumb = page.locator(track).bounding_box(), 20 if track.startswith("#balance") else 14
    return box["x"] + thumb / 2 + place * (box["width"] - thumb), box["y"] + box["height"] / 2


def drag(page: Any, track: str, *places: float) -> None:
    """Presses the mouse at the first place of a track, pulls it along the others, and lets it go at the last."""
    page.mouse.move(*along(page, places[0], track))
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*along(page, place, track), steps=4)
    page.mouse.up()


def newest(site: Site) -> Any:
    """The run that was begun last, of all sessions."""
    return max(
        filter(None, (session.run for session in site.sessions._all())), key=lambda run: run.number, default=None
    )


def told(run: Any) -> dict[str, Any]:
    """What a window that has nothing yet is told of a run that has ended."""
    session = Session()
    session.show(run)
    return json.loads(next(TextUpdates(session, -1).due()))


def move(page: Any, selector: str, value: float) -> None:
    """Sets a range and lets it go as a hand does, with the browser's own events."""
    script = """(node, value) => { node.value = value;
      for (const type of ['input', 'pointerup']) node.dispatchEvent(new Event(type, { bubbles: true })); }"""
    page.locator(selector).first.evaluate(script, value)


_TWO_FRAMES = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"

_TEXT = "[...node.childNodes].filter(n => n.nodeName !== 'DEL').map(n => n.data).join('')"
_TEXTS = f"nodes => nodes.map(node => {_TEXT})"
"""What tokens say, without what was taken back before them."""

_WRITTEN_BY = f"nodes => nodes.map(node => [{_TEXT}, node.classList.contains('llm') ? 'llm' : 'slm'])"

_WRITTEN = """(asked) => {
  const { state, run } = document.querySelector('.stream-state').dataset;
  return state === 'done' && Number(run) >= asked;
}"""


@contextmanager
def window(
    browser: Any, site: Site, width: int = 1280, height: int = 900, seconds: int = LIMIT, **options: Any
) -> Iterator[Window]:
    """Opens the page in a window with cookies and storage of its own; it awaits anything for so many `seconds`."""
    context, spare = _context(browser, {"viewport": {"width": width, "height": height}, **options})
    page = context.new_page()
    page.set_default_timeout(1000 * seconds)
    shown = Window(page, site.url)
    try:
        shown.open()
        yield shown
        _clear(page, site.url)
        spare.append(context)
    except BaseException:
        context.close()
        raise


_spare: WeakKeyDictionary[Any, dict[str, list[Any]]] = WeakKeyDictionary()
"""Contexts that nobody uses, by browser and options: gradio's scripts are still in their cache, and compiled."""


def _context(browser: Any, options: dict[str, Any]) -> tuple[Any, list[Any]]:
    """A context as empty as a new one but for its cache, and where it is kept for the next who asks for such a one."""
    spare = _spare.setdefault(browser, {}).setdefault(repr(options), [])
    if spare:
        context = spare.pop()
        if "permissions" in options:
            context.grant_permissions(options["permissions"])
        return context, spare
    context = browser.new_context(**options)
    return context, spare


def _clear(page: Any, url: str) -> None:
    """Empties what a site has stored in a page's context, and closes its pages."""
    page.context.unroute_all()
    page.context.set_offline(False)
    page.context.clear_permissions()
    stores = "cookies,local_storage,indexeddb,service_workers,cache_storage"
    session = page.context.new_cdp_session(page)
    session.send("Storage.clearDataForOrigin", {"origin": url.rstrip("/"), "storageTypes": stores})
    for each in page.context.pages:
        each.close()


@contextmanager
def paused(host: Host) -> Iterator[None]:
    """The scheduler stands still before its next step, so that nothing is written and nothing ends."""
    go_on, scheduler = threading.Event(), host.scheduler
    arrange = scheduler._arrange
    scheduler._arrange = lambda: go_on.wait(60) and arrange()
    try:
        yield
    finally:
        scheduler._arrange = arrange
        go_on.set()


def calls_of(site: Site, name: str) -> set[int]:
    """By which numbers gradio calls a function of the page, in the bodies of requests."""
    return {number for number, each in site.page.fns.items() if each.fn and each.name == name}


def expect(found: Any, message: str | None = None) -> Any:
    """Playwright's `expect`, whose assertions wait. Imported late: without Playwright these tests are skipped."""
    from playwright.sync_api import expect

    expect.set_options(timeout=1000 * LIMIT)
    return expect(found, message)


def schemes(page: Any) -> Iterator[str]:
    """Shows an open page in the other scheme and then in its own again; yields "dark" or "light", as it stands."""
    is_dark = "document.body.classList.contains('dark')"
    for _ in range(2):
        dark = not page.evaluate(is_dark)
        page.emulate_media(color_scheme="dark" if dark else "light")
        page.wait_for_function(f"(dark) => {is_dark} === dark", arg=dark)
        page.evaluate("document.getAnimations().filter(one => one instanceof CSSTransition).map(one => one.finish())")
        yield "dark" if dark else "light"


def sizes(page: Any, *wanted: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """Gives an open page one width and height after the other, and time to follow."""
    for width, height in wanted:
        page.set_viewport_size({"width": width, "height": height})
        page.evaluate(_TWO_FRAMES)
        yield width, height


def check_contrast(page: Any, *selectors: str) -> None:
    """Fails where a text has too little contrast (WCAG 2.1, level AA), in light or dark."""
    for scheme in schemes(page):
        for selector in selectors:
            assert contrast(page, selector) >= 4.5, (selector, scheme)


def contrast(page: Any, selector: str) -> float:
    """A text's colour against the ground it stands on: a ratio from 1 to 21 (WCAG 2.1, 1.4.3), once it is there."""
    return page.locator(selector).first.evaluate(_CONTRAST)


_CONTRAST = """(node) => {
  const parse = (text) => { const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number); return [r, g, b, a]; };
  const over = (under, top) => [0, 1, 2].map(i => top[i] * top[3] + under[i] * (1 - top[3]));
  const linear = (v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const light = (rgb) => [0.2126, 0.7152, 0.0722].reduce((sum, part, i) => sum + part * linear(rgb[i] / 255), 0.05);
  const layers = [];
  for (let at = node; at; at = at.parentElement) layers.unshift(parse(getComputedStyle(at).backgroundColor));
  const ground = layers.reduce(over, [255, 255, 255]), ink = over(ground, parse(getComputedStyle(node).color));
  const [low, high] = [light(ground), light(ink)].sort((a, b) => a - b);
  return high / low;
}"""
