"""A text's own HTML page, opened from a file without network: it shows everything, and runs and loads nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.figures import UNITS, percent
from app.share.export import html_page
from engine import Role, Trace, build_request, costs
from tests.support.browser import contrast
from tests.support.fake_pair import FakePair
from tests.support.shared_text import HOSTILE, no_markup, offline

NAMES = {Role.SLM: "small model", Role.LLM: "large model"}


def trace_of(text: str = "one two three four five six", router: str = "r1", **asked) -> Trace:
    request = build_request(f"echo {text}", **{"max_new_tokens": 400, "alternatives": 5, "threshold": 0.7, **asked})
    return FakePair(1e6, router=router).generate(request)


@pytest.fixture
def opened(browser, tmp_path: Path):
    """Opens a trace's own HTML page; see `offline`."""

    def open_page(trace: Trace, **options: Any):
        (tmp_path / "page.html").write_text(html_page(trace), "utf-8")
        return offline(browser, tmp_path / "page.html", **options)

    return open_page


def texts(page: Any, selector: str) -> list[str]:
    return page.locator(selector).all_text_contents()


def test_it_shows_authors_figures_and_every_token_by_pointer_and_keyboard(opened):
    trace = trace_of(threshold=0.8)
    close = replace(trace.events[0], role=Role.LLM, score=0.954961, threshold=0.955)
    trace = replace(trace, events=(close, *trace.events[1:]))
    with opened(trace) as (page, asked, complaints):
        assert texts(page, ".t:not(.end)") == [event.text for event in trace.events[:-1]]
        authors = page.eval_on_selector_all(".t", "nodes => nodes.map(node => node.classList.contains('llm'))")
        assert authors == [event.role is Role.LLM for event in trace.events] and not all(authors)
        line = "node => getComputedStyle(node).textDecorationLine"
        slm, llm = (page.locator(f".t.{name}").first.evaluate(line) for name in ("slm", "llm"))
        assert slm != llm, "colour is not the only cue"
        spent = costs(trace.events, trace.prompt_tokens, trace.slm_cost, trace.llm_cost, trace.prices)
        for unit, label in UNITS.items():
            share = percent(getattr(spent.run, unit) / getattr(spent.llm_only, unit))
            assert any(f"{share} of the {label}" in fact for fact in texts(page, "dd"))
        page.hover("#token-0")
        assert "0.95496 < " in page.inner_text(".details"), "a close score is told from the threshold"
        page.mouse.move(0, 0)
        page.focus(".text")
        page.keyboard.press("Home")
        for place, event in enumerate(trace.events):
            said = page.inner_text(".facts")
            assert f"token {place + 1}," in said and NAMES[event.role] in said
            page.keyboard.press("ArrowRight")
        page.keyboard.press("Home")
        page.keyboard.press("ArrowDown")
        second = [event.index for event in trace.events if event.role is Role.LLM][1]
        assert f"token {second + 1}," in page.inner_text(".facts"), "down and up go from the LLM's to the LLM's"
        assert len(asked) == 1 and complaints == []


def test_hostile_text_stays_text_also_where_it_was_taken_back(opened):
    trace = trace_of(HOSTILE, threshold=0.1, acceptance=0.9, system=HOSTILE, stop=(HOSTILE,), router=HOSTILE)
    trace = replace(trace, slm=HOSTILE, llm=HOSTILE)
    refused = next(event for event in trace.events if event.refused)
    with opened(trace) as (page, asked, complaints):
        assert "".join(texts(page, ".t:not(.end)")) == HOSTILE
        assert texts(page, ".asked") == [f"echo {HOSTILE}", HOSTILE] and texts(page, "dd")[:3] == [HOSTILE] * 3
        page.hover(f"#token-{refused.index}")
        said = page.inner_text(".details")
        assert refused.taken_back[0].text.strip() in said and f"{refused.ratio:.2g}" in said
        no_markup(page, "main")
        assert len(asked) == 1 and complaints == []


def test_nothing_but_its_own_script_runs_in_it_and_nothing_is_loaded(opened, tmp_path: Path):
    (tmp_path / "beside.js").write_text("window.hacked = 1")
    with opened(trace_of()) as (page, _, complaints):
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
        assert len(violated) >= 5 and violated == complaints


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_readable_on_a_phone_in_both_themes_and_from_right_to_left(opened, scheme: str):
    trace = trace_of("שלום עולם טוב\none \u202etwo\u2066 three " + "word " * 200)
    narrow = {"color_scheme": scheme, "viewport": {"width": 360, "height": 500}}
    with opened(trace, **narrow) as (page, *_):
        lefts = dict(page.eval_on_selector_all(".t", "all => all.map(n => [n.textContent.trim(), n.offsetLeft])"))
        assert lefts["שלום"] > lefts["עולם"] > lefts["טוב"]
        assert lefts["one"] < lefts["three"], "an override turns nothing round"
        page.focus(".text")
        for key in ("Home", "End", *["ArrowUp"] * 9, "Home", *["ArrowDown"] * 9):
            page.keyboard.press(key)
            token, details = (page.locator(each).bounding_box() for each in (".current", ".details"))
            assert token["y"] >= 0 and token["y"] + token["height"] <= details["y"] + 1, key
        for selector in (".t.slm", ".t.llm", ".chip", ".candidates b.llm", ".summary", "dd", "footer"):
            assert contrast(page, selector) >= 4.5, selector
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
