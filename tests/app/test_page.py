"""The page in Chromium, in front of a pair that needs no models: what a person does, and what they see."""

from __future__ import annotations

import re
import threading
import time

import pytest

from engine import Role, WeightsError
from tests.support.browser import Site, Window, eventually, expect, paused, serve, window
from tests.support.fake_pair import ANSWER, FakePair


@pytest.fixture
def shown(site_window, pair):
    """The page as it is when freshly opened: a new session, in a window that has the scripts cached."""
    pair.tokens_per_second, pair.prefill_seconds = 200.0, 0.0
    site_window.open()
    yield site_window
    eventually(lambda: pair.open_streams == 0)


def test_the_text_arrives_whole_and_every_token_has_the_colour_of_its_author(shown: Window, site: Site):
    text = shown.write("a palindrome, please")
    assert ANSWER.startswith(text) and len(text) > 100
    (session,) = [s for s in site.sessions._sessions.values() if s.shown]
    roles = [event.role for event in session.shown.events]
    classes = shown.page.eval_on_selector_all(".t", "nodes => nodes.map(n => n.classList.contains('llm'))")
    assert classes == [role is Role.LLM for role in roles]
    llm = roles.count(Role.LLM)
    expect(shown.page.locator(".key-llm").first).to_contain_text(f"{llm} · {100 * llm / 60:.0f} %")
    underlined = shown.page.locator(".t.llm").first.evaluate("node => getComputedStyle(node).textDecorationLine")
    assert underlined == "underline", "colour is not the only cue"
    assert shown.errors == []


_TYPED_WITHIN_A_FRAME = """async () => {
  const paint = window.requestAnimationFrame, held = [], field = () => document.querySelector('#max-draft input');
  window.requestAnimationFrame = (draw) => held.push(draw);
  [...document.querySelectorAll('#sampling-card button')].find((node) => node.textContent.includes('Sampling')).click();
  while (!field()) await new Promise((resolve) => setTimeout(resolve, 10));
  field().value = '3';
  field().dispatchEvent(new Event('input', { bubbles: true }));
  await new Promise((resolve) => setTimeout(resolve, 200));
  window.requestAnimationFrame = paint;
  held.forEach((draw) => paint(draw));
}"""


def test_what_is_typed_before_a_slow_browser_has_drawn_the_fields_is_kept(shown: Window, site: Site):
    shown.page.evaluate(_TYPED_WITHIN_A_FRAME)
    shown.page.wait_for_timeout(300)
    expect(shown.page.locator("#max-draft input")).to_have_value("3")
    shown.write("echo one two")
    (session,) = [s for s in site.sessions._sessions.values() if s.shown]
    assert session.run.request.max_draft == 3


def test_one_line_beside_the_dials_says_what_the_meter_says(shown: Window):
    assert shown.page.inner_text(".headline") == "Share and cost of your text"
    shown.write("a palindrome")
    shown.page.wait_for_selector(".dashboard [data-field=relative]:has-text('%')")
    parts = shown.page.eval_on_selector_all(".headline > span", "nodes => nodes.map((node) => node.textContent)")
    share, cost, speed = [" ".join(part.replace("\N{NARROW NO-BREAK SPACE}", " ").split()) for part in parts]
    assert share == f"{shown.field('share')} by the LLM"
    assert cost == f"{shown.field('relative')} of its cost"
    assert speed.endswith(" times as fast")


def test_shares_that_stand_beside_each_other_sum_to_100(shown: Window):
    call = """async (shares) => {
      const { percent, restPercent } = await import(new URL('gradio_api/citer/page/lib/format.js', document.baseURI));
      return shares.map((share) => [percent(share), restPercent(share)]);
    }"""
    told = shown.page.evaluate(call, [0, 0.0004, 0.034, 0.0996, 0.5, 0.946, 0.9996, 1])
    assert told == [
        ["0 %", "100 %"], ["<0.1 %", ">99.9 %"], ["3.4 %", "96.6 %"], ["10 %", "90 %"], ["50 %", "50 %"],
        ["95 %", "5 %"], ["100 %", "<1 %"], ["100 %", "0 %"],
    ]  # fmt: skip
    shown.write("a palindrome")
    keys = [shown.page.inner_text(f".stream .key-{author}") for author in ("slm", "llm")]
    assert sum(float(key.split(" · ")[1].split()[0]) for key in keys) == 100


def test_a_text_that_ended_itself_shows_a_chip(shown: Window):
    assert shown.write("echo one two") == "one two"
    assert shown.page.text_content(".t.end") == "end"
    expect(shown.page.locator(".stream-state").first).to_contain_text("ended itself")


def test_a_text_in_hebrew_is_laid_out_from_right_to_left_token_by_token(shown: Window):
    shown.write("echo שלום עולם טוב")
    box, (first, *rest) = shown.page.locator(".stream-text").bounding_box(), boxes(shown)
    assert box["x"] + box["width"] - first["right"] < 20, "it begins at the right"
    lefts = [first["left"], *(token["left"] for token in rest if token["width"])]
    assert len(lefts) == 4 and lefts == sorted(lefts, reverse=True)


def test_an_override_of_the_direction_is_seen_and_turns_no_token_round(shown: Window):
    shown.write("echo one \u202etwo\u2067 three\u2069 four")
    assert shown.text() == "one \ufffdtwo\ufffd three\ufffd four"
    lefts = [token["left"] for token in boxes(shown)]
    assert lefts == sorted(lefts)


def boxes(shown: Window) -> list[dict[str, float]]:
    return shown.page.eval_on_selector_all(".t", "nodes => nodes.map(node => node.getBoundingClientRect().toJSON())")


def test_pointing_at_a_token_shows_who_wrote_it_and_why(shown: Window):
    shown.write("a palindrome")
    shown.page.hover(".t.llm >> nth=0")
    facts = shown.page.text_content(".inspector .facts")
    assert "written by the LLM" in facts and "< threshold 0.5000 → LLM" in facts and "SLM read" in facts
    expect(shown.page.locator(".candidate")).to_have_count(10)
    shown.page.hover(".t.slm >> nth=1")
    expect(shown.page.locator(".inspector .facts").first).to_contain_text("≥ threshold 0.5000 → SLM")
    expect(shown.page.locator(".inspector .chip").first, "spaces are spelled out").to_contain_text("·")


def test_what_a_token_cost_is_said_in_the_unit_that_is_chosen_also_of_one_that_was_looked_at_before(shown: Window):
    def cost() -> str:
        return "".join(shown.page.locator(".inspector .cost").all_text_contents())

    shown.write("a palindrome")
    shown.page.click('.t[data-i="2"]')
    eventually(lambda: "GB (" in cost() or "MB (" in cost())
    shown.page.click('#unit label:has-text("FLOPs")')
    shown.page.hover('.t[data-i="2"]')
    eventually(lambda: "FLOP (" in cost())
    shown.page.click('#unit label:has-text("price")')
    eventually(lambda: cost() and "FLOP" not in cost())
    before = cost()
    shown.slide("#slm-price", 2)
    eventually(lambda: cost() not in ("", before))


def test_every_token_can_be_inspected_with_the_keyboard(shown: Window):
    shown.write("echo a\nb")
    shown.page.focus(".stream-text")
    seen = []
    for _ in range(4):
        shown.page.keyboard.press("ArrowRight")
        seen.append(shown.page.text_content(".inspector .chip"))
    assert seen == ["a", "⏎", "b", "end"]
    shown.page.keyboard.press("Home")
    shown.page.keyboard.press("Enter")
    shown.page.focus("#prompt textarea")
    expect(shown.page.locator(".inspector .facts").first, "pinned").to_contain_text("token 1,")


def test_the_buttons_walk_from_one_llm_token_to_the_next(shown: Window):
    shown.write("a palindrome")
    places = shown.page.eval_on_selector_all(".t.llm", "nodes => nodes.map(node => Number(node.dataset.i) + 1)")
    for expected in places[:2]:
        shown.page.click('[data-jump="1"]')
        expect(shown.page.locator(".inspector .facts").first).to_contain_text(f"token {expected},")
    shown.page.click('[data-jump="-1"]')
    expect(shown.page.locator(".inspector .facts").first).to_contain_text(f"token {places[0]},")


def test_the_threshold_applies_to_the_next_token_of_a_run_that_is_on(shown: Window, pair: FakePair):
    pair.tokens_per_second = 6
    shown.slide("#threshold", 0)
    shown.ask("a palindrome")
    shown.page.wait_for_selector(".t >> nth=5")
    before = len(shown.tokens())
    shown.slide("#threshold", 1.01)
    shown.page.wait_for_selector(".t.llm")
    pair.tokens_per_second = 200
    shown.wait_state("done")
    authors = shown.page.eval_on_selector_all(".t", "nodes => nodes.map(n => n.classList.contains('llm'))")
    first = authors.index(True)
    assert before <= first < before + 15, "applied within seconds, and only to later tokens"
    assert not any(authors[:first]) and all(authors[first:])


def test_after_a_run_the_slider_marks_what_would_change(shown: Window, site: Site, pair: FakePair):
    shown.write("a palindrome")
    session = eventually(lambda: next((s for s in site.sessions._sessions.values() if s.shown), None))
    before, asked = session.shown, len(pair.requests)
    flips = [e.index for e in before.events if e.score is not None and 0.5 <= e.score < 0.8]
    with paused(site.host):  # so that nothing is written yet
        shown.slide("#threshold", 0.8)
        shown.page.wait_for_selector(".t.flip")
        marked = shown.page.eval_on_selector_all(".t.flip", "nodes => nodes.map(node => Number(node.dataset.i))")
        assert marked == flips
        expect(shown.page.locator(".stream-preview").first).to_contain_text(f"first at token {flips[0] + 1}")
        stale = shown.page.eval_on_selector_all(".t.stale", "nodes => nodes.map(node => Number(node.dataset.i))")
        assert stale == list(range(flips[0] + 1, 60)), "what follows is not yet true"
    eventually(lambda: session.shown is not before and session.shown.state == "done")
    assert session.shown.request.threshold == 0.8 and len(pair.requests) == asked + 1


def test_stop_keeps_what_is_there_and_frees_the_models(shown: Window, pair: FakePair):
    pair.tokens_per_second = 20
    shown.ask("a palindrome")
    shown.page.wait_for_selector(".t >> nth=3")
    shown.page.click("#stop")
    shown.page.click("#stop", force=True)
    eventually(lambda: pair.open_streams == 0, 1)
    shown.wait_state("stopped")
    assert 3 < len(shown.tokens()) < 40
    eventually(lambda: shown.page.is_disabled("#stop"))


def test_closing_the_tab_stops_the_models_and_forgets_the_session(browser, site: Site, pair: FakePair):
    pair.tokens_per_second = 5
    before = set(site.sessions._sessions)
    with window(browser, site) as shown:
        shown.ask("a palindrome")
        shown.page.wait_for_selector(".t")
        assert pair.open_streams == 1 and set(site.sessions._sessions) - before
    eventually(lambda: pair.open_streams == 0, 3)
    eventually(lambda: not set(site.sessions._sessions) - before, 3)


def test_a_second_generate_stops_the_first_and_nothing_is_mixed(shown: Window, pair: FakePair):
    pair.tokens_per_second = 20
    shown.ask("a palindrome")
    shown.page.wait_for_selector(".t >> nth=3")
    pair.tokens_per_second = 100
    shown.ask("echo the second text only")
    shown.page.wait_for_selector(".t.end")
    assert shown.text() == "the second text only"
    eventually(lambda: pair.open_streams == 0)
    assert shown.page.text_content(".stream-total") == f"{shown.page.locator('.t').count()} tokens"
    eventually(lambda: shown.page.is_disabled("#stop"))


def test_unit_and_prices_reprice_the_text_without_running_it_again(shown: Window, pair: FakePair):
    shown.write("a palindrome")
    eventually(lambda: shown.field("tokens") == "60")
    asked, share = len(pair.requests), shown.field("share")
    assert shown.field("run").endswith("GB") and shown.field("saves").startswith("saves")
    expect(shown.page.locator("#llm-price"), "it is there where price is chosen").to_be_hidden()
    for label, written in (("FLOPs", "[0-9.]+ .FLOP"), ("seconds", "[0-9.]+ s"), ("price", "0[.][0-9]+")):
        shown.page.click(f'#unit label:has-text("{label}")')
        eventually(lambda written=written: re.fullmatch(written, shown.field("run")))
    before = shown.field("run")
    shown.slide("#llm-price", 5)
    eventually(lambda: shown.field("run") != before)
    assert shown.field("share") == share and len(pair.requests) == asked


def test_prices_also_change_a_text_that_is_being_written(shown: Window, pair: FakePair):
    shown.page.click('#unit label:has-text("price")')
    pair.tokens_per_second = 20
    shown.ask("a palindrome")
    eventually(lambda: re.fullmatch(r"0\.0*[1-9][0-9]*", shown.field("run")))
    shown.slide("#slm-price", 0)
    shown.slide("#llm-price", 0)
    eventually(lambda: shown.field("run") == "0")
    pair.tokens_per_second = 200
    shown.wait_state("done")
    assert shown.field("run") == "0" and shown.field("saves") == "nothing to save"


def test_plots_out_of_sight_are_not_drawn_nor_plotly_loaded_until_they_are_seen(shown: Window):
    shown.write("a palindrome")
    assert shown.page.locator(".plots").bounding_box()["y"] > 1000
    assert shown.page.evaluate("window.Plotly === undefined && document.querySelector('.plot').childElementCount === 0")
    assert not any("plotly" in url for url in shown.requests)
    shown.see_plots()
    eventually(lambda: shown.page.locator('[data-plot="score"] .point').count() == 60, 10)
    ends = "[...document.querySelectorAll('.plot')].map(({ data }) => data.at(-1).x.length)"
    shown.page.evaluate("scrollTo(0, 0)")
    eventually(lambda: shown.page.locator(".plots").bounding_box()["y"] > 1000)
    shown.page.wait_for_timeout(100)  # the browser tells the page in a frame of its own
    before = shown.page.evaluate(ends)
    shown.write("echo a text of another length")
    count = len(shown.tokens()) + 1  # the end token is one, too
    assert shown.page.evaluate(ends) == before == [60, 60] != [count, count]
    shown.see_plots()
    eventually(lambda: shown.page.evaluate(ends) == [count, count])


def test_plotly_is_asked_for_again_where_it_did_not_come(shown: Window):
    shown.page.route("**/plotly.min.js", lambda route: route.abort())
    shown.write("a palindrome")
    shown.see_plots()
    eventually(lambda: any("could not be loaded" in error for error in shown.errors))
    shown.page.unroute("**/plotly.min.js")
    shown.errors.clear()
    shown.write("a palindrome")
    shown.see_plots()
    eventually(lambda: shown.page.locator('[data-plot="score"] .point').count() == 60, 10)


def test_the_plots_show_every_token(shown: Window):
    shown.write("a palindrome")
    shown.see_plots()
    eventually(lambda: shown.page.locator('[data-plot="score"] .point').count() == 60, 10)
    lines = '[data-plot="cost"] .js-line'
    eventually(lambda: shown.page.locator(lines).count() == 3)  # it is drawn a frame after the other
    ends = "document.querySelector('[data-plot=\"cost\"]').data.map(trace => trace.x.length)"
    eventually(lambda: shown.page.evaluate(ends) == [60, 60, 60])


@pytest.mark.parametrize(
    "text",
    [
        "<img src=x onerror=window.hacked=1><script>window.hacked=1</script>",
        "${window.hacked=1} {{value}} {{#each value}}x{{/each}} `${1+1}`",
        "<b>not bold</b> &lt;i&gt; &amp;",
    ],
)
def test_markup_and_templates_are_shown_as_plain_text(shown: Window, text: str):
    assert shown.write("echo " + text) == text
    shown.page.hover(".t >> nth=0")
    assert shown.page.evaluate("window.hacked") is None
    expect(shown.page.locator(".stream-text img, .stream-text script, .stream-text b")).to_have_count(0)
    expect(shown.page.locator("#prompt textarea")).to_have_value("echo " + text)


def test_escape_sequences_are_shown_and_have_no_effect(shown: Window):
    assert shown.write("echo \x1b[31mred\x1b[0m\x07 \u009b2J") == "␛[31mred␛[0m␇ �2J"


def test_writing_systems_emoji_and_joined_marks_arrive_whole(shown: Window):
    text = "日本語 e\u0301 👩‍👩‍👧 עברית"
    assert shown.write("echo " + text) == text


def test_an_empty_prompt_is_refused_and_the_last_text_stays(shown: Window, pair: FakePair):
    text = shown.write("echo keep me")
    asked = len(pair.requests)
    shown.ask("   ")
    shown.page.wait_for_selector("text=The prompt is empty")
    assert shown.text() == text and len(pair.requests) == asked
    expect(shown.page.locator("#generate")).to_be_enabled()
    eventually(lambda: shown.page.is_disabled("#stop"))


def test_a_prompt_beyond_the_context_is_refused_with_both_numbers_and_loses_nothing(shown: Window):
    text = shown.write("echo keep me")
    prompt = "word " * 3000
    shown.ask(prompt)
    shown.page.wait_for_selector("text=The prompt has 3,020 tokens, the context holds 2,048")
    shown.wait_state("failed")
    assert shown.text() == text
    expect(shown.page.locator("#prompt textarea")).to_have_value(prompt)
    assert shown.write("echo still works") == "still works"


@pytest.mark.parametrize("before", ["", "echo keep me"])
def test_a_refusal_is_told_once_however_often_the_feed_is_opened(shown: Window, before: str):
    if before:
        shown.write(before)
    shown.ask("word " * 3000)
    shown.wait_state("failed")
    shown.page.click(".toast-close")
    toast = shown.page.locator(".toast-body")
    expect(toast).to_have_count(0)
    shown.page.wait_for_timeout(2500)  # the feed is closed by then
    with shown.page.expect_response("**/citer/feed/**"):
        shown.page.evaluate("document.dispatchEvent(new CustomEvent('citer-start'))")
    shown.page.wait_for_timeout(1000)
    expect(toast).to_have_count(0)


def test_a_value_out_of_range_is_refused_in_the_engines_words(shown: Window):
    shown.page.click("text=Sampling and prompt format")
    shown.page.fill("#max-new-tokens input", "-3")
    shown.ask("a palindrome")
    shown.page.wait_for_selector("text=max_new_tokens = -3 must be a whole number from 1")


def test_two_windows_never_see_each_others_text_or_sliders(browser, site: Site, shown: Window, pair: FakePair):
    pair.tokens_per_second = 60
    with window(browser, site) as other:
        shown.slide("#threshold", 0)
        other.slide("#threshold", 1.01)
        shown.ask("echo " + "first " * 30)
        other.ask("echo " + "second " * 30)
        shown.page.wait_for_selector(".t.end")
        other.page.wait_for_selector(".t.end")
        assert shown.text() == "first " * 30 and other.text() == "second " * 30
        assert shown.tokens(".llm") == [] and other.tokens(".slm") == []


def test_who_finds_all_rows_taken_is_told_the_place_in_line_and_then_served(
    browser, site: Site, shown: Window, pair: FakePair, monkeypatch
):
    pair.tokens_per_second = 5
    monkeypatch.setattr(site.host.scheduler, "bound", 1)
    shown.ask("a palindrome")
    shown.page.wait_for_selector(".t")
    with window(browser, site) as other:
        other.ask("echo served")
        other.page.wait_for_selector("text=Waiting: place 1 in line")
        pair.tokens_per_second = 200
        other.page.wait_for_selector(".t.end")
        assert other.text() == "served"


def test_an_example_fills_in_the_prompt(shown: Window):
    shown.page.click("text=Palindrome")
    eventually(lambda: "palindrome" in shown.page.input_value("#prompt textarea"))


def test_the_page_is_usable_while_the_models_load(browser, pair: FakePair):
    from engine.weights.progress import Progress

    go = threading.Event()

    def load(preset, progress):
        progress(Progress("qwen2.5-coder-1.5b", 312_000_000, 1_117_320_768, 14_000_000.0, "hub"))
        go.wait(20)
        return pair

    with serve(load) as site, window(browser, site) as shown:
        shown.page.wait_for_selector("text=312 of 1,117 MB")
        header = shown.page.text_content("#models")
        assert "14.0 MB/s" in header and "Hugging Face Hub" in header
        shown.slide("#threshold", 0)
        shown.ask("echo worth the wait")
        shown.page.wait_for_selector("text=Waiting for the models to load")
        go.set()
        shown.page.wait_for_selector(".t.end")
        assert shown.text() == "worth the wait" and shown.tokens(".llm") == []
        shown.page.wait_for_selector("text=Qwen2.5-Coder 0.5B ⇄ 1.5B")


def test_stop_also_ends_the_wait_for_models(browser):
    go = threading.Event()
    with serve(lambda preset, progress: go.wait(20) and FakePair()) as site, window(browser, site) as shown:
        shown.ask("echo never")
        shown.page.wait_for_selector("text=Waiting for the models to load")
        shown.page.click("#stop")
        shown.wait_state("stopped")
        go.set()
        time.sleep(0.3)
        assert shown.tokens() == []


def test_when_the_weights_cannot_be_had_the_page_runs_the_tiny_pair_and_says_why(browser):
    def load(preset, progress):
        if preset != "tiny":
            raise WeightsError("The Hub and the mirror are unreachable.")
        return FakePair(preset="tiny")

    with serve(load, "cpu") as site, window(browser, site) as shown:
        shown.page.wait_for_selector(".warning")
        warning = shown.page.text_content(".warning")
        assert "tiny pair instead" in warning and "The Hub and the mirror are unreachable." in warning
        shown.page.wait_for_selector("text=Shells")
        expect(shown.page.locator("text=Regular expression").first).to_be_hidden()
        assert shown.write("echo it works") == "it works"


def test_an_address_that_is_none_is_told_by_its_variable():
    from app.page import host_fault

    assert host_fault(None) is None and host_fault("127.0.0.1") is None and host_fault("localhost") is None
    for host in ("192.0.2.7", "no.such.host.invalid", "x" * 200):
        assert str(host_fault(host)).startswith(f"CITER_SERVER__HOST = {host[:79]}")
