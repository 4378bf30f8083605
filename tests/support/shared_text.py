"""What tests of texts that are taken away and opened share: packed links, and the menu Share."""

from __future__ import annotations

import base64
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.browser import Window, expect

CLIPBOARD: dict[str, Any] = {"permissions": ["clipboard-read", "clipboard-write"]}
HOSTILE = "</script><img src=x onerror=window.hacked=1>${window.hacked=1}{{value}}\u2028\ufeff&lt;b&gt;"
"""Text that would set `window.hacked`, or become an element, if anything took it for more than text."""


def packed(text: str | bytes) -> str:
    """As the page's script packs a text for a link."""
    deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
    content = text.encode() if isinstance(text, str) else text
    return base64.urlsafe_b64encode(deflater.compress(content) + deflater.flush()).decode().rstrip("=")


def no_job() -> bool:
    """Whether no run, comparison or measurement has a thread any more."""
    return not any(thread.name.startswith("citer-run") for thread in threading.enumerate())


def ready(shown: Window) -> None:
    """Waits until the text can be taken away."""
    shown.page.wait_for_selector('[data-take="json"]:enabled', state="attached")


def says(shown: Window, part: str) -> str:
    """Waits until the menu says something with this part; returns all of it."""
    expect(shown.page.locator(".share-said").first).to_contain_text(part)
    return shown.page.text_content(".share-said")


def menu(shown: Window) -> None:
    """Opens the menu Share."""
    if shown.page.get_attribute("details.share", "open") is None:
        shown.page.click(".share-open")


def download(shown: Window, kind: str, folder: Path) -> Path:
    """The file that a button saves."""
    menu(shown)
    with shown.page.expect_download() as coming:
        shown.page.click(f'[data-take="{kind}"]')
    coming.value.save_as(folder / coming.value.suggested_filename)
    return folder / coming.value.suggested_filename


def copied(shown: Window, kind: str) -> str:
    """What a button copies."""
    menu(shown)
    shown.page.evaluate("document.querySelector('.share-said').textContent = ''")
    shown.page.click(f'[data-take="{kind}"]')
    says(shown, "Copied")
    return shown.page.evaluate("navigator.clipboard.readText()")


def open_file(shown: Window, content: bytes | str, name: str = "some.json") -> str:
    """Chooses a file; returns what is said about it."""
    content = content.encode() if isinstance(content, str) else content
    file = {"name": name, "mimeType": "application/json", "buffer": content}
    shown.page.set_input_files("#share input", file)
    expect(shown.page.locator(".share-said").first).not_to_contain_text("Opening")
    return says(shown, name)


def no_markup(page: Any, *selectors: str) -> None:
    """Fails where hostile text has become anything but text."""
    assert page.evaluate("window.hacked") is None
    for selector in selectors:
        expect(page.locator(f"{selector} :is(img, script, b b)")).to_have_count(0)


@contextmanager
def offline(browser: Any, file: Path, **options: Any) -> Iterator[tuple[Any, list[str], list[str]]]:
    """A file in a browser without network: the page, what it asked for, and what it complained about."""
    context = browser.new_context(offline=True, **options)
    page = context.new_page()
    asked, complaints = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text))
    page.goto(file.as_uri())
    try:
        yield page, asked, complaints
    finally:
        context.close()
