"""A model's text is text: rendered as it is meant where somebody asks for it, and never markup."""

from __future__ import annotations

import pytest

from tests.support import fake_pair
from tests.support.browser import Window, expect
from tests.support.fake_pair import FakePair

TEXT = (
    "echo # Title\n\nSome **bold** and `code`, $x^2$ for $5.\n\n- one\n- two\n\n"
    "```python\nprint('<b>')\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n$$\\frac{a}{b}$$\n"
)
HOSTILE = (
    "echo <img src=x onerror=window.hacked=1> <script>window.hacked=1</script> [a](javascript:window.hacked=1) "
    "![p](http://away.test/p.png) <http://away.test/auto> **<svg onload=window.hacked=1>** "
    "$\\href{javascript:window.hacked=1}{x}$ $\\includegraphics{http://away.test/i.png}$ "
    "$\\htmlStyle{position:fixed}{y}$ <style>*{display:none}</style> ${window.hacked=1} {{value}} &lt;i&gt;"
)
OPEN = ".stream-rendered"
TOKENS = 400


@pytest.fixture
def shown(site_window: Window, pair: FakePair):
    pair.tokens_per_second = 2000
    site_window.open()
    site_window.page.wait_for_selector(".models")
    yield site_window
    assert site_window.errors == []


def nothing_happened(shown: Window, *parts: str) -> None:
    """What a model wrote did nothing, loaded nothing, and stands in the parts of the page as text alone."""
    bad = "a, img, script, style, svg, iframe, object, form, input, b i, [href], [src], [style*=position]"
    on = "nodes => nodes.flatMap((node) => node.getAttributeNames().filter((name) => name.startsWith('on')))"
    for part in parts:
        expect(shown.page.locator(part).locator(bad)).to_have_count(0)
        assert shown.page.eval_on_selector_all(f"{part} *", on) == []
    assert shown.page.evaluate("window.hacked") is None
    assert not [url for url in shown.requests if "away.test" in url]


def test_a_text_is_rendered_beside_its_tokens_also_when_the_script_came_late(shown: Window):
    page = shown.page
    page.route("**/markdown.mjs", lambda route: route.abort())
    text = shown.write(TEXT)
    page.click(".rendered-toggle")
    expect(page.locator(OPEN)).to_contain_text("cannot be rendered")
    shown.errors.clear()  # what was not loaded
    page.unroute("**/markdown.mjs")
    for _ in range(2):
        page.click(".rendered-toggle")
    expect(page.locator(f"{OPEN} math")).to_have_count(2)
    for part, words in (("strong", ["bold"]), ("li", ["one", "two"]), ("td", ["1", "2"]), ("pre", ["print('<b>')"])):
        expect(page.locator(f"{OPEN} {part}")).to_have_text(words)
    expect(page.locator(OPEN)).to_contain_text("for $5.")
    expect(page.locator(".rendered-heading")).to_have_text("Title")
    expect(page.locator(f"{OPEN} :is(h1, h2, h3)"), "no heading of the page").to_have_count(0)
    assert shown.text() == text == TEXT.removeprefix("echo ")
    page.click(".rendered-toggle")
    expect(page.locator(OPEN)).to_be_hidden()
    shown.write("echo 2 * 3 apples at $5 or $6, which is No. #7")
    expect(page.locator(".rendered-toggle"), "there is nothing to render").to_be_hidden()


def test_hostile_text_stays_text_in_tokens_card_prompt_and_where_it_is_rendered(shown: Window):
    page = shown.page
    text = shown.write(HOSTILE)
    page.click(".rendered-toggle")
    assert text == HOSTILE.removeprefix("echo ")
    expect(page.locator(OPEN)).to_contain_text("away.test/p.png")
    page.click(".t >> nth=0")
    page.wait_for_selector(".candidate")
    nothing_happened(shown, ".stream-text", OPEN, ".token-card")
    for part in ("<script>", "onerror=", "javascript:", "<style>", "${window.hacked=1}"):
        assert part in page.inner_text(OPEN)
    expect(page.locator("#prompt textarea")).to_have_value(HOSTILE)
    assert shown.write("echo \x1b[31mred\u202e 日本語 👩‍👩‍👧") == "␛[31mred\ufffd 日本語 👩‍👩‍👧"
    shown.write("echo שלום עולם טוב")
    boxes = page.eval_on_selector_all(".t:not(.end)", "nodes => nodes.map(n => n.getBoundingClientRect().left)")
    assert len(boxes) > 2 and boxes == sorted(boxes, reverse=True), "from right to left, token by token"


def test_markup_that_is_one_token_stays_text_there_in_its_candidates_and_where_it_was_taken_back(shown, monkeypatch):
    pieces = ["<img src=x onerror=window.hacked=1>", "&amp;", "<b>bold</b>", " <i>"] * 8
    monkeypatch.setattr(fake_pair, "_pieces", lambda *_: pieces)
    shown.slide("#threshold", 0.1)
    shown.slide("#acceptance", 0.9)
    assert shown.write("a palindrome") == "".join(pieces)
    assert any("<IMG" in struck for struck in shown.page.locator("del").all_text_contents())
    shown.page.click(".t:has(del) >> nth=0")
    expect(shown.page.locator(".card-why")).to_contain_text("taken back")
    nothing_happened(shown, ".stream-text", ".token-card")
    expect(shown.page.locator(".stream-text :is(b, i)")).to_have_count(0)
