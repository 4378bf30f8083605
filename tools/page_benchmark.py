"""How fast the page is, as `make bench-page`: prints a table; judges nothing.

Server, models and Chromium share the machine, as they do for a visitor on a laptop. The random pair writes texts of any
length, so that sizes are what the rows say; `--preset cpu` measures what is relative to a decode step with real models.
"""

from __future__ import annotations

import argparse
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from app.recorded import load_recorded
from app.running.run import Run
from engine import Decoding, Request, build_request, load_settings
from engine.batch.text import Text
from engine.pair import Pair, load
from engine.provenance import provenance
from tests.support.browser import AS_A_PERSON, Site, Window, chromium, paused, serve, window

TOKENS = 120
PROMPT = "Write a Python function that checks whether a string is a palindrome."
_RANGE = "#threshold input[type=range]"
# Milliseconds from an input event of the slider to the frame after everything that follows from it in the browser.
_TURN = """async value => {
  const range = document.querySelector('#threshold input[type=range]');
  const started = performance.now();
  range.value = value;
  range.dispatchEvent(new Event('input', { bubbles: true }));
  await new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
  return performance.now() - started;
}"""
_LONG_TASKS = """() => { window.tasks = []; new PerformanceObserver(list =>
  window.tasks.push(...list.getEntries().map(task => task.duration))).observe({ entryTypes: ['longtask'] }); }"""
# Whether no decision flips between the thresholds at which the text changes next.
_SAME = """value => { const [down, up] = ['-1', '1'].map(way => document.querySelector(`[data-change="${way}"]`).value);
  return !(down !== '' && value <= Number(down)) && !(up !== '' && value >= Number(up)); }"""
# Milliseconds from letting the slider go to the first token that was not there before.
_FIRST_NEW = """async value => {
  const box = document.querySelector('.stream-text'), range = document.querySelector('#threshold input[type=range]');
  const before = new Set(box.children);
  const first = new Promise(done => new MutationObserver((_, observer) => {
    if (![...box.children].some(node => !before.has(node))) return;
    observer.disconnect();
    done(performance.now());
  }).observe(box, { childList: true }));
  const started = performance.now();
  range.value = value;
  for (const type of ['input', 'pointerup']) range.dispatchEvent(new Event(type, { bubbles: true }));
  return await first - started;
}"""


def turns(shown: Window, values: list[float]) -> float:
    """Median milliseconds of the slider's moves."""
    return statistics.median(shown.page.evaluate(_TURN, value) for value in values)


def sized(shown: Window, tokens: int, prompt: str = "palindrome ") -> None:
    """Writes a text of so many tokens at threshold 0.5."""
    shown.page.click("text=Sampling and prompt format")
    shown.page.fill("#max-new-tokens input", str(tokens))
    shown.write(prompt, seconds=600)


def size_rows(browser) -> list[tuple[str, str]]:
    """What depends on how much is on the page."""
    from tests.support.random_pair import byte_tokenizer, random_model

    slm, llm = random_model(1, layers=2, width=32, padding=5), random_model(2, layers=3, width=48, padding=69)
    pair = Pair(slm, llm, byte_tokenizer(), slm_name="small", llm_name="large", context=4096)
    found = []
    with serve(lambda preset, progress: pair, settings=load_settings(setting="confidence")) as site:
        with window(browser, site) as shown:
            shown.page.evaluate(_LONG_TASKS)
            sized(shown, 2000)
            tasks = shown.page.evaluate("window.tasks")
            found.append(
                ("longest task while 2,000 tokens arrive", f"{max(tasks, default=0):.0f} ms, {len(tasks)} over 50 ms")
            )
        with window(browser, site) as shown:
            sized(shown, 1000)
            with paused(site.host):  # so that only the browser answers
                found.append(("preview at 1,000 tokens", f"{turns(shown, [0.004, 0.006, 0.003, 0.007, 0.005]):.0f} ms"))
    return found


class Clocked:
    """Notes when each token of a pair came, so that runs with and without a page are timed alike."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.times: list[float] = []
        self._last: Request | None = None  # of the text whose times these are
        self._open, pair.open = pair.open, self._clocked

    def _clocked(self, most: int | None = None, remember: bool = False) -> Decoding:
        decoding = self._open(most, remember)
        step = decoding.step

        def clocked(*args: Any) -> list[Text]:
            texts = step(*args)
            if any(text.request is not self._last for text in texts):
                self.times = []
            for text in texts:
                self._last = text.request
                self.times.append(time.perf_counter())
            return texts

        decoding.step = clocked  # type: ignore[method-assign]
        return decoding

    @property
    def step(self) -> float:
        """Seconds per token of the newest text; the first, which pays for the prompt, is left out."""
        return (self.times[-1] - self.times[0]) / (len(self.times) - 1)


def step_rows(preset: str, rounds: int) -> list[tuple[str, str]]:
    """What is relative to a decode step of real models.

    Round by round the same text is written without a browser, then in turn beside an open page that does nothing and on
    the page; always by a run in a thread of its own, because each thread that calls torch brings OpenMP workers.
    """
    alone, beside, shown_on, ratios = [], [], [], []
    with cpu_site(preset) as (site, clock, write):
        for _ in range(rounds):
            alone += [write(), write()]
            with chromium() as browser, window(browser, site) as shown:
                settle(shown, clock)
                for _ in range(3):
                    beside.append(write())
                    write_on(shown, site)
                    shown_on.append(clock.step)
                    ratios.append(shown_on[-1] / beside[-1])
                    shown.page.wait_for_timeout(500)
    step = statistics.median(alone)
    low, _, high = statistics.quantiles(ratios, n=4)
    return [
        ("a decode step, no browser", f"{1000 * step:.1f} ms"),
        ("time per token beside an idle page / no browser", f"{statistics.median(beside) / step:.3f}"),
        ("time per token with the page / no browser", f"{statistics.median(shown_on) / step:.3f}"),
        (
            "time per token with the page / beside an idle page, pair by pair",
            f"{statistics.median(ratios):.3f} (quartiles {low:.3f} and {high:.3f} of {len(ratios)})",
        ),
    ]


@contextmanager
def cpu_site(preset: str) -> Iterator[tuple[Site, Clocked, Callable[[], float]]]:
    """A served page, its clock, and what writes the text that the page writes without one; warmed up."""
    pair = load(preset)
    clock = Clocked(pair)
    asked = build_request(PROMPT, threshold=pair.threshold, max_new_tokens=TOKENS, alternatives=5)
    settings, recorded = load_settings(max_new_tokens=TOKENS), load_recorded()
    with serve(lambda preset, progress: pair, settings=settings, recorded=recorded) as site:
        site.host.wait(threading.Event())

        def write() -> float:
            # A request of its own, or the clock would take it for more of the text before.
            assert Run(replace(asked)).start(site.host).finished.wait(300)
            return clock.step

        write()
        yield site, clock, write


def write_on(shown: Window, site: Site) -> None:
    """Writes the text on the page, and waits for it on the server: Playwright waits in the page, 60 times a second."""

    def newest() -> Run | None:
        return next((session.run for session in site.sessions._sessions.values() if session.run), None)

    last = newest()
    shown.ask(PROMPT)
    while (run := newest()) is None or run is last:
        time.sleep(0.05)
    assert run.finished.wait(300)
    shown.wait_state("done")


def settle(shown: Window, clock: Clocked) -> None:
    """Waits until the page, as a person opens it, has the router's threshold and has come to rest."""
    shown.page.add_init_script(AS_A_PERSON)
    shown.open()
    shown.page.wait_for_function(f"document.querySelector('{_RANGE}').value == {clock.pair.threshold}")
    shown.page.wait_for_timeout(8000)  # gradio's loading sign swings for the first five seconds


def wait_rows(preset: str) -> list[tuple[str, str]]:
    """How long a person waits for the first new token."""
    with cpu_site(preset) as (site, clock, write), chromium() as browser, window(browser, site) as shown:
        settle(shown, clock)
        step = statistics.median([write() for _ in range(3)])
        shown.write(PROMPT, seconds=300)
        return [
            ("a decode step, beside an idle page", f"{1000 * step:.1f} ms"),
            ("first new token after letting go, in decode steps", "; ".join(first_new(shown, clock, site, step))),
        ]


def first_new(shown: Window, clock: Clocked, site: Site, step: float) -> list[str]:
    """Decode steps until the first new token after some moves, and what of that its own step took in the engine."""
    found = []
    for value in (0.5, 0.99, 0.3, 0.97, 0.9, 0.999):
        shown.wait_state("done", seconds=300)
        shown.page.wait_for_timeout(500)
        if shown.page.evaluate(_SAME, value):
            continue
        times = clock.times
        wait = shown.page.evaluate(_FIRST_NEW, value) / (1000 * step)
        shown.wait_state("done", seconds=300)
        shown.page.wait_for_timeout(300)
        if clock.times is times:  # a kept text has come back
            continue
        run = next(s.run for s in site.sessions._sessions.values() if s.run)
        first = run.events[len(run.events) - len(clock.times)]
        found.append(f"{wait:.1f} (engine {first.seconds / step:.1f}, LLM read {first.llm_fed})")
    return found


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="tiny", help="pair for what is relative to a decode step")
    parser.add_argument("--rounds", type=int, default=3, help="of what is relative to a decode step")
    parser.add_argument("--part", choices=("sizes", "steps", "waits"), nargs="*", default=["sizes", "steps", "waits"])
    options = parser.parse_args()
    rows = step_rows(options.preset, options.rounds) if "steps" in options.part else []
    rows += wait_rows(options.preset) if "waits" in options.part else []
    if "sizes" in options.part:
        with chromium() as browser:
            rows += size_rows(browser)
    about = provenance("tools.page_benchmark")
    print(f"Preset {options.preset}, revision {about['revision']}, {about['hardware']}\n")
    print("| what | measured |\n|---|---|")
    for name, value in rows:
        print(f"| {name} | {value} |")


if __name__ == "__main__":
    main()
