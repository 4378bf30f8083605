"""The pictures of `docs/page.md` and the README, as `make screenshots`: the page as one sees it, light and dark."""

from __future__ import annotations

import argparse
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from engine import load_settings
from engine.pair import load
from tests.support.browser import Window, along, chromium, eventually, serve, window
from tools.record import PROMPT

IMAGES = Path(__file__).resolve().parent.parent / "docs" / "images"
QUESTIONS = {
    "cpu": PROMPT,
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
        shown.page.wait_for_timeout(300)
        shown.page.screenshot(path=IMAGES / f"{name}-{theme}.png")


def playground(shown: Window, prompt: str) -> None:
    shown.write(prompt, seconds=300)
    take(shown, "playground")
    shown.page.click(".theme-toggle")  # light again
    slider(shown)
    llm = shown.page.locator(".t.llm")
    (llm if llm.count() else shown.page.locator(".t")).first.click()
    eventually(lambda: shown.page.locator(".candidate:not(:disabled)").count(), 30)
    take(shown, "card")
    shown.page.keyboard.press("Escape")


def slider(shown: Window) -> None:
    """The slider pressed at the large model's end, dragged to where it stood and let go, as an animated picture."""
    start = float(shown.page.input_value("#balance")) / 100
    shown.page.mouse.move(*along(shown.page, start))
    shown.page.mouse.down()
    shown.page.mouse.move(*along(shown.page, 1.0), steps=5)
    shown.page.mouse.up()
    shown.page.wait_for_timeout(1000)  # until it is begun
    shown.wait_state("done", seconds=300)
    frames: list[Image.Image] = []

    def picture() -> None:
        shot = shown.page.screenshot(clip={"x": 0, "y": 0, "width": 1280, "height": 800})
        frames.append(Image.open(BytesIO(shot)).convert("RGB").resize((800, 500), Image.Resampling.LANCZOS))

    picture()
    shown.page.mouse.down()
    for step in range(1, 9):
        shown.page.mouse.move(*along(shown.page, 1 + (start - 1) * step / 8))
        shown.page.wait_for_timeout(60)
        picture()
    shown.page.mouse.up()
    for _ in range(8):
        shown.page.wait_for_timeout(250)
        picture()
    shown.wait_state("done", seconds=300)
    picture()
    both = Image.new("RGB", (800, 1000))  # colours of the first and of the last frame
    both.paste(frames[0], (0, 0))
    both.paste(frames[-1], (0, 500))
    palette = both.quantize(256, method=Image.Quantize.MEDIANCUT)
    drawn = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    milliseconds = [1500, *[200] * (len(frames) - 2), 2500]
    drawn[0].save(IMAGES / "slider.gif", save_all=True, append_images=drawn[1:], duration=milliseconds, loop=0)


def sweep(shown: Window) -> None:
    shown.page.click(".map-open")
    shown.page.wait_for_selector('#sweep [data-state="done"], #sweep[data-state="done"]', timeout=600_000)
    shown.page.locator(".map-cell").nth(23).click()
    shown.page.wait_for_timeout(1000)  # until it is begun
    shown.wait_state("done")
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
            shown.page.wait_for_selector(".models")
            shown.page.wait_for_timeout(1000)
            playground(shown, QUESTIONS[options.preset])
            sweep(shown)
            compare(shown, QUESTIONS[options.preset])
            tune(shown, PROMPTS[options.preset])
        with window(browser, site, width=360, height=780, color_scheme="light") as phone:
            phone.page.wait_for_selector(".models")
            phone.page.wait_for_timeout(1000)
            phone.write(QUESTIONS[options.preset], seconds=300)
            phone.page.evaluate("scrollTo(0, 0)")
            phone.page.screenshot(path=IMAGES / "playground-phone.png", full_page=True)


if __name__ == "__main__":
    main()
