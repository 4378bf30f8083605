"""Texts as Markdown and as lines of a program: what was written stays text, and the figures are the engine's."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.share.export import markdown
from app.share.home import PAPER
from engine import Request, Role, Trace
from tests.support.fake_pair import FakePair
from tests.support.shared_text import HOSTILE

MARKDOWN = pytest.importorskip("markdown_it", reason="markdown-it-py is not installed").MarkdownIt("commonmark")
NAMES = [HOSTILE, "[x](http://z.example/)", "*a* _b_ `c` ``d``", "www.example.com", "@somebody #1"]
MARKS = ["```", "~~~", "`" * 9, "⟦", "⟧", "⟦⟦⦃", "<b>&amp;", "> # ", "| --- |", "    end", "[y](http://z.example/)"]
PIECES = st.sampled_from([*MARKS, HOSTILE.replace("\u2028", ""), "\n", " ", "x"])


def trace_of(text: str = "one two three four five six", **asked) -> Trace:
    pair = FakePair(1e6, router="r1")
    return pair.generate(Request(f"echo {text}", **{"max_new_tokens": 400, "threshold": 0.7, **asked}))


def parsed(text: str) -> list:
    """The Markdown as a reader's program reads it, in blocks and what stands in them."""
    blocks = MARKDOWN.enable("table").parse(text)
    return [*blocks, *(child for block in blocks for child in block.children or [])]


@settings(max_examples=40)
@given(st.lists(PIECES, min_size=1, max_size=12).map("".join).filter(str.strip))
def test_any_text_and_prompt_survive_markdown_with_their_authors(text: str):
    trace = trace_of(text)
    tokens = parsed(markdown(trace))
    prompt, shown = [token.content.removesuffix("\n") for token in tokens if token.type == "fence"]
    assert prompt == f"echo {text}"
    left, right = re.search("between (\\S+) and (\\S+)\n", markdown(trace)).groups()  # type: ignore[union-attr]
    assert left not in text and right not in text
    by_llm = re.findall(f"{re.escape(left)}(.*?){re.escape(right)}", shown, re.DOTALL)
    assert "".join(by_llm) == "".join(event.text for event in trace.events if event.role is Role.LLM)
    assert shown.replace(left, "").replace(right, "") == text
    assert not any(token.type.startswith(("html", "heading", "hr")) for token in tokens)


def test_names_and_control_characters_in_markdown_are_only_text():
    for name in NAMES:
        text = markdown(replace(trace_of(), slm=name, router=name))
        parts = parsed(text)
        assert [each.content for each in parts if each.type == "code_inline"] == [re.sub(r"\s+", " ", name)] * 2
        assert [each.attrs["href"] for each in parts if each.type == "link_open"] == [PAPER], "the project's own"
        assert not {"html_inline", "image"} & {each.type for each in parts}
    text = markdown(trace_of("red\x1b[31m\x00\x7f\rnext \u202eturned\u2066"))
    assert {"␛", "␀", "␡"} <= set(text) and not re.search(r"[\x00-\x08\x0b-\x1f\x7f\u202e\u2066]", text)


def test_markdown_says_what_the_text_was_made_with():
    trace = trace_of(seed=7, threshold=0.9999997, acceptance=0.9, system="Be brief.", stop=("\n\n",), raw=True)
    turned = replace(trace, events=(replace(trace.events[0], threshold=0.2, forced=True), *trace.events[1:]))
    for said in ("r1", "0.9999997", "0.9", "Seed: 7", "Be brief.", '"\\n\\n"', "raw"):
        assert said in markdown(trace), said
    assert "by hand" in markdown(turned) and "0.2 to 0.9999997" in markdown(turned)
    assert "by hand" not in markdown(trace) and "System" not in markdown(trace_of())
    assert re.search(r"\| bytes moved \| [\d.]+\sGB \| [\d.]+\sGB \| [\d.]+\sGB \| \d+\s% \|", markdown(trace))
