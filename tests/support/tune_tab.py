"""What the tests of the tab "Tune on my prompts" share: the tab in a window, and four questions with their answers."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.operating_points import Curve, OperatingPoint
from tests.support.browser import Window

QUESTIONS = [
    ("Ben has $20. Ben earns $15. Ben spends $9. How much money is it now?", "26"),
    ("Mia has 12 shells. Mia finds 7 more. A friend brings 5. How many shells are there now?", "24"),
    ("Tom has 30 apples. Tom gives away 8. Tom finds 4 more. How many apples are there now?", "26"),
    ("Ann has $40. Ann earns $25. Ann spends $6. How much money is it now?", "59"),
]
CSV = "prompt,answer\n" + "\n".join(f"{prompt},{answer}" for prompt, answer in QUESTIONS)
MANY = "\n".join(QUESTIONS[0][0].replace("20", str(n)) for n in range(20, 100))
TOKENS = 60


@dataclass
class Tab:
    """The tab in a window."""

    window: Window

    @property
    def page(self) -> Any:
        return self.window.page

    def open(self) -> Tab:
        if not self.page.is_visible(".tune-sources"):
            tab = self.page.locator('role=tab[name="Tune on my prompts"]')
            if not tab.is_visible():  # on a phone it is in the menu of those that have no room
                self.page.click(".overflow-menu button")
                tab = self.page.locator(".overflow-dropdown >> text=Tune on my prompts")
            tab.click()
            self.page.wait_for_selector(".tune-sources")
        return self

    def paste(self, text: str) -> None:
        self.page.fill("#tune-prompts textarea", text)

    def choose(self, name: str, content: bytes | str) -> None:
        content = content.encode() if isinstance(content, str) else content
        file = {"name": name, "mimeType": "text/plain", "buffer": content}
        self.page.set_input_files(".tune-sources input[type=file]", [file])

    def run(self) -> None:
        self.page.click("#tune-run")

    def wait(self, state: str) -> None:
        self.page.wait_for_selector(f'.tune-state[data-state="{state}"]', timeout=120_000)

    def says(self, selector: str) -> str:
        text = self.page.locator(selector).inner_text() if self.page.is_visible(selector) else ""
        return " ".join(text.replace("\N{NARROW NO-BREAK SPACE}", " ").split())

    def number(self, handle: str) -> float:
        return float(self.page.input_value(f'[data-handle="{handle}"] input[type=number]'))

    def at(self, handle: str) -> float:
        return float(self.page.input_value(f'[data-handle="{handle}"] input[type=range]'))

    def type(self, handle: str, value: float) -> None:
        """Types into a handle's box, and lets the page draw."""
        self.page.fill(f'[data-handle="{handle}"] input[type=number]', str(value))
        self.page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def download(self, name: str) -> tuple[str, str]:
        """Name and content of what a button saves."""
        with self.page.expect_download() as found:
            self.page.click(f'.tune [data-save="{name}"]')
        return found.value.suggested_filename, Path(found.value.path()).read_bytes().decode("utf-8")

    def json(self) -> dict[str, Any]:
        return json.loads(self.download("json")[1])


def curve_of(exported: dict[str, Any]) -> Curve:
    """The engine's curve of an exported one."""
    names = ("threshold", "quality", "low", "high", "llm_share", "bytes", "flops", "seconds")
    points = [OperatingPoint(*(point[name] for name in names)) for point in exported["curve"]]
    return Curve("own", 4, "", "", "", "", points[0], points[-1], tuple(points[1:-1]))


def no_job_threads() -> bool:
    return not any(thread.name.startswith("citer-run") for thread in threading.enumerate())
