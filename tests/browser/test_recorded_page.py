"""The recorded text that a visitor finds: dragged without a model, until there is a text of the visitor's."""

from __future__ import annotations

import re

import pytest

from app.figures import percent, visible
from app.recorded import Recorded
from app.scale import pair_scale
from engine import Request, WeightsError, llm_share
from engine.grading import is_right
from tests.support.browser import along, check_contrast, eventually, expect, newest, paused, serve, window
from tests.support.fake_pair import FakePair
from tools.record import record

PROMPT = "Add 47 and 38, then take away 19."
"""The tiny models disagree about it at many tokens."""
DIAL, BOX = "#balance", "#threshold input[type=number]"


@pytest.fixture(scope="module")
def recorded(tiny_pair) -> Recorded:
    scale = tuple(pair_scale(tiny_pair, "router"))
    traces = tuple(record(tiny_pair, Request(PROMPT, max_new_tokens=60, alternatives=3), scale))
    return Recorded(tiny_pair.threshold, scale, "python -m tools.record", "abc", "a machine", traces, "66")


def test_step_1_without_models_it_is_dragged_by_pointer_and_keys_and_the_server_is_asked_for_nothing(browser, recorded):
    def load(preset, progress):
        raise WeightsError("there are none")

    with serve(load, "tiny", recorded=recorded) as site, window(browser, site, 1366, 768) as shown:
        page = shown.page
        page.wait_for_selector("text=No models")
        shown.wait_tokens(11)
        expect(page.locator("#prompt textarea"), "the question, as it was asked").to_have_value(PROMPT)
        about = page.get_attribute(".stream-state", "title")
        for word in ("Recorded", "tiny SLM ⇄ LLM", "a machine", "python -m tools.record"):
            assert word in about
        line = page.locator(".t.llm").first.evaluate("node => getComputedStyle(node).textDecorationLine")
        assert line == "underline", "colour is not the only cue"
        page.wait_for_selector(".scores-plot .point")
        page.mouse.move(*along(page, 0.5))
        page.mouse.down()
        shown.requests.clear()
        costs, tops = set(), set()
        dragged = [*recorded.traces[::6], recorded.traces[-1]]
        for trace in dragged:
            page.mouse.move(*along(page, recorded.scale.index(trace.threshold) / 100))
            shown.shows(trace.events)
            share = " ".join(percent(llm_share(visible(trace.events))).split())
            eventually(lambda share=share: shown.inner(".outcome").startswith(f"{share} by the large model"))
            costs.add(shown.inner(".outcome").partition("·")[2])
            verdicts = [("small alone", recorded.traces[0]), ("together", trace), ("large alone", recorded.traces[-1])]
            if trace in (recorded.traces[0], recorded.traces[-1]):
                del verdicts[1]
            marks = [f"{who} {'✓' if is_right(text.text, '66') else '✗'}" for who, text in verdicts]
            assert page.locator(".verdicts span").all_inner_texts() == marks
            tops.add(page.evaluate("document.querySelector('#slider').getBoundingClientRect().top"))
        assert len(costs) == len(dragged), "the cost changes with each"
        assert len(tops) == 1, "the slider stays under the hand"
        asked = [url for url in shown.requests if not url.endswith("/citer/pair")]  # whether the server is still there
        assert asked == []
        page.mouse.up()
        page.focus(DIAL)
        for key, trace in (("Home", recorded.traces[0]), ("End", recorded.traces[-1])):
            page.keyboard.press(key)
            shown.shows(trace.events)
        page.locator(".stream-text .t").nth(1).click()
        expect(page.locator(".token-card .candidate")).to_have_count(6)
        page.keyboard.press("Escape")
        before = shown.inner(".outcome")
        page.locator("#cost").fill("150")
        expect(page.locator(".outcome"), "at the large model's end it costs what that costs").to_have_text(before)
        page.mouse.click(*along(page, 0.5))
        eventually(lambda: shown.inner(".outcome") not in costs)
        check_contrast(page, ".outcome", ".stream-state", ".ends span", ".cost-says")
        page.click(".race")
        expect(page.locator('[data-column="middle"] .w').first).to_be_attached()
        assert shown.errors == []


def test_a_finger_drags_it_until_a_text_of_the_visitors_or_a_link_to_a_prompt_takes_its_place(browser, recorded):
    pair = FakePair(2000)
    with (
        serve(lambda preset, progress: pair, recorded=recorded) as site,
        window(browser, site, 360, 780, has_touch=True, reduced_motion="reduce") as phone,
    ):
        page, text = phone.page, phone.page.locator(".stream-text")
        page.wait_for_selector(".models")
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        for place, trace in ((0.003, recorded.traces[0]), (0.997, recorded.traces[-1])):
            page.touchscreen.tap(*along(page, place))
            phone.shows(trace.events)
        expect(page.locator("#prompt textarea")).to_have_value(PROMPT)
        former = phone.text()
        with paused(site.host):
            phone.ask("a palindrome")
            phone.wait_state("waiting")
            expect(text, "it is paler while another is awaited").to_have_class("stream-text awaits")
            assert phone.text() == former
        phone.wait_state("done")
        phone.shows(newest(site).events)
        for gone in (".awaits", ".verdicts:visible", ".stream-origin:visible:not(:empty)"):
            expect(page.locator(gone)).to_have_count(0)
        assert phone.errors == []  # to leave the page aborts what gradio still asks, which it calls an error
        page.goto(f"{site.url}?prompt=3%20%2B%204")
        expect(page.locator("#prompt textarea")).to_have_value("3 + 4")
        page.wait_for_selector(".models")
        expect(page.locator(".t")).to_have_count(0)


def test_a_setting_from_tune_moves_the_slider_and_shows_the_recorded_text_there(browser, recorded, tiny_pair):
    with (
        serve(lambda preset, progress: tiny_pair, "tiny", recorded=recorded) as site,
        window(browser, site, reduced_motion="reduce") as shown,
    ):
        page = shown.page
        page.click('role=tab[name="Tune on my prompts"]')
        page.fill("#tune-prompts textarea", "3 + 4\n5 + 6")
        page.click("#tune-run")
        page.wait_for_selector('.tune-state[data-state="done"]')
        page.focus(".tune-handle input")
        for key in ("Home", "ArrowRight", "ArrowRight"):
            page.keyboard.press(key)
        before = page.input_value(BOX)
        page.click(".tune-use")
        eventually(lambda: page.input_value(BOX) != before)
        threshold = float(page.input_value(BOX))
        place = min(range(101), key=lambda at: abs(recorded.scale[at] - threshold))
        expect(page.locator(DIAL)).to_have_value(str(place))
        shown.shows([trace for trace in recorded.traces if trace.threshold <= recorded.scale[place]][-1].events)
        assert shown.errors == []


def test_on_arrival_the_slider_plays_once_from_the_large_model_to_where_it_starts(browser, recorded):
    pair = FakePair()
    pair.threshold = 0.7
    with (
        serve(lambda preset, progress: pair, recorded=recorded) as site,
        window(browser, site, 1366, 768) as shown,
    ):
        page, start = shown.page, str(recorded.scale.index(recorded.threshold))
        page.add_init_script(
            """window.places = [];
            document.addEventListener('citer-place', () => places.push(document.querySelector('#balance').value));"""
        )
        page.evaluate("localStorage.removeItem('citer-played')")
        page.reload()
        eventually(lambda: page.evaluate("places.includes('100') && places.at(-1)") == start)
        shown.shows(recorded.traces[recorded.start].events)
        page.reload()
        shown.wait_tokens(11)
        page.wait_for_selector(".models")
        assert set(page.evaluate("places")) <= {start}, "not a second time"
        assert page.input_value(DIAL) == start
        page.click("#generate")
        eventually(lambda: newest(site))  # until then the recorded text is done
        shown.wait_state("done")
        assert newest(site).request.setting.threshold == pair.threshold, "where this pair starts, which is another"
        place = str(pair_scale(pair, "router").index(pair.threshold))
        assert place != start
        eventually(lambda: page.input_value(DIAL) == place)


def tokens_of(run) -> int:
    """Without the end, which is no token to a person."""
    return len(run.events) - (run.events[-1].finish_reason == "eos")


def test_the_chart_has_a_dot_for_each_token_a_line_that_follows_the_slider_and_opens_cards(browser, tiny_pair):
    with serve(lambda preset, progress: tiny_pair) as site, window(browser, site, 1366, 1000) as shown:
        page = shown.page
        shown.ask(PROMPT)
        shown.wait_state("done")
        first, dots, third = newest(site), page.locator(".scores-plot .point"), page.locator(".stream-text .t").nth(3)
        expect(dots).to_have_count(tokens_of(first))
        line = page.locator(".scores-plot .shapelayer path").first
        before = line.get_attribute("d")
        page.mouse.move(*along(page, 0.2))
        page.mouse.down()
        page.mouse.move(*along(page, 0.8), steps=4)
        eventually(lambda: line.get_attribute("d") != before)
        plot, drawn = page.locator(".scores-plot").bounding_box(), line.bounding_box()
        assert plot["y"] <= drawn["y"] <= plot["y"] + plot["height"], "the line is never outside the chart"
        page.keyboard.press("Escape")
        page.mouse.up()
        eventually(lambda: newest(site) is not first)
        shown.wait_state("done")
        eventually(lambda: not newest(site).active and dots.count() == tokens_of(newest(site)))
        dots.nth(3).hover(force=True)
        expect(third, "pointed at in the text, too").to_have_class(re.compile("pointed"))
        page.mouse.down()
        page.mouse.up()
        expect(third).to_have_class(re.compile("pinned"))
        expect(page.locator(".token-card")).to_be_visible()
        assert shown.errors == []


def test_a_reload_before_the_first_token_brings_the_text_and_not_the_recorded_one(browser, recorded):
    pair = FakePair(200)
    with serve(lambda preset, progress: pair, recorded=recorded) as site, window(browser, site, 1366, 768) as shown:
        eventually(lambda: site.host.scheduler)
        with paused(site.host):
            shown.ask("a palindrome")
            shown.wait_state("waiting")
            shown.reload()
            expect(shown.page.locator("#stop")).to_be_visible()
        shown.wait_state("done")
        eventually(lambda: shown.text() == "".join(event.text for event in newest(site).events))
        expect(shown.page.locator("#generate")).to_be_visible()
