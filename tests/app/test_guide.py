"""The guide of the first visit, and "How it works" told with the visitor's own last text, on the shipped tiny pair."""

from __future__ import annotations

import json
import re
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from app.figures import amount, percent
from app.lesson.steps import lesson
from app.running.session import View
from engine import Prices, Request, Role, TokenEvent, costs
from tests.support.browser import Window, check_contrast, eventually, expect, sizes
from tests.support.paths import TINY

pytestmark = pytest.mark.skipif(not (TINY / "llm").is_dir(), reason="the tiny pair is not in assets/tiny")

PROMPT = "Ben has $20. Ben earns $15. Ben spends $9. How much money is it now?"
CARD, NEXT, OPENER = ".guide-card", ".guide-next", ".guide-open"
TARGETS = ("#stream .stream-text", "#track", "#headline", "#prompt-card")


@pytest.fixture(scope="module")
def pair(tiny_pair):
    return tiny_pair


@contextmanager
def visit(browser, site, seen: bool = False, script: str = "", width: int = 1280, height: int = 900, **options: Any):
    """A window of its own, on a first visit unless the guide was seen, with a script that runs before the page's."""
    context = browser.new_context(viewport={"width": width, "height": height}, **options)
    if seen:
        context.add_init_script("localStorage.setItem('citer-guide', 'seen')")
    if script:
        context.add_init_script(script)
    page = context.new_page()
    shown = Window(page, site.url)
    shown.open()
    try:
        yield shown
        assert shown.errors == []
    finally:
        context.close()


@pytest.fixture(scope="module")
def returning(browser, site):
    """A window of somebody who has seen the guide."""
    with visit(browser, site, seen=True) as shown:
        yield shown


@pytest.fixture
def guided(returning: Window):
    """The guide, asked for."""
    returning.page.evaluate("window.scrollTo(0, 0)")
    if returning.page.is_hidden(CARD):
        returning.page.click(OPENER)
        returning.page.wait_for_selector(CARD)
    yield returning
    returning.page.keyboard.press("Escape")


def box(shown: Window, selector: str) -> dict[str, float]:
    found = shown.page.locator(selector).first.bounding_box()
    assert found is not None
    return found


def apart(a: dict[str, float], b: dict[str, float]) -> bool:
    return (
        a["x"] + a["width"] <= b["x"]
        or b["x"] + b["width"] <= a["x"]
        or a["y"] + a["height"] <= b["y"]
        or b["y"] + b["height"] <= a["y"]
    )


def text_box(shown: Window) -> dict[str, float]:
    """Around the tokens of the text, whose own box may be empty below them."""
    range_of = (
        "(node) => { const r = document.createRange(); r.selectNodeContents(node); return r.getBoundingClientRect(); }"
    )
    return shown.page.locator(TARGETS[0]).first.evaluate(range_of)


def focused(shown: Window) -> str:
    return shown.page.evaluate("document.activeElement.className")


# ---- the guide ---------------------------------------------------------------------------------------------------


_PLACES = """() => ['#prompt-card', '#threshold-card', '#stream', '#dashboard', '#header'].map((id) => {
  const box = document.querySelector(id).getBoundingClientRect();
  return [box.x, box.y, box.width, box.height];
})"""


def test_it_shows_itself_once_without_taking_the_focus_or_moving_anything(browser, site):
    with visit(browser, site, seen=True) as other:
        other.page.wait_for_selector("text=tiny SLM ⇄ LLM")
        other.page.wait_for_selector(".points > summary")
        without = other.page.evaluate(_PLACES)
    with visit(browser, site) as shown:
        shown.page.wait_for_selector(CARD)
        shown.page.wait_for_selector(".points > summary")
        assert shown.page.evaluate("document.activeElement === document.body && scrollY === 0")
        assert shown.page.evaluate(_PLACES) == without
        shown.page.keyboard.press("Escape")
        shown.page.wait_for_selector(CARD, state="hidden")
        assert shown.page.evaluate(_PLACES) == without
        shown.open()
        shown.page.wait_for_timeout(3500)
        expect(shown.page.locator(CARD).first, "not on the second visit").to_be_hidden()


@pytest.mark.parametrize("sign", ["pointerdown", "keydown", "input"])
def test_who_is_at_work_already_is_left_alone(browser, site, sign: str):
    work = f"setInterval(() => document.dispatchEvent(new Event('{sign}', {{ bubbles: true }})), 300)"
    with visit(browser, site, script=work) as shown:
        shown.page.wait_for_selector("text=tiny SLM ⇄ LLM")
        shown.page.wait_for_timeout(3500)
        expect(shown.page.locator(CARD).first).to_be_hidden()


def test_it_covers_nothing_that_it_talks_about(browser, site):
    with visit(browser, site, seen=True) as shown:
        shown.page.wait_for_selector("text=tiny SLM ⇄ LLM")
        for width, height in sizes(shown.page, (1366, 768), (1280, 620), (768, 900), (360, 640)):
            shown.page.click(OPENER)
            for number, target in enumerate(TARGETS):
                eventually(lambda n=number: shown.page.text_content(".guide-count") == f"{n + 1} of 4")
                shown.page.wait_for_timeout(200)
                card = box(shown, CARD)
                assert apart(card, box(shown, target) if number else text_box(shown)), (target, width)
                assert card["x"] >= 0 and card["x"] + card["width"] <= width
                assert card["y"] >= 0 and card["y"] + card["height"] <= height, (target, width)
                at = box(shown, target)
                assert at["y"] >= 0 and at["y"] + at["height"] <= height, f"{target} is in view at {width}"
                shown.page.click(NEXT)
            shown.page.wait_for_selector(CARD, state="hidden")
            assert shown.page.evaluate("document.documentElement.scrollWidth") <= width


def test_it_stays_beside_its_target_while_the_page_scrolls(guided: Window):
    for _ in range(3):
        guided.page.mouse.wheel(0, 120)
        guided.page.wait_for_timeout(150)
        assert apart(box(guided, CARD), text_box(guided))


@pytest.mark.parametrize(("width", "height"), [(1280, 800), (1366, 768)])
def test_it_stands_below_a_short_text_and_not_on_the_dials_until_the_text_grows(browser, site, width: int, height: int):
    with visit(browser, site, width=width, height=height) as shown:
        shown.page.wait_for_selector(CARD)
        text = shown.page.locator(TARGETS[0]).first
        for words in (0, 60):
            text.evaluate("(node, words) => node.append('word '.repeat(words))", words)
            eventually(lambda: apart(box(shown, CARD), text_box(shown)))
            for part in ("#threshold-card", "#prompt-card", "#stream .stream-legend"):
                assert apart(box(shown, CARD), box(shown, part)), (part, words)
        text.evaluate("(node) => node.append('word '.repeat(600))")
        eventually(lambda: apart(box(shown, CARD), box(shown, TARGETS[0])))


def test_the_keyboard_alone_walks_through_it_and_comes_back_to_where_it_was_opened(returning: Window):
    returning.page.focus(OPENER)
    returning.page.keyboard.press("Enter")
    returning.page.wait_for_selector(CARD)
    eventually(lambda: focused(returning) == "guide-next")
    titles = []
    for _ in range(4):
        titles.append(returning.page.inner_text(".guide-step:visible h2"))
        returning.page.keyboard.press("Enter")
    assert titles == ["See who wrote what", "Turn the threshold", "Watch the cost", "Ask for something"]
    expect(returning.page.locator(CARD).first).to_be_hidden()
    assert focused(returning) == "guide-open"


def test_back_goes_back_and_escape_closes_it(guided: Window):
    guided.page.keyboard.press("Enter")
    guided.page.keyboard.press("Shift+Tab")
    assert focused(guided) == "guide-back"
    guided.page.keyboard.press("Enter")
    assert guided.page.text_content(".guide-count") == "1 of 4" and focused(guided) == "guide-next"
    guided.page.keyboard.press("Escape")
    expect(guided.page.locator(CARD).first).to_be_hidden()
    assert focused(guided) == "guide-open"


def test_nothing_outside_it_is_covered_against_clicks(guided: Window):
    expect(guided.page.locator(CARD).first).to_have_attribute("aria-modal", "false")
    guided.page.click("#prompt textarea", timeout=2000)
    guided.page.keyboard.type("3 + 4")
    assert guided.page.input_value("#prompt textarea").endswith("3 + 4")
    expect(guided.page.locator(CARD).first).to_be_visible()
    guided.page.fill("#prompt textarea", "")


def test_who_starts_a_text_at_its_end_has_done_what_it_asks_for(guided: Window):
    for _ in range(3):
        guided.page.click(NEXT)
    guided.ask(PROMPT)
    eventually(lambda: guided.page.is_hidden(CARD))
    guided.wait_state("done", seconds=60)


def test_it_is_shown_from_another_tab_in_the_playground(returning: Window):
    returning.page.keyboard.press("Escape")
    returning.page.click('role=tab[name="How it works"]')
    returning.page.click(OPENER)
    returning.page.wait_for_selector(CARD)
    expect(returning.page.locator("#stream")).to_be_visible()
    assert apart(box(returning, CARD), text_box(returning))
    returning.page.click('role=tab[name="How it works"]')
    eventually(lambda: returning.page.is_hidden(CARD))
    returning.page.click('role=tab[name="Playground"]')
    eventually(lambda: returning.page.is_visible(CARD))
    returning.page.keyboard.press("Escape")


def test_nothing_of_it_moves_where_motion_is_to_be_reduced(browser, site):
    with visit(browser, site, seen=True, reduced_motion="reduce") as shown:
        shown.page.click(OPENER)
        shown.page.wait_for_selector(CARD)
        assert shown.page.evaluate("document.querySelector('.guide-card').getAnimations().length") == 0


# ---- how it works ------------------------------------------------------------------------------------------------


def event(index: int, role: Role, score: float | None, **options: Any) -> TokenEvent:
    fields = {"slm_fed": 1, "llm_fed": 0, **options}
    text = fields.pop("text", f" t{index}")
    return TokenEvent(index, text, role, score, 0.97, slm_head=role is Role.SLM, seconds=0.01, index=index, **fields)


def run_of(pair, *events: TokenEvent, policy: str = "router", active: bool = False) -> Any:
    request = Request("x", policy=policy)
    return SimpleNamespace(events=list(events), request=request, prompt_tokens=5, pair=pair, active=active)


def told(words: list[Any]) -> str:
    text = "".join(word if isinstance(word, str) else word[1] for word in words)
    return text.replace("\N{NARROW NO-BREAK SPACE}", " ")


S, L = Role.SLM, Role.LLM


def test_a_lesson_has_the_figures_of_the_run(tiny_pair):
    events = (
        event(0, S, 0.99, slm_fed=5),
        event(1, S, 0.98),
        event(2, L, 0.41, llm_fed=7, text=" 2"),
        event(3, S, 0.99),
        event(4, L, 0.5, llm_fed=2),
    )
    taught = lesson(run_of(tiny_pair, *events), View())
    assert taught["own"] and taught["hint"] == ""
    assert told(taught["intro"]) == (
        "In your last text of 5 tokens the SLM wrote 3 and the LLM 2. "
        "The first token that went to the LLM was token 3, ·2:"
    )
    assert [step["title"] for step in taught["steps"]] == ["The SLM reads", "The router scores", "The LLM writes"]
    assert "0.41. That is below the threshold 0.97: the LLM writes." in told(taught["steps"][1]["text"])
    assert told(taught["steps"][2]["text"]) == (
        "First it reads the prompt’s 5 tokens and the 2 written so far, in one pass. Then it writes ·2."
    )
    spent = costs(events, 5, tiny_pair.slm_cost, tiny_pair.llm_cost)
    assert told(taught["outro"]).endswith(
        "The LLM was run 2 times for 5 tokens; after the first time it read at most 2 tokens at once. The text moved "
        f"{amount(spent.run.bytes, 'bytes')}, {percent(spent.run.bytes / spent.llm_only.bytes)} of LLM-only.".replace(
            "\N{NARROW NO-BREAK SPACE}", " "
        )
    )
    assert taught["prompt"] == [5, False, True] and taught["token"] == ["·2", "llm"]
    assert taught["context"] == [["·t0", "slm", False, True], ["·t1", "slm", True, True]]
    assert taught["gauge"] == [0.41, 0.97, "0.41", "0.97"]


@pytest.mark.parametrize("unit", ["flops", "seconds", "price"])
def test_its_cost_is_in_the_views_unit_and_prices(tiny_pair, unit: str):
    events, view = (event(0, L, 0.1, slm_fed=5, llm_fed=5),), View(unit=unit, prices=Prices(3.0, 7.0))
    spent = costs(events, 5, tiny_pair.slm_cost, tiny_pair.llm_cost, view.prices)
    run, whole = getattr(spent.run, unit), getattr(spent.llm_only, unit)
    text = told(lesson(run_of(tiny_pair, *events), view)["outro"])
    plain = f"{amount(run, unit)} {percent(run / whole)}".replace("\N{NARROW NO-BREAK SPACE}", " ").split()
    assert all(word in text for word in plain), text


def test_close_figures_get_as_many_decimals_as_it_takes(tiny_pair):
    one = run_of(tiny_pair, event(0, L, 0.9698, slm_fed=5, llm_fed=5))
    assert lesson(one, View())["gauge"][2:] == ["0.9698", "0.9700"]


@pytest.mark.parametrize(
    ("events", "policy", "says"),
    [
        ((event(0, S, 0.99, slm_fed=5),), "router", "None went to the LLM; the first token was ·t0:"),
        ((event(0, S, 0.99, slm_fed=5),), "router", "not below the threshold 0.97: the SLM writes."),
        ((event(0, L, None, slm_fed=0, llm_fed=5),), "llm", "Always the LLM: there is no score."),
        ((event(0, L, None, slm_fed=0, llm_fed=5),), "llm", "First it reads the prompt’s 5 tokens, in one pass."),
        (
            (event(0, L, 0.5, slm_fed=5, llm_fed=5),),
            "confidence",
            "How likely does the SLM think its own token is? 0.50.",
        ),
        ((event(0, L, 0.5, slm_fed=0, llm_fed=5),), "random", "A number is drawn: 0.50."),
        ((event(0, L, 0.99, slm_fed=5, llm_fed=5, forced=True),), "router", "You chose this token"),
        ((event(0, L, 0.1, slm_fed=5, llm_fed=5, text="", finish_reason="eos"),), "router", "Then it writes end."),
        ((event(0, L, 0.1, slm_fed=5, llm_fed=5, text=""), event(1, S, 0.99)), "router", "writes part of a character."),
        ((event(0, L, 0.1, slm_fed=5, llm_fed=5, text="\x1b\n é"),), "router", "Then it writes ␛⏎·é."),
    ],
)
def test_a_lesson_fits_every_policy_and_every_token(tiny_pair, events, policy: str, says: str):
    taught = lesson(run_of(tiny_pair, *events, policy=policy), View())
    whole = told(taught["intro"]) + " ".join(told(step["text"]) for step in taught["steps"]) + told(taught["outro"])
    assert says in whole


def test_a_text_that_is_being_written_is_told_so_far(tiny_pair):
    taught = lesson(run_of(tiny_pair, event(0, S, 0.99, slm_fed=5), active=True), View())
    assert told(taught["intro"]).startswith("In your text so far of 1 token ")


def test_without_a_token_there_is_a_made_up_example_that_says_so(tiny_pair):
    for nothing in (None, run_of(tiny_pair)):
        taught = lesson(nothing, View())
        assert not taught["own"] and "made up" in taught["hint"]
        assert told(taught["intro"]).startswith("In a text of 12 tokens the SLM wrote 9 and the LLM 3.")
        assert told(taught["judged"][-1]).endswith("2 went back.")
        assert json.dumps(taught, allow_nan=False)


def test_the_tab_explains_the_text_on_the_page_as_the_engine_wrote_it(returning: Window, tiny_pair, site):
    page = returning.page
    returning.write(PROMPT, 60)
    session = next(iter(site.sessions._sessions.values()))
    shown = next(s.shown for s in site.sessions._sessions.values() if s.shown is not None)
    expected = lesson(shown, session.view)
    page.click('role=tab[name="How it works"]')
    eventually(lambda: page.inner_text("#lesson-title") == "One step of your last text")

    def says(selector: str) -> str:
        return page.text_content(selector).replace("\N{NARROW NO-BREAK SPACE}", " ")

    trace = tiny_pair.generate(PROMPT, policy="router", threshold=shown.request.threshold, max_new_tokens=60)
    by_llm, by_slm = (sum(event.role is role for event in trace.events) for role in (Role.LLM, Role.SLM))
    assert says(".lesson-intro").startswith(
        f"In your last text of {len(trace.events)} tokens the SLM wrote {by_slm} and the LLM {by_llm}."
    )
    assert says(".lesson-intro") == told(expected["intro"]) and says(".lesson-outro") == told(expected["outro"])
    texts = page.locator(".lesson-steps p").all_text_contents()
    assert [t.replace("\N{NARROW NO-BREAK SPACE}", " ") for t in texts] == [told(s["text"]) for s in expected["steps"]]
    chips = page.locator(".lesson-steps li >> nth=2").locator(".token").all_text_contents()
    assert chips[-2] == expected["token"][0], "the picture ends with the token; the sentence names it again"
    expect(page.locator(".lesson-hint").first).to_be_hidden()
    page.click('role=tab[name="Playground"]')


def test_markup_in_a_token_is_only_text(browser, site, tiny_pair):
    with visit(browser, site, seen=True) as shown:
        shown.write(PROMPT, 60)
        session = list(site.sessions._sessions.values())[-1]
        session.shown.events[:] = [
            replace(event, text="<img src=x onerror=window.hacked=1>${window.hacked=1}")
            for event in session.shown.events
        ]
        shown.page.click('role=tab[name="How it works"]')
        eventually(lambda: "<img" in (shown.page.text_content(".lesson-intro") or ""))
        assert shown.page.evaluate("window.hacked") is None
        expect(shown.page.locator(".lesson img")).to_have_count(0)


def test_before_a_text_the_tab_has_an_example_and_a_hint(browser, site):
    with visit(browser, site, seen=True, width=1280) as shown:
        shown.page.click('role=tab[name="How it works"]')
        shown.page.wait_for_selector(".lesson-hint")
        expect(shown.page.locator(".lesson-hint").first).to_contain_text(
            "Write a text in the Playground", use_inner_text=True
        )
        assert re.search(r"the SLM wrote 9 and the LLM 3", shown.page.inner_text(".lesson-intro"))
        shown.page.set_viewport_size({"width": 360, "height": 640})
        assert shown.page.evaluate("document.documentElement.scrollWidth") <= 360
        for item in shown.page.locator(".lesson-steps li").all():
            at = item.bounding_box()
            assert at is not None and at["x"] >= 0 and at["x"] + at["width"] <= 360


def test_guide_and_lesson_have_enough_contrast(browser, site):
    with visit(browser, site, seen=True) as shown:
        shown.page.click(OPENER)
        shown.page.wait_for_selector(CARD)
        check_contrast(shown.page, ".guide-step p", ".guide-count", NEXT, ".guide-close", ".guide-back", OPENER)
        shown.page.click('role=tab[name="How it works"]')
        shown.page.wait_for_selector(".lesson")
        tokens = (".token.slm", ".token.llm", ".token.prompt")
        check_contrast(shown.page, ".lesson p", ".lesson-hint", *tokens, ".score-labels span")
