"""What a router's thresholds gave, under the slider: it follows the slider, moves it, and is absent where unmeasured.

Every figure here is made up; none was measured.
"""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from browser import Window, eventually, serve, window
from fake_pair import FakePair
from test_app_look import _CONTRAST

from app.controls import points_message
from engine import load_settings
from engine.operating_points import LLM_ONLY, Curve, OperatingPoint, OperatingPoints


def point(threshold, accuracy, llm_share, cost):
    return OperatingPoint(threshold, accuracy, accuracy - 0.05, accuracy + 0.05, llm_share, cost, cost, cost)


CURVE = Curve(
    task="csqa",
    questions=300,
    pair="small ⇄ large",
    command="",
    revision="",
    hardware="a machine",
    slm=point(0.0, 0.3, 0.0, 10.0),
    llm=point(LLM_ONLY, 0.62, 1.0, 50.0),
    points=(point(0.6, 0.4, 0.1, 14.0), point(0.9, 0.57, 0.2, 20.0), point(0.97, 0.61, 0.4, 30.0)),
)
POINTS = OperatingPoints("0" * 64, (CURVE, replace(CURVE, task="gsm8k", questions=100)))
LINE, CARD = ".points-now", "#threshold-card"


@pytest.fixture(scope="module")
def pair():
    """A pair whose router was measured."""
    measured = FakePair()
    measured.operating_points = POINTS
    return measured


@pytest.fixture
def shown(site_window):
    site_window.open()
    site_window.page.wait_for_selector(LINE)
    yield site_window
    assert site_window.errors == []


def says(shown: Window, selector: str = LINE) -> str:
    return " ".join(shown.page.inner_text(selector).replace("\N{NARROW NO-BREAK SPACE}", " ").split())


def stands_at(shown: Window) -> float:
    return float(shown.page.input_value("#threshold input[type=number]"))


def pressed(shown: Window) -> list[str]:
    texts = shown.page.locator('.points button[aria-pressed="true"]').all_inner_texts()
    return [text.replace("\N{NARROW NO-BREAK SPACE}", " ") for text in texts]


def test_the_line_says_what_the_threshold_gave_and_on_what(shown: Window):
    assert says(shown) == "≈ 8 % LLM tokens · 38 % right", "at 0.5, five sixths of the way to 0.6"
    assert says(shown, ".points-about") == "of 300 csqa questions (LLM alone 62 %) Also measured: 100 gsm8k questions."
    assert "small ⇄ large on a machine" in shown.page.get_attribute(LINE, "title")


def test_the_line_follows_the_slider_as_the_engine_reads_the_curve(shown: Window):
    for threshold in (0.0, 0.3, 0.6, 0.7, 0.9, 0.935, 0.97, 0.98, 1.0, 1.01):
        shown.slide("#threshold", threshold)
        there = CURVE.at(threshold)
        expected = f"≈ {100 * there.llm_share:.0f} % LLM tokens · {100 * there.accuracy:.0f} % right"
        eventually(lambda expected=expected: says(shown) == expected)


def test_the_line_follows_without_the_server(browser, site):
    with window(browser, site) as shown:
        shown.page.wait_for_selector(LINE)
        shown.page.context.set_offline(True)
        for threshold, share in ((0.9, "≈ 20 %"), (0.6, "≈ 10 %")):
            shown.slide("#threshold", threshold)
            eventually(lambda share=share: says(shown).startswith(share))


def test_the_line_follows_within_50_milliseconds(shown: Window):
    took = shown.page.evaluate("""async () => {
      const slider = document.querySelector('#threshold input[type="range"]');
      const line = document.querySelector('.points-now'), took = [];
      for (let threshold = 0.6; threshold < 0.9; threshold += 0.03) {   // a point of the share apart
        const before = line.textContent, start = performance.now();
        slider.value = threshold;
        slider.dispatchEvent(new Event('input', { bubbles: true }));
        while (line.textContent === before && performance.now() - start < 1000) {
          await new Promise((resolve) => setTimeout(resolve));
        }
        took.push(performance.now() - start);
      }
      return took;
    }""")
    assert sorted(took)[len(took) // 2] < 50, took


def test_an_empty_number_box_keeps_the_last_line(shown: Window):
    shown.page.fill("#threshold input[type=number]", "0.9")
    eventually(lambda: says(shown).startswith("≈ 20 %"))
    shown.page.fill("#threshold input[type=number]", "")
    shown.page.wait_for_timeout(200)
    assert says(shown).startswith("≈ 20 %")


def test_a_share_button_moves_the_slider_to_the_threshold_that_gave_it(shown: Window):
    for text, threshold in (("10 %", 0.6), ("20 %", 0.9), ("30 %", 0.935), ("50 %", 0.975)):
        shown.page.click(f".points-shares button >> text={text[:2]}")
        eventually(lambda threshold=threshold: stands_at(shown) == threshold)
        eventually(lambda text=text: pressed(shown) == [text])
        assert says(shown).startswith(f"≈ {text} LLM tokens")


def test_the_cheapest_button_moves_the_slider_to_the_cheapest_good_threshold(shown: Window):
    button = ".points-best button"
    assert says(shown, button) == "cheapest within 2 points of the LLM"
    explained = shown.page.get_attribute(button, "title").replace("\N{NARROW NO-BREAK SPACE}", " ")
    assert explained == "Threshold 0.97: 40 % LLM tokens, 61 % right (LLM alone 62 %), 60 % of its bytes moved"
    shown.page.focus(button)
    shown.page.keyboard.press("Enter")
    eventually(lambda: stands_at(shown) == 0.97)
    eventually(lambda: says(shown) == "≈ 40 % LLM tokens · 61 % right")
    shown.slide("#threshold", 0.5)
    eventually(lambda: pressed(shown) == [])


def test_a_button_turns_the_dial_of_a_run_that_is_on(shown: Window, pair: FakePair):
    pair.tokens_per_second = 15
    shown.slide("#threshold", 0)
    shown.ask("a palindrome")
    shown.page.wait_for_selector(".t >> nth=3")
    shown.page.click(".points-best button")
    shown.page.wait_for_selector(".t.llm")
    pair.tokens_per_second = 200
    shown.wait_state("done")


def test_a_threshold_that_the_server_sets_is_explained_too(browser):
    pair = FakePair()
    pair.operating_points, pair.threshold = POINTS, 0.9
    with serve(lambda preset, progress: pair) as site, window(browser, site) as shown:
        shown.page.wait_for_selector(LINE)
        eventually(lambda: stands_at(shown) == 0.9 and says(shown) == "≈ 20 % LLM tokens · 57 % right")
        assert pressed(shown) == ["20 %"]


def test_another_policy_hides_it_and_the_router_brings_it_back(shown: Window):
    def score_by(label: str) -> None:
        shown.page.click("#policy input")
        shown.page.click(f'[role="option"] >> text="{label}"')

    score_by("SLM's own confidence")
    shown.page.wait_for_selector(LINE, state="hidden")
    shown.slide("#threshold", 0.9)
    score_by("trained router")
    shown.page.wait_for_selector(LINE)
    eventually(lambda: says(shown) == "≈ 20 % LLM tokens · 57 % right")


def test_it_starts_hidden_where_the_settings_choose_another_policy(browser, pair: FakePair):
    settings = load_settings(policy="random")
    with serve(lambda preset, progress: pair, settings=settings) as site, window(browser, site) as shown:
        shown.page.wait_for_selector("text=fake-r1")
        shown.page.wait_for_timeout(500)
        assert shown.page.is_hidden(LINE)


def test_an_unmeasured_router_shows_nothing_and_leaves_no_hole(browser, shown: Window):
    def below(window: Window) -> float:
        """Pixels between what the slider's ends say and the label of the policy."""
        bottom, top = (window.page.locator(s).first.bounding_box() for s in (".ends", "#policy"))
        return top["y"] - bottom["y"] - bottom["height"]

    with serve(lambda preset, progress: FakePair()) as site, window(browser, site) as bare:
        bare.page.wait_for_selector("text=fake-r1")
        bare.page.wait_for_timeout(500)
        assert bare.page.is_hidden(".points") and bare.page.locator(".points button").count() == 0
        assert 0 <= below(bare) <= 12
    assert below(shown) > 60


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_it_fits_into_its_card_and_nothing_moves_while_the_slider_does(browser, site, width: int):
    with window(browser, site, width=width) as shown:
        shown.page.wait_for_selector(LINE)
        card = shown.page.locator(CARD).bounding_box()
        for selector in (".points > *", ".points button"):
            for box in (node.bounding_box() for node in shown.page.locator(selector).all()):
                assert card["x"] <= box["x"] and box["x"] + box["width"] <= card["x"] + card["width"]
        for threshold in (0.0, 0.9, 1.01):
            shown.slide("#threshold", threshold)
            eventually(lambda t=threshold: says(shown).startswith(f"≈ {100 * CURVE.at(t).llm_share:.0f} %"))
            assert shown.page.locator(CARD).bounding_box() == card
        assert shown.page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_its_text_has_enough_contrast(browser, site, scheme: str):
    with window(browser, site, color_scheme=scheme) as shown:
        shown.page.wait_for_selector(LINE)
        shown.page.click(".points-best button")
        for selector in (
            LINE,
            ".points-about span",
            ".points-shares span",
            ".points-shares button",
            ".points-best button",
        ):
            assert shown.page.evaluate(_CONTRAST, selector) >= 4.5, selector


@pytest.mark.parametrize("text", ["<img src=x onerror=window.hacked=1>", "${window.hacked=1}{{value}}", "</script><b>"])
def test_texts_of_a_strangers_file_are_shown_as_plain_text(browser, text: str):
    pair = FakePair()
    strange = replace(CURVE, task=text, pair=text, hardware=text)
    pair.operating_points = OperatingPoints("0" * 64, (strange, strange))
    with serve(lambda preset, progress: pair) as site, window(browser, site) as shown:
        shown.page.wait_for_selector(LINE)
        assert f"of 300 {text} questions" in says(shown, ".points-about")
        assert text in shown.page.get_attribute(LINE, "title")
        assert shown.page.evaluate("window.hacked") is None
        assert shown.page.locator(".points img, .points-about b").count() == 0


def test_a_share_that_no_step_of_the_slider_gives_is_not_offered():
    steep = replace(CURVE, points=(point(0.9, 0.5, 0.05, 14.0), point(0.999, 0.57, 0.2, 20.0)))
    message = json.loads(points_message(OperatingPoints("0" * 64, (steep,)), 0.5, "router"))
    offered = {text.replace("\N{NARROW NO-BREAK SPACE}", " "): threshold for text, _, threshold in message["shares"]}
    assert offered == {"10 %": 0.933, "20 %": 0.999}, "from 0.999 to 1 the share jumps from a fifth to the whole"


def test_a_curve_without_measured_thresholds_says_nothing():
    ends_only = replace(CURVE, points=())
    assert points_message(OperatingPoints("0" * 64, (ends_only,)), 0.5, "router") == ""
    assert points_message(OperatingPoints("0" * 64), 0.5, "router") == points_message(None, 0.5, "router") == ""
    other = json.loads(points_message(OperatingPoints("0" * 64, (ends_only, CURVE)), 0.5, "router"))
    assert other["others"] == "" and len(other["curve"]) == 5
