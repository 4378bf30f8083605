"""What is taken along: a page that needs no server and no network, and Markdown; both show text as text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from app.figures import amount
from app.share.export import html_page, markdown
from app.share.home import PAPER
from engine import UNITS, Request, Role, Trace, costs
from tests.support.browser import contrast, expect
from tests.support.fake_pair import FakePair, FakeRouter

BREAKING = [
    "</script><img src=x onerror=window.hacked=1>",
    "<!--<script>window.hacked=1</script>",
    "${window.hacked=1}{{value}}`${1}`",
    "a\u2028b\u2029c\ufeff@@DATA@@ &lt;b&gt; \\u003c",
]
HOSTILE = "\n".join(BREAKING)
HEBREW = "שלום עולם טוב"
ONLY_TEXT = "\n```\n~~~\n<b>&amp;\n\n> # *x* [y](http://z.example/) | --- |\n````js\n    end"


def trace_of(text: str = "one two three four five six", **asked) -> Trace:
    pair = FakePair(1e6, router=FakeRouter(name=asked.pop("router", "r1")))
    return pair.generate(
        Request(f"echo {text}", **{"max_new_tokens": 400, "alternatives": 5, "threshold": 0.7, **asked})
    )


@contextmanager
def opened(browser, folder: Path, trace: Trace, **options):
    """The exported page in a browser without network; yields the page and what it asked for and complained about."""
    file = folder / "page.html"
    file.write_text(html_page(trace), "utf-8")
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


def lefts(page, tokens: Sequence[str]) -> list[float]:
    """Where tokens begin, from the left."""
    places = page.eval_on_selector_all(".t", "nodes => nodes.map(n => [n.textContent, n.getBoundingClientRect().left])")
    return [next(left for text, left in places if text.strip() == token.strip()) for token in tokens]


def texts(page, selector: str) -> list[str]:
    return page.eval_on_selector_all(selector, "nodes => nodes.map(node => node.textContent)")


def test_the_page_shows_the_coloured_text_from_a_file_without_network(browser, tmp_path: Path):
    trace = trace_of()
    with opened(browser, tmp_path, trace) as (page, asked, complaints):
        assert texts(page, ".t:not(.end)") == [event.text for event in trace.events[:-1]]
        assert page.text_content(".t.end") == "end"
        authors = page.eval_on_selector_all(".t", "nodes => nodes.map(node => node.classList.contains('llm'))")
        assert authors == [event.role is Role.LLM for event in trace.events] and True in authors and False in authors
        style = "node => [getComputedStyle(node).backgroundColor, getComputedStyle(node).textDecorationLine]"
        slm, llm = (page.locator(f".t.{name}").first.evaluate(style) for name in ("slm", "llm"))
        assert slm[0] != llm[0] and (slm[1], llm[1]) == ("none", "underline"), "colour is not the only cue"
        assert page.text_content('[data-part="prompt"]') == trace.prompt
        assert asked == [(tmp_path / "page.html").as_uri()] and complaints == []


def test_hostile_text_stays_text_on_the_page(browser, tmp_path: Path):
    trace = trace_of(HOSTILE, system=HOSTILE, stop=(HOSTILE,), router=HOSTILE)
    trace = replace(trace, slm=HOSTILE, llm=HOSTILE)
    with opened(browser, tmp_path, trace) as (page, asked, complaints):
        page.hover(".t.llm >> nth=0")
        assert "".join(texts(page, ".t:not(.end)")) == HOSTILE
        assert texts(page, ".asked") == [f"echo {HOSTILE}", HOSTILE]
        assert texts(page, "dd")[:3] == [HOSTILE] * 3
        assert page.evaluate("window.hacked") is None
        expect(page.locator("img, .text b, main script")).to_have_count(0)
        assert len(asked) == 1 and complaints == []


def test_hebrew_is_laid_out_from_right_to_left_and_an_override_turns_nothing_round(browser, tmp_path: Path):
    with opened(browser, tmp_path, trace_of(f"{HEBREW}\none \u202etwo\u2066 three")) as (page, *_):
        hebrew, latin = HEBREW.split(), ["one", " three"]
        assert lefts(page, hebrew) == sorted(lefts(page, hebrew), reverse=True)
        assert lefts(page, latin) == sorted(lefts(page, latin)) and page.inner_text(".text").count("\ufffd") == 2


def test_nothing_but_the_pages_own_script_runs_in_it_and_nothing_is_loaded(browser, tmp_path: Path):
    (tmp_path / "beside.js").write_text("window.hacked = 1")
    with opened(browser, tmp_path, trace_of()) as (page, _, complaints):
        page.evaluate("""async () => {
          const add = (tag, values) => document.body.append(Object.assign(document.createElement(tag), values));
          add('script', { textContent: 'window.hacked = 1' });
          add('script', { src: 'beside.js' });
          add('img', { src: 'data:image/gif;base64,R0lGODlhAQABAAAAACw=', onerror: () => { window.kept = 1; } });
          add('div', { innerHTML: '<b onclick="window.hacked = 1" style="color: red">x</b>' });
          document.body.lastChild.firstChild.click();
          await fetch('data:,x').catch(() => { window.unfetched = 1; });
        }""")
        page.wait_for_function("window.kept && window.unfetched")
        assert page.evaluate("window.hacked") is None
        violated = [text for text in complaints if "Content Security Policy" in text]
        assert len(violated) >= 5 and len(violated) == len(complaints)


def test_every_token_can_be_inspected_with_pointer_and_keyboard(browser, tmp_path: Path):
    trace = trace_of(threshold=0.8)
    first, second, *_ = [i for i, event in enumerate(trace.events) if event.role is Role.LLM]
    with opened(browser, tmp_path, trace) as (page, _, _):
        page.hover(f".t >> nth={first}")
        by_pointer = page.inner_text(".details")
        assert f"token {first + 1}, written by the LLM" in by_pointer and "< threshold 0.8000 → LLM" in by_pointer
        expect(page.locator(".candidate")).to_have_count(10)
        assert texts(page, ".chosen") == texts(page, ".facts .chip") * 2
        page.mouse.move(0, 0)
        expect(page.locator(".details").first).to_contain_text("use the arrow keys", use_inner_text=True)
        page.focus(".text")
        page.keyboard.press("Home")
        seen = [page.inner_text(".facts")]
        for _ in trace.events[1:]:
            page.keyboard.press("ArrowRight")
            seen.append(page.inner_text(".facts"))
        assert [f"token {i + 1}, written by the {e.role.upper()}" in seen[i] for i, e in enumerate(trace.events)] == [
            True
        ] * len(trace.events)
        for key, there in (("Home", 0), ("ArrowDown", second), ("ArrowUp", first)):  # up and down: the LLM's tokens
            page.keyboard.press(key)
            assert f"token {there + 1}," in page.inner_text(".facts")
        page.keyboard.press("Escape")
        expect(page.locator(".current")).to_have_count(0)


def test_a_score_close_below_the_threshold_is_told_from_it_and_names_the_llm(browser, tmp_path: Path):
    trace = trace_of()
    close = replace(trace.events[0], role=Role.LLM, score=0.954961, threshold=0.955)
    with opened(browser, tmp_path, replace(trace, events=(close, *trace.events[1:]))) as (page, *_):
        page.hover("#token-0")
        assert "score 0.95496 < threshold 0.95500 → LLM" in page.inner_text(".details")


def test_what_was_taken_back_is_said_of_the_token_in_its_place_and_is_only_text(browser, tmp_path: Path):
    trace = trace_of(HOSTILE, threshold=0.1, acceptance=0.9)
    refused = next(event for event in trace.events if event.refused)
    with opened(browser, tmp_path, trace) as (page, asked, complaints):
        assert texts(page, ".t:not(.end)") == [event.text for event in trace.events if event.text]
        page.hover(f"#token-{refused.index}")
        said = page.inner_text(".details")
        assert "taken back: ‘" in said and f"the LLM finds it {refused.ratio:.2g} × as likely as its own choice" in said
        expect(page.locator("dl").first).to_contain_text("charged and not in the text", use_inner_text=True)
        assert page.evaluate("window.hacked") is None and len(asked) == 1 and complaints == []
    assert "- Acceptance: 0.9" in markdown(trace)


def test_the_current_token_is_never_under_the_details(browser, tmp_path: Path):
    trace = trace_of("word " * 390)
    with opened(browser, tmp_path, trace, viewport={"width": 360, "height": 500}) as (page, _, _):
        page.focus(".text")
        for key in ("Home", "End", *["ArrowUp"] * 40, "Home", *["ArrowDown"] * 40):
            page.keyboard.press(key)
            token, details = (page.locator(s).bounding_box() for s in (".current", ".details"))
            assert token["y"] >= 0 and token["y"] + token["height"] <= details["y"] + 1, key


def test_the_page_has_the_engines_figures(browser, tmp_path: Path):
    trace = trace_of(threshold=0.6)
    beside = costs(trace.events, trace.prompt_tokens, trace.slm_cost, trace.llm_cost, trace.prices)
    expected = [[amount(getattr(cost, unit), unit) for cost in (beside.run, beside.slm_only, beside.llm_only)]
                for unit in UNITS]  # fmt: skip
    with opened(browser, tmp_path, trace) as (page, _, _):
        rows = page.eval_on_selector_all("tbody tr", "rows => rows.map(row => [...row.cells].map(c => c.textContent))")
        assert [row[1:4] for row in rows] == expected
        assert [row[0] for row in rows] == ["bytes moved", "FLOPs", "seconds", "price"]
        said = page.inner_text("main")
        assert "12 tokens" in said or f"{len(trace.events)} tokens" in said
        for fact in ("Qwen2.5-Coder 0.5B", "r1", "trained router", "0.6", "greedy", "modelled"):
            assert fact in said


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_follows_the_readers_theme_with_enough_contrast(browser, tmp_path: Path, scheme: str):
    with opened(browser, tmp_path, trace_of(), color_scheme=scheme, viewport={"width": 360, "height": 800}) as (
        page,
        *_,
    ):
        red = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0]")
        assert (int(red) < 128) == (scheme == "dark")
        page.hover(".t.llm >> nth=0")
        for selector in (".t.slm", ".t.llm", ".chip", ".candidates b", ".candidates b.llm", ".summary", ".note", "dt",
                         "dd", "thead th", "header p", "footer", ".candidate span"):  # fmt: skip
            assert contrast(page, selector) >= 4.5, selector
        assert page.evaluate("document.documentElement.scrollWidth") <= 360


# ---- Markdown --------------------------------------------------------------------------------------------------------


def blocks(text: str) -> list:
    """The Markdown as a reader's program reads it."""
    return pytest.importorskip("markdown_it").MarkdownIt("commonmark").enable("table").parse(text)


@pytest.mark.parametrize(
    "text", ["one two three four", *BREAKING[:3], ONLY_TEXT, "`" * 9, " \n \n", "⟦⟧ x ⟪⟫", "⟦⟦⦃ y ⦆⟧"]
)
def test_text_and_prompt_survive_markdown(text: str):
    trace = trace_of(text)
    tokens = blocks(markdown(trace))
    prompt, shown = [token.content.removesuffix("\n") for token in tokens if token.type == "fence"]
    assert prompt == f"echo {text}"
    left, right = re.search("between (\\S+) and (\\S+)\n", markdown(trace)).groups()  # type: ignore[union-attr]
    assert left not in text and right not in text
    pieces = re.split(f"({re.escape(left)}.*?{re.escape(right)})", shown, flags=re.DOTALL)
    assert "".join(pieces).replace(left, "").replace(right, "") == text
    by_llm = "".join(piece.removeprefix(left).removesuffix(right) for piece in pieces if piece.startswith(left))
    assert by_llm == "".join(event.text for event in trace.events if event.role is Role.LLM)
    assert {token.type for token in tokens} >= {"blockquote_open", "table_open", "bullet_list_open"}
    assert not any(token.type.startswith(("html", "heading", "hr")) for token in tokens)


def test_a_threshold_near_one_keeps_its_digits():
    assert "- Threshold: 0.9999997\n" in markdown(trace_of(threshold=0.9999997))


def test_markdown_has_the_figures_and_what_they_were_made_with():
    text = markdown(trace_of(seed=7))
    assert text.startswith("**Prompt**\n\n> ```text\n> echo one two three four five six\n> ```\n")
    assert re.search(r"\d+ tokens, \d+ of them by the LLM \(\d+\s%\); the text ended itself\.", text)
    assert re.search(r"\| bytes moved \| [\d.]+\sGB \| [\d.]+\sGB \| [\d.]+\sGB \| \d+\s% \|", text)
    for line in ("SLM: Qwen2.5-Coder 0.5B", "Router: r1", "Scored by: trained router", "Threshold: 0.7", "Seed: 7"):
        assert f"- {line}\n" in text


@pytest.mark.parametrize(
    "name", [HOSTILE, "[x](http://z.example/)", "*a* _b_ `c` ``d``", "www.example.com", "@somebody #1"]
)
def test_names_in_markdown_are_only_text(name: str):
    trace = replace(trace_of(), slm=name, router=name)
    tokens = blocks(markdown(trace))
    inline = [child for token in tokens for child in token.children or []]
    flat = re.sub(r"\s+", " ", name)
    assert [child.content for child in inline if child.type == "code_inline"] == [flat] * 2
    links = [child.attrs["href"] for child in inline if child.type == "link_open"]
    assert links == [PAPER], "the project's own"
    plain = {"text", "code_inline", "strong_open", "strong_close", "softbreak", "link_open", "link_close"}
    assert {child.type for child in inline} <= plain


def test_control_characters_in_markdown_are_seen_and_do_nothing():
    text = markdown(trace_of("red\x1b[31m\x00\x7f\rnext \u202eturned\u2066"))
    assert "␛" in text and "␀" in text and "␡" in text and not re.search(r"[\x00-\x08\x0b-\x1f\x7f\u202e\u2066]", text)


def test_what_only_some_texts_have_is_said_where_they_have_it():
    trace = trace_of(system="Be brief.", stop=("\n\n",), raw=True)
    turned = replace(trace, events=(replace(trace.events[0], threshold=0.2, forced=True), *trace.events[1:]))
    text = markdown(turned)
    for said in (
        "**System prompt**",
        "Threshold: 0.2 to 0.7, turned",
        "raw completion",
        '"\\n\\n"',
        "by hand: 1 token",
    ):
        assert said in text
        assert said not in markdown(trace_of())
