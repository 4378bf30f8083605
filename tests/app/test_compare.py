"""The tab Compare in Chromium, on the tiny pair: what a person does there, and what they see."""

from __future__ import annotations

import base64
import re
import threading
import time
from dataclasses import replace

import pytest

import engine
from app.compare.comparison import difference
from app.figures import amount, meter, percent
from engine import InvalidRequest, Request
from engine.batch.handle import Handle
from engine.events import taken_back
from engine.events.cost import modelled_seconds
from engine.scheduler import Scheduler
from tests.support.browser import Site, Window, check_contrast, eventually, expect, move, paused, sizes, window
from tests.support.paths import TINY

pytestmark = pytest.mark.skipif(not (TINY / "llm").is_dir(), reason="the tiny pair is not in assets/tiny")

PROMPT = "Ben has $20. Ben earns $15. Ben spends $9. How much money is it now?"
OTHER = "Mia has 12 shells. Mia finds 7 more. A friend brings 5. How many shells are there now?"
COLUMNS = ("slm", "middle", "llm")
AT_SHARE = "chance, at the router's share"
TOKENS = 60  # what `browser.serve` starts the page with
DONE = '.compare-state[data-state="done"]'


@pytest.fixture(scope="module")
def pair(tiny_pair):
    """The shipped tiny pair and its router behind the page, with passes that always take the same made-up seconds."""
    measured = tiny_pair.slm.cost, tiny_pair.llm.cost
    tiny_pair.slm.cost = replace(measured[0], pass_seconds=0.01, token_seconds=0.001)
    tiny_pair.llm.cost = replace(measured[1], pass_seconds=0.03, token_seconds=0.002)
    yield tiny_pair
    tiny_pair.slm.cost, tiny_pair.llm.cost = measured


@pytest.fixture
def shown(site_window, pair):
    """The tab, freshly opened, once the models have arrived there: until then they may set its threshold."""
    site_window.open()
    enter(site_window)
    eventually(lambda: stands_at(site_window) == pair.threshold)
    yield site_window
    assert site_window.errors == []


@pytest.fixture(scope="module")
def compared(browser, site, pair):
    """A window with SLM-only, routed and LLM-only text for the prompt; who changes what it shows changes it back."""
    with window(browser, site) as shown:
        enter(shown)
        eventually(lambda: stands_at(shown) == pair.threshold)
        compare(shown)
        yield shown
        assert shown.errors == []


@pytest.fixture
def held(monkeypatch):
    """Holds every comparison after four tokens of each text, until it is set or the comparison is cancelled."""
    go_on, plain = threading.Event(), Scheduler._arrange

    def arrange(scheduler):
        texts = [*scheduler._held.running]
        while texts and all(len(text.stream) == 4 for text in texts) and not go_on.is_set():
            if any(text.cancelled for text in texts):
                break
            time.sleep(0.01)
        plain(scheduler)

    monkeypatch.setattr(Scheduler, "_arrange", arrange)
    return go_on


def enter(shown: Window) -> None:
    shown.page.wait_for_selector("text=tiny SLM")
    shown.page.click('role=tab[name="Compare"]')
    shown.page.wait_for_selector("#compare-start")


def stands_at(shown: Window) -> float:
    return float(shown.page.input_value("#compare-threshold input[type=number]"))


def ask(shown: Window, prompt: str = PROMPT) -> None:
    shown.page.fill("#compare-prompt textarea", prompt)
    shown.page.click("#compare-start")


def compare(shown: Window, prompt: str = PROMPT) -> None:
    last = shown.page.get_attribute(".compare-state", "data-run")
    ask(shown, prompt)
    shown.page.wait_for_selector(f'{DONE}:not([data-run="{last}"])')


def choose(shown: Window, label: str) -> None:
    shown.page.click("#compare-policy input")
    shown.page.click(f'[role="option"] >> text="{label}"')


def words(shown: Window, key: str, kind: str = "") -> list[str]:
    """Texts of a column's tokens without the end chip."""
    selector = f'[data-column="{key}"] .w{kind}:not(.end)'
    return shown.page.eval_on_selector_all(selector, "nodes => nodes.map(node => node.textContent)")


def authors(shown: Window, key: str) -> list[str]:
    script = "nodes => nodes.map(node => node.classList.contains('llm') ? 'llm' : 'slm')"
    return shown.page.eval_on_selector_all(f'[data-column="{key}"] .w', script)


def says(shown: Window, selector: str) -> str:
    return " ".join(shown.page.inner_text(selector).replace("\N{NARROW NO-BREAK SPACE}", " ").split())


def scrub(shown: Window, share: float) -> None:
    """Moves the time axis to a share of its length."""
    move(shown.page, ".compare-scrub", round(1000 * share))


def seconds_of(pair, trace) -> list[float]:
    """Per token of a trace, the modelled seconds up to it."""
    return [modelled_seconds(trace.events[: n + 1], pair.slm_cost, pair.llm_cost) for n in range(len(trace.events))]


def traces(pair, threshold: float, policy: str = "router", prompt: str = PROMPT, acceptance: float = 0.0):
    """What the engine writes for the three columns, each text by itself."""
    return {
        key: pair.generate(prompt, policy=name, threshold=threshold, acceptance=kept, max_new_tokens=TOKENS)
        for key, name, kept in zip(COLUMNS, ("slm", policy, "llm"), (0.0, acceptance, 0.0), strict=True)
    }


def running() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("citer-run")]


def test_the_threshold_starts_at_the_routers_own_and_stays_where_a_hand_puts_it(shown: Window, pair):
    assert stands_at(shown) == pair.threshold != engine.DEFAULT_THRESHOLD
    shown.slide("#compare-threshold", engine.DEFAULT_THRESHOLD)
    compare(shown)
    assert stands_at(shown) == engine.DEFAULT_THRESHOLD
    assert says(shown, '[data-column="middle"] h2') == "trained router, threshold 0.5", (
        "a 0.5 that was chosen is a choice"
    )


def test_the_three_texts_are_those_that_each_would_be_alone(compared: Window, pair):
    for key, trace in traces(pair, pair.threshold).items():
        assert "".join(words(compared, key)) == trace.text
        assert authors(compared, key) == [event.role.value for event in trace.events]
        assert compared.page.text_content(f'[data-column="{key}"] .end') == "end"
    underlined = compared.page.locator(".compare .w.llm").first.evaluate(
        "node => getComputedStyle(node).textDecorationLine"
    )
    assert underlined == "underline", "colour is not the only cue"
    assert all(url.startswith((compared.url, "data:", "blob:")) for url in compared.requests)


@pytest.mark.parametrize(("label", "policy", "threshold"), [
    ("SLM's own confidence", "confidence", 0.9), ("chance", "random", 0.4), ("trained router", "router", 0.5),
])  # fmt: skip
def test_any_policy_can_take_the_middle_place(shown: Window, pair, label, policy, threshold):
    choose(shown, label)
    shown.slide("#compare-threshold", threshold)
    compare(shown)
    for key, trace in traces(pair, threshold, policy).items():
        assert "".join(words(shown, key)) == trace.text
        assert authors(shown, key) == [event.role.value for event in trace.events]
    assert says(shown, '[data-column="middle"] h2') == f"{label}, threshold {threshold}"


def test_the_playgrounds_acceptance_is_the_middle_texts_and_of_neither_model_alone(shown: Window, pair):
    shown.page.click('role=tab[name="Playground"]')
    shown.slide("#acceptance", 0.6)
    shown.page.click('role=tab[name="Compare"]')
    eventually(lambda: says(shown, ".compare-acceptance") == "acceptance 0.6, as on the Playground")
    shown.slide("#compare-threshold", 0.2)
    compare(shown)
    written = traces(pair, 0.2, acceptance=0.6)
    assert taken_back(written["middle"].events), "a text of which something is taken back"
    for key, trace in written.items():
        assert "".join(words(shown, key)) == trace.text
        assert authors(shown, key) == [event.role.value for event in trace.events]
        run = engine.costs(trace.events, trace.prompt_tokens, pair.slm_cost, pair.llm_cost).run
        moved = amount(run.bytes, "bytes").replace("\N{NARROW NO-BREAK SPACE}", " ")
        assert says(shown, f'[data-row="bytes"] [data-of="{key}"]').startswith(moved)
    assert says(shown, '[data-column="middle"] h2') == "trained router, threshold 0.2, acceptance 0.6"


def test_chance_takes_over_the_share_of_the_routers_text(shown: Window, pair):
    choose(shown, AT_SHARE)
    compare(shown)
    routed = pair.generate(PROMPT, policy="router", threshold=pair.threshold, max_new_tokens=TOKENS)
    expected = pair.generate(PROMPT, policy="random", threshold=routed.llm_share, max_new_tokens=TOKENS)
    assert 0 < routed.llm_share < 1
    assert "".join(words(shown, "middle")) == expected.text
    by_chance = authors(shown, "middle")
    assert abs(by_chance.count("llm") / len(by_chance) - routed.llm_share) < 0.15
    assert says(shown, '[data-column="middle"] h2') == f"{AT_SHARE} ({share_of(routed)})"
    assert says(shown, '[data-row="share"] [data-of="router"]') == share_of(routed)
    assert says(shown, 'th[data-of="router"]') == f"trained router, threshold {pair.threshold:g}"
    sentences = says(shown, ".compare-sentences")
    assert sentences.startswith("The text by chance") and "The routed text is the LLM-only text" in sentences


def test_without_chance_there_is_no_further_text_in_the_table(compared: Window):
    expect(compared.page.locator('th[data-of="router"]').first).to_be_hidden()
    expect(compared.page.locator('td[data-of="router"] >> nth=0')).to_be_hidden()


def share_of(trace) -> str:
    return percent(trace.llm_share).replace("\N{NARROW NO-BREAK SPACE}", " ")


def test_the_tables_numbers_are_the_engines_costs_and_those_of_the_playgrounds_meter(compared: Window, pair):
    written = traces(pair, pair.threshold)
    for key, trace in written.items():
        assert says(compared, f'[data-row="tokens"] [data-of="{key}"]') == str(len(trace.events))
        assert says(compared, f'[data-row="share"] [data-of="{key}"]') == share_of(trace)
        spent = engine.costs(trace.events, trace.prompt_tokens, pair.slm_cost, pair.llm_cost)
        for unit in ("bytes", "flops"):
            told = meter(trace.events, spent, unit)
            assert cell(compared, unit, key) == as_said(f"{told['run']} {told['relative']}")
        assert cell(compared, "seconds", key).startswith(as_said(f"{amount(seconds_of(pair, trace)[-1], 'seconds')} "))


def cell(shown: Window, unit: str, key: str) -> str:
    return says(shown, f'[data-row="{unit}"] [data-of="{key}"]')


def as_said(text: str) -> str:
    return text.replace("\N{NARROW NO-BREAK SPACE}", " ")


def test_tokens_that_the_llm_only_text_has_not_are_marked_and_counted(compared: Window, pair):
    written = traces(pair, pair.threshold)
    ids = {key: [event.id for event in trace.events] for key, trace in written.items()}
    found = difference(ids["slm"], ids["llm"])
    assert 0 < len(found.own) < len(ids["slm"]), "the prompt is one where the SLM goes wrong"
    marked = "nodes => nodes.flatMap((node, i) => node.classList.contains('differs') ? [i] : [])"
    places = {key: compared.page.eval_on_selector_all(f'[data-column="{key}"] .w', marked) for key in COLUMNS}
    assert places == {"slm": list(found.own), "middle": [], "llm": []}
    assert says(compared, ".compare-sentences p >> nth=0") == "The routed text is the LLM-only text, token for token."
    assert says(compared, ".compare-sentences p >> nth=1") == (
        f"The SLM-only text shares {len(ids['slm']) - len(found.own)} of its {len(ids['slm'])} tokens with the "
        f"LLM-only text; it lacks {found.lacks} of that text’s {len(ids['llm'])}."
    )


def test_the_marks_can_be_switched_off_with_the_keyboard(compared: Window):
    mark = "getComputedStyle(document.querySelector('.compare .w.differs')).boxShadow"
    assert compared.page.evaluate(mark) != "none"
    compared.page.focus(".compare-mark input")
    compared.page.keyboard.press("Space")
    assert compared.page.evaluate(mark) == "none"
    compared.page.keyboard.press("Space")
    assert compared.page.evaluate(mark) != "none"


def test_half_way_on_the_time_axis_each_text_is_as_far_as_it_would_be_alone(compared: Window, pair):
    written = traces(pair, pair.threshold)
    seconds = {key: seconds_of(pair, trace) for key, trace in written.items()}
    longest = max(column[-1] for column in seconds.values())
    for part in (0.5, 0.25, 0.0, 1.0):
        scrub(compared, part)
        for key, column in seconds.items():
            expected = sum(value <= part * longest + 1e-6 for value in column)
            later = compared.page.locator(f'[data-column="{key}"] .w.later').count()
            assert abs(len(column) - later - expected) <= 1, "times travel in microseconds"
            if expected < len(column):
                assert says(compared, f'[data-column="{key}"] .compare-count').startswith(f"{len(column) - later} of")
        assert compared.page.is_visible(".compare-cursor") == (part < 1)
    scrub(compared, 0.35)  # by half of the LLM's time both others are written
    visible = [len(words(compared, key, ":not(.later)")) for key in COLUMNS]
    assert visible[0] > visible[1] > visible[2] > 0, "the SLM is the fastest of the three"
    assert not compared.page.locator('[data-column="llm"] .w.later >> nth=0').is_visible()
    scrub(compared, 1)


def test_the_chart_has_the_three_texts_on_one_axis(compared: Window, pair):
    compared.page.wait_for_function("document.querySelector('.compare-plot').data?.[0].x.length > 1")
    drawn = compared.page.evaluate("document.querySelector('.compare-plot').data.map(({ x, y, name }) => [name, x, y])")
    drawn = {name: (x, y) for name, x, y in drawn}
    names = ("SLM-only", f"trained router, threshold {pair.threshold:g}", "LLM-only")
    for name, (key, trace) in zip(names, traces(pair, pair.threshold).items(), strict=True):
        x, y = drawn[name]
        assert x == pytest.approx([0, *seconds_of(pair, trace)], abs=2e-6), key
        assert y == list(range(len(trace.events) + 1))


def test_play_replays_the_texts_at_their_pace_and_never_by_itself(compared: Window, pair):
    longest = max(seconds_of(pair, trace)[-1] for trace in traces(pair, pair.threshold).values())
    expect(compared.page.locator(".compare .w.later")).to_have_count(0)
    assert compared.page.text_content(".compare-play") == "Play"
    compared.page.select_option(".compare-pace", "0.25")
    compared.page.focus(".compare-play")
    started = time.monotonic()
    compared.page.keyboard.press("Enter")
    compared.page.wait_for_selector('[data-column="llm"] .w.later', state="attached")
    assert compared.page.text_content(".compare-play") == "Pause"
    compared.page.wait_for_function("document.querySelectorAll('.compare .w.later').length === 0", timeout=20_000)
    took = time.monotonic() - started
    assert 4 * longest * 0.9 < took < 4 * longest + 3
    assert compared.page.text_content(".compare-play") == "Play"


def test_the_time_axis_is_moved_with_the_keyboard_and_says_where_it_stands(compared: Window):
    compared.page.focus(".compare-scrub")
    compared.page.keyboard.press("Home")
    assert words(compared, "llm", ":not(.later)") == []
    assert compared.page.get_attribute(".compare-scrub", "aria-valuetext").startswith("0\N{NARROW NO-BREAK SPACE}s of")
    compared.page.keyboard.press("End")
    expect(compared.page.locator(".compare .w.later")).to_have_count(0)


def test_stop_stops_within_one_step_and_leaves_no_thread(shown: Window, held):
    ask(shown)
    shown.page.wait_for_selector('[data-column="middle"] .w >> nth=3')
    assert running(), "the axis still grows"
    expect(shown.page.locator(".compare-scrub").first, "the axis still grows").to_be_disabled()
    shown.page.click("#compare-stop")
    shown.page.wait_for_selector('.compare-state[data-state="stopped"]')
    eventually(lambda: running() == [])
    assert [len(words(shown, key)) for key in COLUMNS] == [4, 4, 4]
    eventually(lambda: shown.page.is_disabled("#compare-stop") and shown.page.is_enabled(".compare-scrub"))
    scrub(shown, 0.5)
    assert len(words(shown, "llm", ":not(.later)")) < len(words(shown, "slm", ":not(.later)")) == 4


def test_a_second_comparison_stops_the_first(shown: Window, site: Site, pair, held):
    ask(shown)
    shown.page.wait_for_selector('[data-column="middle"] .w >> nth=3')
    (first,) = [
        s.jobs["compare"] for s in site.sessions._sessions.values() if "compare" in s.jobs and s.jobs["compare"].active
    ]
    ask(shown, OTHER)
    eventually(first.finished.is_set)
    assert first.state == "stopped"
    held.set()
    shown.page.wait_for_selector(f'{DONE}:not([data-run="{first.number}"])')
    for key, trace in traces(pair, pair.threshold, prompt=OTHER).items():
        assert "".join(words(shown, key)) == trace.text
    eventually(lambda: running() == [])


def test_closing_the_tab_stops_the_models(browser, site: Site, held):
    with window(browser, site) as shown:
        enter(shown)
        ask(shown)
        shown.page.wait_for_selector('[data-column="middle"] .w >> nth=3')
        assert running()
    eventually(lambda: running() == [])


def test_the_texts_are_whole_though_the_browser_was_busy(shown: Window, pair, held):
    ask(shown)
    shown.page.wait_for_selector('[data-column="middle"] .w >> nth=3')
    threading.Timer(0.2, held.set).start()
    shown.page.evaluate("const end = performance.now() + 1500; while (performance.now() < end);")
    shown.page.wait_for_selector(DONE)
    for key, trace in traces(pair, pair.threshold).items():
        assert "".join(words(shown, key)) == trace.text


def test_an_empty_prompt_is_refused_with_the_engines_message(shown: Window):
    ask(shown, "  ")
    shown.page.wait_for_selector("text=The prompt is empty")
    eventually(lambda: shown.page.is_disabled("#compare-stop"))
    assert running() == []


def test_the_texts_of_the_comparison_before_are_marked_until_there_are_new_ones(shown: Window, site: Site):
    old, last = shown.page.locator(".compare-old"), "Below is what the comparison before gave"
    expect(old).to_be_hidden()
    compare(shown)
    expect(old).to_be_hidden()
    with paused(site.host):
        ask(shown, OTHER)
        shown.page.wait_for_selector('.compare-state[data-state="waiting"]')
        expect(old).to_contain_text(last, use_inner_text=True)
    shown.page.wait_for_selector(DONE)
    expect(old).to_be_hidden()
    ask(shown, "Ben has $20. " * 2000)
    shown.page.wait_for_selector('.compare-state[data-state="failed"]')
    expect(old).to_contain_text(last, use_inner_text=True)


def test_a_prompt_beyond_the_context_is_refused_and_the_texts_stay(shown: Window, pair):
    compare(shown)
    before = words(shown, "llm")
    ask(shown, "Ben has $20. " * 2000)
    shown.page.wait_for_selector('.compare-state[data-state="failed"]')
    with pytest.raises(InvalidRequest) as refused:
        pair.check(Request("Ben has $20. " * 2000))
    assert says(shown, ".compare-state") == str(refused.value)
    assert before and words(shown, "llm") == before


@pytest.mark.parametrize(
    "text", ["<img src=x onerror=window.hacked=1>", "${window.hacked=1}{{value}}", "</script>\x1b"]
)
def test_hostile_text_is_shown_as_text(shown: Window, monkeypatch, text: str):
    plain = Handle.tell
    monkeypatch.setattr(Handle, "tell", lambda handle, event: plain(handle, replace(event, text=text)))
    compare(shown, f"{PROMPT} {text}")
    assert words(shown, "slm")[0] == text.replace("\x1b", "␛")
    assert shown.page.evaluate("window.hacked") is None
    expect(shown.page.locator(".compare img, .compare script")).to_have_count(0)


def test_prompt_threshold_and_length_can_be_copied_from_the_playground(shown: Window):
    shown.page.click('role=tab[name="Playground"]')
    shown.page.fill("#prompt textarea", OTHER)
    shown.slide("#threshold", 0.5)
    shown.page.click("text=Sampling and prompt format")
    shown.page.fill("#max-new-tokens input", "33")
    shown.page.click('role=tab[name="Compare"]')
    shown.page.click("#compare-take")
    eventually(lambda: stands_at(shown) == 0.5)
    expect(shown.page.locator("#compare-limit input")).to_have_value("33")
    expect(shown.page.locator("#compare-prompt textarea")).to_have_value(OTHER)
    shown.page.click("#compare-start")
    shown.page.wait_for_selector(DONE)
    assert says(shown, '[data-column="middle"] h2') == "trained router, threshold 0.5", "a copied 0.5 is a choice"


def test_the_race_is_saved_as_a_film_that_plays_with_the_columns_own_figures(shown: Window, tmp_path):
    move(shown.page, "#compare-threshold input[type=range]", 0.3)
    compare(shown)
    button = shown.page.locator(".compare-film")
    if button.is_hidden():
        pytest.skip("this Chromium records no WebM")
    name = button.text_content()
    shown.page.evaluate(_WRITTEN)
    with shown.page.expect_download(timeout=30_000) as coming:
        button.press("Enter")
        eventually(lambda: "Recording" in button.text_content())
    coming.value.save_as(tmp_path / "race.webm")
    film = (tmp_path / "race.webm").read_bytes()
    assert coming.value.suggested_filename.endswith(".webm") and film[:4] == b"\x1aE\xdf\xa3" and len(film) > 20_000
    eventually(lambda: button.text_content() == name)
    seen = shown.page.evaluate(_LAST_PICTURE, base64.b64encode(film).decode())
    assert seen["size"] == [1280, 720] and seen["seconds"] > 4
    assert seen["blue"] > 500 and seen["orange"] > 100, "the authors' colours are in it"
    written = shown.page.evaluate("window.written")
    counts = shown.page.locator(".compare-count").all_text_contents()
    assert re.search(r"LLM \d\.\d\s%", " ".join(counts)), "a share with a decimal is among them"
    assert all(count in written for count in counts)


_WRITTEN = """() => {
  const write = CanvasRenderingContext2D.prototype.fillText;
  window.written = [];
  CanvasRenderingContext2D.prototype.fillText = function (text, ...more) {
    window.written.push(text.replace('done in ', ''));
    write.call(this, text, ...more);
  };
}"""
"""Has the page note all that is written on a canvas."""


_LAST_PICTURE = """async (film) => {
  const bytes = Uint8Array.from(atob(film), c => c.charCodeAt(0)), video = document.createElement('video');
  const src = URL.createObjectURL(new Blob([bytes], { type: 'video/webm' }));
  Object.assign(video, { muted: true, playbackRate: 8, src });
  await new Promise((resolve, reject) => {
    video.onended = resolve;
    video.onerror = () => reject(video.error.message);
    video.play();
  });
  const { videoWidth: width, videoHeight: height, currentTime: seconds } = video;
  const pen = Object.assign(document.createElement('canvas'), { width, height }).getContext('2d');
  pen.drawImage(video, 0, 0);
  const { data } = pen.getImageData(0, 120, width, height - 200);
  let blue = 0, orange = 0;
  for (let i = 0; i < data.length; i += 4) {
    blue += data[i + 2] - data[i] > 20;
    orange += data[i] - data[i + 2] > 20;
  }
  return { size: [width, height], seconds, blue, orange };
}"""


def test_nothing_sticks_out_at_any_width(browser, site: Site):
    inside = ".compare h2, .compare-text, .compare-table :is(th, td), .compare-scrub, .compare-player > *, .compare p"
    cut = "nodes => nodes.filter(node => node.scrollWidth > node.clientWidth + 1).map(node => node.textContent)"
    with window(browser, site, width=360) as shown:
        enter(shown)
        choose(shown, AT_SHARE)
        compare(shown)
        for width, _ in sizes(shown.page, (360, 900), (768, 900)):
            assert shown.page.evaluate("document.documentElement.scrollWidth") <= width
            card = shown.page.locator(".compare").bounding_box()
            for box in (node.bounding_box() for node in shown.page.locator(f".compare :is({inside})").all()):
                assert box is None or (card["x"] <= box["x"] and box["x"] + box["width"] <= card["x"] + card["width"])
            assert shown.page.eval_on_selector_all(".compare-table :is(th, td):not([hidden])", cut) == [], width


def test_its_text_has_enough_contrast(browser, site: Site):
    with window(browser, site) as shown:
        enter(shown)
        check_contrast(shown.page, ".compare-hint")
        compare(shown)
        parts = (".w.slm", ".w.llm", ".w.end", ".compare-state", ".compare-count", "h2", ".compare-sentences p",
                 ".compare-clock", ".compare-note", "figcaption b", ".compare-play", ".compare-pace", "caption",
                 "tbody th", "td b", "td span", ".compare-mark", ".key-llm", ".key-slm")  # fmt: skip
        check_contrast(shown.page, *(f".compare {part}" for part in parts))
