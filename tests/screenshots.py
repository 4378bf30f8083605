"""The pictures of `docs/page.md` and the README, as `make screenshots`: the page as one sees it, light and dark."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from browser import Window, chromium, eventually, serve, window

from engine import load_settings
from engine.pair import load

IMAGES = Path(__file__).resolve().parent.parent / "docs" / "images"
QUESTIONS = {
    "cpu": "Write a Python function that checks whether a string is a palindrome.",
    "tiny": "Ben has $20. Ben earns $15. Ben spends $9. How much money is it now?",
}
PROMPTS = {
    "cpu": "prompt,answer\nWhat is 17 + 25?,42\nWhat is the capital of France?,Paris\nHow many days has a week?,7\n"
    "Which planet is known as the red planet?,Mars\nWhat is 9 * 8?,72\n",
    "tiny": "prompt,answer\nBen has $20. Ben earns $15. Ben spends $9. How much money is it now?,26\n"
    "Mia has 12 shells. Mia finds 7 more. A friend brings 5. How many shells are there now?,24\n"
    "Ben has $50. Ben spends $18. Ben earns $7. How much money is it now?,39\n"
    "Start with 12. Add 30. What is the result?,42\n",
}


def take(shown: Window, name: str) -> None:
    """One picture in each theme, of the same state."""
    for theme in ("light", "dark"):
        if shown.page.evaluate("document.body.classList.contains('dark')") != (theme == "dark"):
            shown.page.click(".theme-toggle")
        shown.page.wait_for_timeout(700)  # plots are drawn again in the other theme's colours
        shown.page.screenshot(path=IMAGES / f"{name}-{theme}.png")


def playground(shown: Window, prompt: str) -> None:
    shown.write(prompt, seconds=300)
    take(shown, "playground")
    llm = shown.page.locator(".t.llm")
    (llm if llm.count() else shown.page.locator(".t")).first.click()
    shown.page.click(".audit-toggle")
    eventually(lambda: shown.page.locator(".candidate:not(:disabled)").count(), 30)
    shown.page.locator(".candidate:not(:disabled)").first.click()
    eventually(lambda: shown.page.locator(".branch").count() == 2, 60)
    shown.wait_state("done", seconds=300)
    shown.page.locator(".t.forced").first.click()
    take(shown, "inspector")


def sweep(shown: Window) -> None:
    shown.page.click(".sweep-go")
    shown.page.wait_for_selector('#sweep [data-state="done"], #sweep[data-state="done"]', timeout=600_000)
    for value in (0.5, 0.9):
        shown.slide("#threshold", value)
        shown.page.wait_for_timeout(400)
    take(shown, "sweep")


def compare(shown: Window, prompt: str) -> None:
    shown.page.click('role=tab[name="Compare"]')
    shown.page.fill("#compare-prompt textarea", prompt)
    shown.page.click("#compare-start")
    shown.page.wait_for_selector('.compare-state[data-state="done"]', timeout=600_000)
    take(shown, "compare")


def tune(shown: Window, prompts: str) -> None:
    shown.page.click('role=tab[name="Tune on my prompts"]')
    shown.page.fill("#tune-prompts textarea", prompts)
    shown.page.click("#tune-run")
    shown.page.wait_for_selector('.tune-state[data-state="done"]', timeout=900_000)
    take(shown, "tune")


def main() -> None:
    """Takes all pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="cpu", choices=list(QUESTIONS))
    options = parser.parse_args()
    pair: Any = load(options.preset)
    settings = load_settings(max_new_tokens=110)
    with serve(lambda preset, progress: pair, settings=settings) as site, chromium() as browser:
        with window(browser, site, width=1280, height=1180, color_scheme="light") as shown:
            eventually(lambda: shown.page.locator(f"text={pair.slm_name}").count(), 30)
            shown.page.wait_for_timeout(1000)
            playground(shown, QUESTIONS[options.preset])
            sweep(shown)
            compare(shown, QUESTIONS[options.preset])
            tune(shown, PROMPTS[options.preset])
        with window(browser, site, width=360, height=780, color_scheme="light") as phone:
            eventually(lambda: phone.page.locator(f"text={pair.slm_name}").count(), 30)
            phone.page.wait_for_timeout(1000)
            phone.write(QUESTIONS[options.preset], seconds=300)
            phone.page.screenshot(path=IMAGES / "playground-phone.png", full_page=True)


if __name__ == "__main__":
    main()
