"""Markdown, code and maths beside the tokens: shown as they are meant, and never as markup."""

from __future__ import annotations

import pytest

from tests.support.browser import Window, eventually, expect
from tests.support.fake_pair import FakePair

TEXT = (
    "echo # Title\n\nSome **bold** and `code`, $x^2$ for $5.\n\n- one\n- two\n\n"
    "```python\nprint('<b>')\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n$$\\frac{a}{b}$$\n"
)
HOSTILE = (
    "echo <img src=x onerror=window.hacked=1> <script>window.hacked=1</script> [a](javascript:window.hacked=1) "
    "![p](http://away.test/p.png) <http://away.test/auto> **<svg onload=window.hacked=1>** "
    "$\\href{javascript:window.hacked=1}{x}$ $\\includegraphics{http://away.test/i.png}$ "
    "$\\htmlStyle{position:fixed}{y}$ <style>*{display:none}</style> ${window.hacked=1}"
)
OPEN = ".stream-rendered"
TOKENS = 400


@pytest.fixture
def shown(site_window: Window, pair: FakePair):
    pair.tokens_per_second = 600
    site_window.open()
    site_window.page.click(".rendered-toggle")
    yield site_window
    assert site_window.errors == []


def test_a_text_is_rendered_beside_its_tokens(shown: Window):
    text = shown.write(TEXT)
    eventually(lambda: shown.page.locator(f"{OPEN} math").count() == 2, 20)  # KaTeX comes first
    assert shown.page.inner_text(f"{OPEN} strong") == "bold"
    assert shown.page.inner_text(f"{OPEN} pre code") == "print('<b>')"
    assert shown.page.eval_on_selector_all(f"{OPEN} li", "nodes => nodes.map((n) => n.textContent)") == ["one", "two"]
    expect(shown.page.locator(f"{OPEN} table td")).to_have_count(2)
    expect(shown.page.locator(OPEN).first).to_contain_text("for $5.", use_inner_text=True)
    expect(shown.page.locator(".rendered-heading").first).to_contain_text("Title", use_inner_text=True)
    expect(shown.page.locator(f"{OPEN} :is(h1, h2, h3)"), "no heading of the page").to_have_count(0)
    assert shown.text() == text == TEXT.removeprefix("echo ")
    shown.page.click(".rendered-toggle")
    expect(shown.page.locator(OPEN).first).to_be_hidden()


def test_what_could_not_be_rendered_is_tried_again_when_it_is_asked_for_again(shown: Window):
    page = shown.page
    page.route("**/markdown.mjs", lambda route: route.abort())
    shown.open()
    page.click(".rendered-toggle")
    shown.write("echo **bold**")
    expect(page.locator(OPEN)).to_have_text("This text cannot be rendered; its tokens are all there.")
    page.unroute("**/markdown.mjs")
    for _ in range(2):
        page.click(".rendered-toggle")
    expect(page.locator(f"{OPEN} strong")).to_have_text("bold")
    shown.errors.clear()  # what was not loaded


def test_nothing_of_a_models_text_becomes_markup_loads_or_can_be_clicked(shown: Window):
    shown.write(HOSTILE)
    eventually(lambda: "away.test/p.png" in shown.page.inner_text(OPEN), 30)
    bad = "a, img, script, style, svg, iframe, object, form, input, button, [href], [src], [style*=position]"
    expect(shown.page.locator(OPEN).locator(bad)).to_have_count(0)
    attributes = "nodes => nodes.flatMap((node) => node.getAttributeNames().filter((name) => name.startsWith('on')))"
    assert shown.page.eval_on_selector_all(f"{OPEN} *", attributes) == []
    assert shown.page.evaluate("window.hacked") is None
    assert not [url for url in shown.requests if "away.test" in url]
    for part in ("<script>", "onerror=", "javascript:", "<style>", "${window.hacked=1}"):
        assert part in shown.page.inner_text(OPEN)
