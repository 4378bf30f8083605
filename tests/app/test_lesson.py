"""What "How it works" says of acceptance: with texts of the shipped tiny pair, and with single events."""

from __future__ import annotations

from typing import Any

import pytest

from app.lesson.steps import lesson
from app.running.session import View
from engine import Request, TokenEvent
from engine.events import taken_back
from tests.app.test_guide import L, S, event, run_of, told
from tests.support.browser import eventually, sizes, window

PROMPT = "Add 47 and 38, then take away 19."


@pytest.fixture(scope="module")
def pair(tiny_pair):
    return tiny_pair


def taught(pair, *events: TokenEvent, policy: str = "router") -> dict[str, Any]:
    return lesson(run_of(pair, *events, policy=policy), View())


def said(lesson: dict[str, Any]) -> str:
    return " ".join(told(words) for words in lesson["judged"])


def drafted(index: int, ratio: float | None, acceptance: float = 0.3, **options: Any) -> TokenEvent:
    return event(index, S, 0.99, ratio=ratio, acceptance=acceptance, **options)


def refusal(index: int, ratio: float, acceptance: float = 0.3, more: int = 0) -> TokenEvent:
    back = tuple(drafted(index + n, None, acceptance, text=f" d{n}") for n in range(more + 1))
    return event(index, L, 0.99, slm_fed=0, llm_fed=7, taken_back=back, ratio=ratio, acceptance=acceptance)


def test_a_token_that_was_taken_back_is_named_with_its_ratio_and_what_went_with_it(tiny_pair):
    what = taught(tiny_pair, drafted(0, 0.62, slm_fed=5), refusal(1, 0.04, more=2))
    assert "Taken back: at token 2 the SLM had written ·d0, to the LLM 0.04 times as likely as its own choice." in said(
        what
    )
    assert "That is below 0.30, so it went, and 2 tokens after it. The LLM wrote ·t1 instead." in said(what)
    assert "In all, 1 drafted token stayed, and 3 went back." in said(what)


def test_a_token_that_stayed_is_the_one_that_was_least_sure_to(tiny_pair):
    what = taught(tiny_pair, drafted(0, 1.0, slm_fed=5), drafted(1, 0.62), drafted(2, 1.0))
    assert "Kept: at token 2 the SLM had written ·t1, to the LLM 0.62 times as likely as its own choice." in said(what)
    assert "That is not below 0.30, so it stayed." in said(what) and "Taken back" not in said(what)


@pytest.mark.parametrize(
    ("events", "says"),
    [
        ((event(0, S, 0.99, slm_fed=5),), "acceptance is 0: what the SLM writes stays. Raise Acceptance"),
        (
            (event(0, S, 0.99, slm_fed=5), event(1, S, 0.99), event(2, L, 0.2, llm_fed=7)),
            "it also read what the SLM had written, up to 2 tokens in one pass. What it made of them was not used.",
        ),
        ((drafted(0, None, slm_fed=5),), "It has read no draft yet."),
        ((event(0, L, 0.2, slm_fed=5, llm_fed=5, acceptance=0.3),), "Here the SLM drafted nothing."),
        ((drafted(0, 1.0, slm_fed=5),), "which is what the LLM would have written"),
        ((refusal(0, 0.0000001),), "to the LLM less than 0.001 times as likely"),
        ((refusal(0, 0.2999),), "0.2999 times as likely as its own choice. That is below 0.3000"),
        ((drafted(0, 1.0, 1.0, slm_fed=5),), "So this is the LLM’s own text, near ties apart."),
    ],
)
def test_it_says_what_fits_wherever_acceptance_stands(tiny_pair, events, says: str):
    assert says in said(taught(tiny_pair, *events))


def test_a_text_that_is_not_all_read_is_not_called_the_llms(tiny_pair):
    what = taught(tiny_pair, drafted(0, 1.0, 1.0, slm_fed=5), drafted(1, None, 1.0))
    assert "the LLM’s own text" not in said(what)


@pytest.mark.parametrize("policy", ["router", "slm"])
def test_a_step_in_which_a_draft_went_back_says_so(tiny_pair, policy: str):
    what = taught(tiny_pair, drafted(0, 1.0, slm_fed=5), refusal(1, 0.04), policy=policy)
    assert "The first token that the LLM wrote in place of the SLM’s was token 2" in told(what["intro"])
    assert "not below the threshold 0.97: the SLM drafts ·d0." in told(what["steps"][1]["text"])
    assert told(what["steps"][2]["text"]).endswith("Then it takes back ·d0 and writes ·t1 instead.")
    assert what["steps"][2]["title"] == "The LLM looks"


@pytest.mark.parametrize("acceptance", [0.3, 1.0])
@pytest.mark.parametrize("threshold", [0.0, 0.9, 1.01])
def test_the_figures_are_those_of_the_text_that_the_engine_wrote(tiny_pair, acceptance: float, threshold: float):
    asked = Request(PROMPT, threshold, max_new_tokens=60, acceptance=acceptance, max_draft=8)
    trace = tiny_pair.generate(asked)
    what = taught(tiny_pair, *trace.events)
    kept = sum(e.role is S and e.ratio is not None for e in trace.events)
    if threshold > 1:
        assert kept == 0 and "drafted nothing" in said(what)
        return
    assert f"In all, {kept} drafted tokens stayed, and {taken_back(trace.events)} went back." in said(what)
    own = trace.text == tiny_pair.generate(Request(PROMPT, policy="llm", max_new_tokens=60)).text
    assert ("the LLM’s own text, near ties apart" in said(what)) == (acceptance == 1) and (own or acceptance < 1)
    assert what["dials"] == [threshold, acceptance]


def test_the_plane_shows_where_the_text_is(browser, site):
    with window(browser, site) as shown:
        eventually(lambda: "router" in shown.page.inner_text(".models"), 30)  # its threshold is on the dial now
        shown.slide("#threshold", 0.5)
        shown.slide("#acceptance", 1.0)
        shown.write(PROMPT, 60)
        shown.page.click('role=tab[name="How it works"]')
        eventually(lambda: "acceptance is 1" in shown.page.inner_text(".lesson-judged"))
        assert shown.page.get_attribute(".plane", "aria-label").endswith("this text is at threshold 0.5, acceptance 1")
        for width, _ in sizes(shown.page, (1280, 900), (360, 900)):
            area, point = (shown.page.locator(part).bounding_box() for part in (".plane-area", ".plane-point"))
            middle = point["x"] + point["width"] / 2
            assert middle == pytest.approx(area["x"] + area["width"] / 2, abs=1)
            assert point["y"] < area["y"] + area["height"] / 4, "acceptance 1 is at the top"
            assert shown.page.evaluate("document.documentElement.scrollWidth") <= width
        assert shown.errors == []
