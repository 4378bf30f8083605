"""What a visitor finds: a recorded text to drag the threshold through without a model, until there is one of theirs."""

from __future__ import annotations

import json
import lzma
import re
import threading
from itertools import pairwise

import pytest

from app.figures import percent
from app.recorded import FILE, Recorded, load_recorded, record
from app.share.buttons import taken
from app.share.open_trace import opened_run
from app.share.swept import opened_sweep
from engine import InvalidRequest, Prices, Request, Trace, WeightsError, load_settings
from engine.events import role_at
from tests.app.test_share import CLIPBOARD, download, says
from tests.support.browser import LATE_SLIDER, Window, along, check_contrast, eventually, expect, serve, window
from tests.support.fake_pair import FakePair

PROMPT = "Add 47 and 38, then take away 19."
"""The tiny models disagree about it at many tokens."""

MOVED = """window.moved = 0; window.moves = []; new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) if (!entry.hadRecentInput) {
    window.moved += entry.value;
    window.moves.push([entry.value, ...entry.sources.map(({ node }) => node?.id || node?.className || node?.nodeName)]);
  }
}).observe({ type: 'layout-shift', buffered: true });"""
"""What has moved without a hand, as browsers score it, and each time what."""

DIAL, BOX, HEADLINE = "#track input", "#threshold input[type=number]", "#headline"


@pytest.fixture(scope="module")
def recorded(tiny_pair) -> Recorded:
    traces = tuple(record(tiny_pair, Request(PROMPT, max_new_tokens=60), rows=12))
    return Recorded(0.9, "python -m app.recorded", "abc", "2 threads of a machine", traces)


@pytest.fixture(scope="module")
def site(recorded):
    with serve(
        lambda preset, progress: FakePair(), settings=load_settings(max_new_tokens=60), recorded=recorded
    ) as site:
        yield site


@pytest.fixture(scope="module")
def bare_site(recorded):
    """A page that can have no models."""

    def load(preset, progress):
        raise WeightsError("there are none")

    with serve(load, "tiny", recorded=recorded) as site:
        yield site


def shows(shown: Window, trace: Trace) -> None:
    """Waits until the page has the text and the authors of a trace."""
    authors = [event.role.value for event in trace.events]
    roles = "nodes => nodes.map(n => n.classList.contains('llm') ? 'llm' : 'slm')"
    eventually(lambda: shown.text() == trace.text and shown.page.eval_on_selector_all(".t", roles) == authors)


def headline(shown: Window) -> str:
    return shown.page.inner_text(HEADLINE).replace("\N{NARROW NO-BREAK SPACE}", " ")


def test_the_recorded_file_is_of_the_cpu_pair_and_its_text_changes_all_along_the_threshold():
    recorded = load_recorded()
    assert recorded is not None and FILE.stat().st_size < 400_000
    first, *_, last = recorded.traces
    assert {trace.preset for trace in recorded.traces} == {"cpu"} and first.prompt
    assert first.llm_share == 0 and last.llm_share == 1
    assert 60 <= max(len(trace.events) for trace in recorded.traces) <= 160
    assert re.match(r"(CITER_\w+=\S+ )*python -m app\.recorded", recorded.command) and "thread" in recorded.hardware
    assert len({trace.text for trace in recorded.traces}) > 5
    assert all(trace.finish_reason == "eos" for trace in recorded.traces)


def test_each_recorded_text_is_what_the_engine_writes_there_and_differs_from_the_one_before(recorded, tiny_pair):
    assert recorded.traces[0].threshold == 0 and recorded.traces[-1].threshold > 1
    for before, after in pairwise(recorded.traces):
        assert before.threshold < after.threshold
        assert any(role_at(e.score or 0.0, after.threshold) is not e.role for e in before.events)
    for trace in recorded.traces[::4]:
        alone = tiny_pair.generate(Request(PROMPT, trace.threshold, max_new_tokens=60))
        assert [(e.id, e.role) for e in trace.events] == [(e.id, e.role) for e in alone.events]


def test_another_price_changes_what_the_recorded_texts_cost_and_goes_out_with_them(
    browser, bare_site, recorded, tmp_path
):
    with window(browser, bare_site, 1366, 768) as shown:
        eventually(lambda: shown.page.locator(".t").count() > 10)
        shown.page.click('#unit label:has-text("price")')
        eventually(lambda: "of its cost" in headline(shown))
        before, text = headline(shown), shown.text()
        shown.slide("#llm-price", 9)
        eventually(lambda: "of its cost" in headline(shown) and headline(shown) != before)
        assert shown.text() == text and "Recorded" in shown.page.inner_text(".stream-origin")
        trace = Trace.load(download(shown, "json", tmp_path))
        assert trace.text == text and trace.prices == Prices(llm=9)
        content = (tmp_path / "text.json").read_text("utf-8")
        opened = opened_sweep(content, opened_run(content), trace.prices)
        assert opened is not None
        assert [list(row or ()) for row in opened.figures] == recorded.at(Prices(llm=9)).figures
        shown.slide("#llm-price", 1)
        eventually(lambda: headline(shown) == before)


def test_where_the_slider_comes_late_the_first_text_waits_for_it(browser, bare_site, recorded):
    start = next(trace for trace in reversed(recorded.traces) if trace.threshold <= recorded.threshold)
    with window(browser, bare_site, 1366, 768) as shown:
        late = Window(shown.page.context.new_page(), shown.url)  # a new one remembers no slider
        late.page.add_init_script(LATE_SLIDER)
        late.open()
        shows(late, start)
        expect(late.page.locator(DIAL)).not_to_have_value("0")
        assert start.text != recorded.traces[0].text and late.errors == []


def test_what_is_saved_is_loaded_again_and_anything_else_is_refused(recorded, tmp_path):
    path = tmp_path / "recorded.json.xz"
    recorded.save(path)
    assert load_recorded(path) == recorded
    assert load_recorded(tmp_path / "none") is None
    for junk in (b"junk", lzma.compress(b"{}"), lzma.compress(b"[1]"), path.read_bytes()[:-50]):
        path.write_bytes(junk)
        with pytest.raises(InvalidRequest, match="python -m app"):
            load_recorded(path)


def test_without_models_the_threshold_is_dragged_through_a_recorded_text_and_nothing_is_asked_for(
    browser, bare_site, recorded
):
    with window(browser, bare_site, 1366, 768) as shown:
        page = shown.page
        page.wait_for_selector("text=No models")
        eventually(lambda: page.locator(".t").count() > 10)
        page.wait_for_timeout(1000)
        about = page.inner_text(".stream-origin")
        for word in ("Recorded", PROMPT, "tiny SLM ⇄ LLM", "2 threads of a machine", "python -m app.recorded"):
            assert word in about
        page.mouse.move(*along(page, 0.5))
        page.mouse.down()
        shown.requests.clear()
        seen = set()
        for row, trace in enumerate(recorded.traces):
            page.mouse.move(*along(page, row / (len(recorded.traces) - 1)))
            shows(shown, trace)
            assert float(page.input_value(BOX)) == trace.threshold
            share = percent(trace.llm_share).replace("\N{NARROW NO-BREAK SPACE}", " ")
            eventually(lambda share=share: headline(shown).startswith(f"{share} by the LLM"))
            seen.add((headline(shown), shown.field("relative")))
        assert len(seen) == len(recorded.traces), "share and cost change with each"
        asked = [url for url in shown.requests if not url.endswith("/citer/pair")]  # whether the server is still there
        assert asked == []
        page.mouse.up()
        for selector in (HEADLINE, ".stream-text", DIAL):
            at = page.locator(selector).first.bounding_box()
            assert at["y"] >= 0 and at["y"] < 700, f"{selector} is on the first screen"
        page.hover(".t.llm >> nth=2")
        expect(page.locator(".inspector").first).to_contain_text("written by the LLM", use_inner_text=True)
        expect(page.locator(".inspector").first).to_contain_text("score", use_inner_text=True)
        assert shown.errors == []


def test_keys_go_from_text_to_text_and_a_number_is_taken_as_it_is(browser, site, recorded):
    with window(browser, site) as shown:
        page = shown.page
        eventually(lambda: float(page.input_value(BOX)) == 0.5, 20)  # the loaded pair's own start
        page.focus(DIAL)
        page.keyboard.press("Home")
        shows(shown, recorded.traces[0])
        for trace in recorded.traces[1:4]:
            page.keyboard.press("ArrowRight")
            shows(shown, trace)
        page.focus(BOX)
        page.keyboard.press("ArrowDown")
        shows(shown, recorded.traces[2])
        assert "below it → LLM" in (page.get_attribute(DIAL, "aria-valuetext") or "")
        low, high = recorded.traces[2].threshold, recorded.traces[3].threshold
        page.fill(BOX, f"{(low + high) / 2:.9f}")
        page.keyboard.press("Enter")
        eventually(lambda: "at threshold" in page.inner_text(".stream-state"))
        assert float(page.input_value(BOX)) == round((low + high) / 2, 9)


def test_who_comes_by_a_link_to_a_prompt_finds_no_other_text(browser, site):
    with window(browser, site) as shown:
        shown.page.goto(f"{site.url}?prompt=3%20%2B%204")
        eventually(lambda: shown.page.input_value("#prompt textarea") == "3 + 4")
        expect(shown.page.locator(".t")).to_have_count(0)
        expect(shown.page.locator(".sweep-body").first).to_be_hidden()


def test_on_a_telephone_a_finger_does_it_too(browser, site, recorded):
    with window(browser, site, 360, 780, has_touch=True, reduced_motion="reduce") as phone:
        eventually(lambda: phone.page.locator(".t").count() > 10)
        assert phone.page.evaluate("document.documentElement.scrollWidth") <= 360
        eventually(lambda: float(phone.page.input_value(BOX)) == 0.5, 20)  # the loaded pair's own start
        phone.page.locator(DIAL).evaluate("node => node.scrollIntoView({ block: 'center' })")
        for place, trace in ((0.003, recorded.traces[0]), (0.997, recorded.traces[-1])):
            x, y = along(phone.page, place)
            phone.page.touchscreen.tap(x, y)
            shows(phone, trace)
        check_contrast(phone.page, ".stream-origin", ".track-says", ".ends span", ".headline span")
        assert phone.errors == []


def test_a_recorded_text_can_be_taken_away_in_every_way(recorded):
    kinds = ("json", "html", "markdown", "picture", "link", "settings", "program")
    shipped = load_recorded()
    assert shipped is not None
    for each in (recorded, shipped):
        for row, trace in enumerate(each.traces):
            assert all(json.loads(taken(trace, each.sweep, kind) or "{}")["text"] for kind in kinds)
            link = json.loads(taken(trace, each.sweep, "link") or "{}")["text"]
            run = opened_run(link)
            opened = opened_sweep(link, run, Prices())
            assert [event.text for event in run.events] == [event.text for event in trace.events]
            assert opened is not None and opened.leaves[row] == each.sweep.leaves[row] >= 0


def test_a_recorded_text_goes_out_as_a_picture_and_as_a_link_that_is_scrubbed_through(browser, bare_site, recorded):
    with window(browser, bare_site, **CLIPBOARD) as shown:
        page = shown.page
        page.wait_for_selector(".t >> nth=10")
        page.focus(DIAL)
        page.keyboard.press("Home")
        shows(shown, recorded.traces[0])
        with page.expect_download() as coming:
            page.click('[data-take="picture"]')
        assert coming.value.suggested_filename.endswith(".png")
        page.click('[data-take="link"]')
        said = says(shown, "Copied the link")
        assert "this very text is in it" in said
        link = page.evaluate("navigator.clipboard.readText()")
        page.focus(DIAL)
        page.keyboard.press("End")
        shows(shown, recorded.traces[-1])
        assert page.inner_text(".share-said") == "", "that was said of another text"
        page.wait_for_timeout(700)
        assert page.evaluate("sessionStorage.getItem('citer-text')") is None, "it comes with the page"
        shown.reload()
        page.wait_for_selector(".sweep-prompt:visible")
        with window(browser, bare_site) as there:
            there.url = link
            there.open()
            shows(there, recorded.traces[0])
            eventually(lambda: "scrub through" in there.page.inner_text(".link-note"))
            there.page.focus(DIAL)
            there.page.keyboard.press("End")
            shows(there, recorded.traces[-1])
            assert there.errors == []
        assert shown.errors == []


def test_the_inspector_says_that_a_recorded_text_holds_no_candidates(browser, site):
    with window(browser, site) as shown:
        page, none = shown.page, "A recorded text holds no candidates"
        page.wait_for_selector(".t >> nth=10")
        page.mouse.move(2, 2)
        hint = page.inner_text(".inspector")
        assert none in hint and "branch" not in hint
        page.click(".t >> nth=2")
        page.wait_for_selector(".inspector .facts")
        assert none in page.inner_text(".inspector")
        expect(page.locator(".candidate")).to_have_count(0)
        check_contrast(page, ".inspector .hint")
        page.wait_for_selector("text=fake-r1", timeout=20_000)
        shown.write("a palindrome")
        page.mouse.move(2, 2)
        eventually(lambda: "its candidates branch the text" in page.inner_text(".inspector"))


@pytest.mark.parametrize(("width", "height", "preset"), [(1920, 1080, "cpu"), (1366, 768, "tiny"), (360, 780, "cpu")])
def test_little_moves_while_the_page_fills_and_the_models_load(browser, recorded, tiny_pair, preset, width, height):
    page_is_there = threading.Event()

    def load(*asked, progress):
        page_is_there.wait(20)
        return tiny_pair if preset == "tiny" else FakePair()

    with serve(load, preset, recorded=recorded) as site, window(browser, site, width, height) as shown:
        shown.page.add_init_script(MOVED)
        shown.open()
        shown.page.wait_for_selector(".loading")
        shown.page.wait_for_selector(".t >> nth=10")
        before = shown.page.locator("#tabs").bounding_box()
        page_is_there.set()
        shown.page.wait_for_selector("text=router ")
        shown.page.wait_for_timeout(1000)
        assert shown.page.evaluate("window.moved") <= 0.1, shown.page.evaluate("window.moves")
        assert abs(shown.page.locator("#tabs").bounding_box()["y"] - before["y"]) <= 25, "a line of the header"
        around = shown.page.locator(".gradio-container").first.bounding_box()
        assert (around["x"], around["width"]) == (0, width), "as before the styles came: gradio's loader stands in it"


def test_while_a_prompt_is_read_the_text_before_is_paler_and_said_to_be_that(browser, site, monkeypatch):
    asked, write = threading.Event(), FakePair.write

    def write_later(*arguments):
        asked.wait(20)
        return write(*arguments)

    monkeypatch.setattr(FakePair, "write", write_later)
    with window(browser, site) as shown:
        page = shown.page
        page.wait_for_selector("text=fake-r1", timeout=20_000)
        bold, origin = (
            "getComputedStyle(document.querySelector('.headline b')).fontWeight",
            page.locator(".stream-origin"),
        )
        expect(page.locator(".headline b").first).to_be_visible()
        assert page.evaluate(bold) == "700"
        shown.ask("a palindrome")
        expect(origin).to_have_text("This is the text before. Yours takes its place with its first token.")
        expect(page.locator(".stream-state")).to_have_text("Reading the prompt …")
        check_contrast(page, ".t.slm", ".t.llm", ".headline")
        assert page.evaluate(bold) == "400", "its figures, too"
        plain = "getComputedStyle(document.querySelector('.stream-text .t')).backgroundColor"
        assert page.evaluate(plain) == "rgba(0, 0, 0, 0)", "no author's colour"
        asked.set()
        shown.wait_state("done")
        expect(origin).to_have_text("")
        assert page.evaluate(bold) == "700"
        assert page.locator(".awaits").count() == 0 and shown.text().startswith("Here is a function")


def test_a_prompt_of_the_visitors_takes_its_place(browser, site):
    with window(browser, site) as shown:
        page = shown.page
        eventually(lambda: page.is_visible(".sweep-prompt"))
        page.click(".sweep-prompt")
        expect(page.locator("#prompt textarea")).to_have_value(PROMPT)
        page.wait_for_selector("text=fake-r1", timeout=20_000)
        assert page.locator(".stream-origin").bounding_box()["height"] == 60, "room for what is said of a recorded text"
        shown.write("a palindrome")
        assert page.inner_text(".stream-origin") == ""
        assert page.locator(".stream-origin").bounding_box()["height"] == 20
        expect(page.locator(".sweep-body").first).to_be_hidden()
        shown.see_plots()
        eventually(lambda: page.locator('[data-plot="score"] .point').count() > 10)
        box = page.locator('[data-plot="score"]').bounding_box()
        assert box["width"] > 300, "the plots have their width, though they were hidden at first"
        text, run = shown.text(), site.sessions._all()[-1].run
        page.mouse.move(*along(page, 0.9))
        page.mouse.down()
        page.wait_for_selector(".t.flip")
        assert shown.text() == text, "the dial is about that text now"
        page.mouse.up()
        eventually(lambda: site.sessions._all()[-1].run is not run)
        assert shown.errors == []
