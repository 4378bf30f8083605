"""How fast the page is, as `make bench-page`: prints a table; judges nothing.

Server, models and Chromium share the machine, as they do for a visitor on a laptop. The random pair writes texts of any
length, so that sizes are what the rows say; `--preset cpu` measures what is relative to a decode step with real models.
"""

from __future__ import annotations

import argparse
import statistics
import threading
import time

from browser import Window, chromium, eventually, serve, window

from engine import Request, load_settings
from engine.pair import Pair, load
from trainer.provenance import provenance

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
# Milliseconds from an input event to the first token that was not there before.
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
  range.dispatchEvent(new Event('input', { bubbles: true }));
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
    from random_pair import byte_tokenizer, random_model

    slm, llm = random_model(1, layers=2, width=32, padding=5), random_model(2, layers=3, width=48, padding=69)
    pair = Pair(slm, llm, byte_tokenizer(), slm_name="small", llm_name="large", context=4096)
    found = []
    with serve(lambda preset, progress: pair, settings=load_settings(policy="confidence")) as site:
        with window(browser, site) as shown:
            shown.page.evaluate(_LONG_TASKS)
            sized(shown, 2000)
            tasks = shown.page.evaluate("window.tasks")
            found.append(
                ("longest task while 2,000 tokens arrive", f"{max(tasks, default=0):.0f} ms, {len(tasks)} over 50 ms")
            )
        with window(browser, site) as shown:
            sized(shown, 1000)
            with site.host.turn("held", threading.Event()):  # so that only the browser answers
                found.append(("preview at 1,000 tokens", f"{turns(shown, [0.004, 0.006, 0.003, 0.007, 0.005]):.0f} ms"))
        with window(browser, site) as shown:
            shown.page.click("text=Sampling and prompt format")
            shown.page.fill("#max-new-tokens input", "1000")
            shown.page.fill("#prompt textarea", "palindrome ")
            shown.page.click(".sweep-go")
            shown.page.wait_for_selector('#sweep [data-state="done"], #sweep[data-state="done"]', timeout=600_000)
            found.append(
                ("another text of a finished sweep, 1,000 tokens", f"{turns(shown, [0, 1.01, 0.3, 0.9, 0]):.0f} ms")
            )
    return found


def step_rows(browser, preset: str) -> list[tuple[str, str]]:
    """What is relative to a decode step of real models."""
    pair = load(preset)
    prompt = "Write a Python function that checks whether a string is a palindrome."
    request = Request(prompt, pair.threshold, max_new_tokens=100, alternatives=5)
    found, alone, shown_speed = [], [], []
    settings = load_settings(max_new_tokens=100)
    with serve(lambda preset, progress: pair, settings=settings) as site, window(browser, site) as shown:
        eventually(lambda: shown.page.locator(".models").text_content(), 30)
        for _ in range(3):
            started = time.perf_counter()
            steps = len(list(pair.stream(request)))
            alone.append((time.perf_counter() - started) / steps)
            shown.write(prompt, seconds=300)
            run = next(s.run for s in site.sessions._sessions.values() if s.run)
            shown_speed.append(sum(e.seconds for e in run.events) / len(run.events))
        step = statistics.median(shown_speed)
        found.append(("engine's time per token, with page / alone", f"{step / statistics.median(alone):.2f}"))
        waits = []
        for value in (0.5, pair.threshold, 0.3, 0.99):
            waits.append(shown.page.evaluate(_FIRST_NEW, value) / (1000 * step))
            shown.wait_state("done", seconds=300)
            shown.page.wait_for_timeout(300)
        found.append(("first new token after letting go, in decode steps", ", ".join(f"{w:.1f}" for w in waits)))
    return found


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="tiny", help="pair for what is relative to a decode step")
    options = parser.parse_args()
    with chromium() as browser:
        rows = size_rows(browser) + step_rows(browser, options.preset)
    about = provenance()
    print(f"`{about['command']}`, revision {about['revision']}, {about['hardware']}, preset {options.preset}\n")
    print("| what | measured |\n|---|---|")
    for name, value in rows:
        print(f"| {name} | {value} |")


if __name__ == "__main__":
    main()
