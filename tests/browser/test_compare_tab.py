"""Compare, in Chromium in front of the tiny pair: three texts, the verdict, Play, and the film."""

from __future__ import annotations

import base64
import threading
from dataclasses import replace

import pytest

import engine
from app.compare.comparison import difference
from app.figures import amount, percent
from engine.batch.handle import Handle
from engine.events import taken_back
from engine.events.cost import modelled_seconds
from engine.scheduler import Scheduler
from tests.support.browser import Site, Window, eventually, expect, move, window
from tests.support.paths import TINY
from tests.support.shared_text import HOSTILE, no_markup

pytestmark = pytest.mark.skipif(not (TINY / "llm").is_dir(), reason="the tiny pair is not in assets/tiny")

PROMPT = "Ben has $20. Ben earns $15. Ben spends $9. How much money is it now?"
OTHER = "Mia has 12 shells. Mia finds 7 more. A friend brings 5. How many shells are there now?"
COLUMNS = ("slm", "middle", "llm")
AT_SHARE = "chance, at the router's share"
TOKENS = 60
PATIENCE = 60  # seconds
LAST = 'document.querySelector(".compare-state").dataset.run'


@pytest.fixture(scope="module")
def pair(tiny_pair):
    """The tiny pair, whose passes always take the same made-up seconds."""
    measured = tiny_pair.slm.cost, tiny_pair.llm.cost
    tiny_pair.slm.cost = replace(measured[0], pass_seconds=0.01, token_seconds=0.001)
    tiny_pair.llm.cost = replace(measured[1], pass_seconds=0.03, token_seconds=0.002)
    yield tiny_pair
    tiny_pair.slm.cost, tiny_pair.llm.cost = measured


@pytest.fixture
def shown(site_window: Window, pair):
    """The tab, freshly opened, once the models have set its threshold."""
    site_window.open()
    enter(site_window)
    eventually(lambda: stands_at(site_window) == pair.threshold, PATIENCE)
    yield site_window
    assert site_window.errors == []


@pytest.fixture
def held(monkeypatch):
    """Holds every comparison after four tokens of each text, until it is cancelled or the test is over."""
    over, plain = threading.Event(), Scheduler._arrange

    def is_due(scheduler):
        texts = [*scheduler._held.running]
        return not texts or any(len(text.stream) != 4 or text.cancelled for text in texts)

    def arrange(scheduler):
        while not (is_due(scheduler) or over.wait(0.01)):
            pass
        plain(scheduler)

    monkeypatch.setattr(Scheduler, "_arrange", arrange)
    yield
    over.set()


def enter(shown: Window) -> None:
    shown.page.wait_for_selector("text=tiny SLM", timeout=1000 * PATIENCE)
    shown.page.click('role=tab[name="Compare"]')
    shown.page.wait_for_selector("#compare-start")


def stands_at(shown: Window) -> float:
    return float(shown.page.input_value("#compare-threshold input[type=number]"))


def ask(shown: Window, prompt: str = PROMPT) -> None:
    shown.page.fill("#compare-prompt textarea", prompt)
    shown.page.click("#compare-start")


def compare(shown: Window, prompt: str = PROMPT) -> None:
    last = shown.page.evaluate(LAST)
    ask(shown, prompt)
    shown.page.wait_for_selector(f'.compare-state[data-state="done"]:not([data-run="{last}"])', timeout=1000 * PATIENCE)


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
    return plain(shown.page.inner_text(selector))


def plain(text: str) -> str:
    return " ".join(text.replace("\N{NARROW NO-BREAK SPACE}", " ").split())


def cell(shown: Window, row: str, key: str) -> str:
    return says(shown, f'[data-row="{row}"] [data-of="{key}"]')


def traces(pair, threshold: float, policy: str = "router", prompt: str = PROMPT, acceptance: float = 0.0):
    """What the engine writes for the three columns, each text by itself."""
    return {
        key: pair.generate(prompt, policy=name, threshold=threshold, acceptance=kept, max_new_tokens=TOKENS)
        for key, name, kept in zip(COLUMNS, ("slm", policy, "llm"), (0.0, acceptance, 0.0), strict=True)
    }


def stand_there(shown: Window, written: dict) -> None:
    """Fails unless the columns are the engine's texts with its costs."""
    for key, trace in written.items():
        assert "".join(words(shown, key)) == trace.text
        assert authors(shown, key) == [event.role.value for event in trace.events]
        assert cell(shown, "tokens", key) == str(len(trace.events))
        assert cell(shown, "share", key) == plain(percent(trace.llm_share))
        run = engine.costs(trace.events, trace.prompt_tokens, trace.slm_cost, trace.llm_cost).run
        for unit in ("bytes", "flops"):
            assert cell(shown, unit, key).startswith(plain(amount(getattr(run, unit), unit)))


def seconds_of(pair, trace) -> list[float]:
    """Per token of a trace, the modelled seconds up to it."""
    return [modelled_seconds(trace.events[: n + 1], pair.slm_cost, pair.llm_cost) for n in range(len(trace.events))]


def running() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("citer-run")]


def test_the_three_texts_are_those_that_each_would_be_alone_and_the_verdict_compares_them(shown: Window, pair):
    compare(shown)
    written = traces(pair, pair.threshold)
    stand_there(shown, written)
    ids = {key: [event.id for event in trace.events] for key, trace in written.items()}
    found = difference(ids["slm"], ids["llm"])
    assert 0 < len(found.own) < len(ids["slm"]), "the prompt is one where the SLM goes wrong"
    marked = "nodes => nodes.flatMap((node, i) => node.classList.contains('differs') ? [i] : [])"
    places = {key: shown.page.eval_on_selector_all(f'[data-column="{key}"] .w', marked) for key in COLUMNS}
    assert places == {"slm": list(found.own), "middle": [], "llm": []}
    verdict = says(shown, ".compare-sentences p >> nth=1")
    shared = len(ids["slm"]) - len(found.own)
    assert f"shares {shared} of its {len(ids['slm'])}" in verdict and f"lacks {found.lacks}" in verdict
    cue = "node => getComputedStyle(node).textDecorationLine"
    assert shown.page.locator(".compare .w.llm").first.evaluate(cue) == "underline", "colour is not the only cue"
    mark = "getComputedStyle(document.querySelector('.compare .w.differs')).boxShadow"
    assert shown.page.evaluate(mark) != "none"
    shown.page.focus(".compare-mark input")
    shown.page.keyboard.press("Space")
    assert shown.page.evaluate(mark) == "none", "the marks can be switched off with the keyboard"
    assert all(url.startswith((shown.url, "data:", "blob:")) for url in shown.requests)


def test_each_text_is_as_far_as_it_would_be_alone_and_play_goes_to_the_end(shown: Window, pair):
    compare(shown)
    seconds = {key: seconds_of(pair, trace) for key, trace in traces(pair, pair.threshold).items()}
    longest = max(column[-1] for column in seconds.values())
    for part in (0.5, 0.25, 0.0, 1.0):
        move(shown.page, ".compare-scrub", round(1000 * part))
        for key, column in seconds.items():
            expected = sum(value <= part * longest + 1e-6 for value in column)
            assert abs(len(words(shown, key, ":not(.later)")) - min(expected, len(column))) <= 1, "of microseconds"
    shown.page.focus(".compare-scrub")
    shown.page.keyboard.press("Home")
    assert words(shown, "llm", ":not(.later)") == [] and words(shown, "llm")
    play = shown.page.locator(".compare-play")
    play.press("Enter")
    expect(play).to_have_text("Pause")
    expect(shown.page.locator('[data-column="slm"] .w:not(.later)').first).to_be_attached()
    expect(shown.page.locator(".compare .w.later")).to_have_count(0, timeout=1000 * PATIENCE)
    expect(play).to_have_text("Play")
    shown.page.wait_for_function("document.querySelector('.compare-plot').data?.[0].x.length > 1")
    drawn = shown.page.evaluate("document.querySelector('.compare-plot').data.map(({ x }) => x)")
    assert sorted(drawn, key=max) == [pytest.approx([0, *seconds[key]], abs=2e-6) for key in COLUMNS]


def test_the_middle_takes_any_policy_and_the_playgrounds_acceptance(shown: Window, pair):
    shown.page.click('role=tab[name="Playground"]')
    shown.slide("#acceptance", 0.6)
    shown.page.click('role=tab[name="Compare"]')
    expect(shown.page.locator(".compare-acceptance")).to_contain_text("0.6")
    shown.slide("#compare-threshold", 0.2)
    compare(shown)
    written = traces(pair, 0.2, acceptance=0.6)
    assert taken_back(written["middle"].events), "a text of which something is taken back"
    stand_there(shown, written)
    choose(shown, "SLM's own confidence")
    shown.slide("#compare-threshold", 0.9)
    compare(shown)
    stand_there(shown, traces(pair, 0.9, "confidence", acceptance=0.6))


def test_chance_takes_over_the_share_of_the_routers_text(shown: Window, pair):
    choose(shown, AT_SHARE)
    compare(shown)
    routed = pair.generate(PROMPT, policy="router", threshold=pair.threshold, max_new_tokens=TOKENS)
    assert 0 < routed.llm_share < 1
    stand_there(shown, traces(pair, routed.llm_share, "random"))
    assert cell(shown, "share", "router") == plain(percent(routed.llm_share))
    assert plain(percent(routed.llm_share)) in says(shown, '[data-column="middle"] h2')


def test_stop_and_another_comparison_and_a_closed_tab_each_end_the_one_before(browser, site: Site, pair, held):
    with window(browser, site, seconds=PATIENCE) as shown:
        enter(shown)
        ask(shown)
        shown.page.wait_for_selector('[data-column="middle"] .w >> nth=3')
        expect(shown.page.locator(".compare-scrub").first, "the axis still grows").to_be_disabled()
        shown.page.click("#compare-stop")
        shown.page.wait_for_selector('.compare-state[data-state="stopped"]')
        eventually(lambda: running() == [], PATIENCE)
        assert [len(words(shown, key)) for key in COLUMNS] == [4, 4, 4], "what was written stays"
        ask(shown)
        shown.page.wait_for_selector('.compare-state[data-state="running"]')
        (first,) = {s.jobs["compare"] for s in site.sessions._sessions.values() if s.jobs["compare"].active}
        ask(shown, OTHER)
        eventually(first.finished.is_set, PATIENCE)
        assert first.state == "stopped"
        shown.page.wait_for_selector(f'.compare-state[data-state="running"]:not([data-run="{first.number}"])')
        assert running()
    eventually(lambda: running() == [], PATIENCE)


def test_what_is_refused_says_why_and_leaves_the_texts_marked_as_old(shown: Window):
    compare(shown)
    before, old = words(shown, "llm"), shown.page.locator(".compare-old")
    expect(old).to_be_hidden()
    ask(shown, "  ")
    shown.page.wait_for_selector('.toast-body:has-text("empty")')
    expect(shown.page.locator("#compare-stop").first).to_be_disabled()
    ask(shown, "Ben has $20. " * 2000)
    shown.page.wait_for_selector('.compare-state[data-state="failed"]')
    assert "prompt" in says(shown, ".compare-state") and before and words(shown, "llm") == before
    expect(old).to_be_visible()
    compare(shown, OTHER)
    expect(old).to_be_hidden()


def test_hostile_text_of_a_visitor_and_of_the_models_stays_text(shown: Window, monkeypatch):
    plain = Handle.tell
    monkeypatch.setattr(Handle, "tell", lambda handle, event: plain(handle, replace(event, text=f"{HOSTILE}\x1b")))
    compare(shown, f"{PROMPT} {HOSTILE}")
    assert words(shown, "slm")[0] == f"{HOSTILE}␛"
    no_markup(shown.page, ".compare")


def test_prompt_threshold_and_length_are_copied_from_the_playground(shown: Window):
    shown.page.click('role=tab[name="Playground"]')
    shown.page.fill("#prompt textarea", OTHER)
    shown.slide("#threshold", engine.DEFAULT_THRESHOLD)
    shown.page.click("text=Sampling and prompt format")
    shown.page.fill("#max-new-tokens input", "9")
    shown.page.click('role=tab[name="Compare"]')
    shown.page.click("#compare-take")
    eventually(lambda: stands_at(shown) == engine.DEFAULT_THRESHOLD, PATIENCE)
    expect(shown.page.locator("#compare-limit input")).to_have_value("9")
    expect(shown.page.locator("#compare-prompt textarea")).to_have_value(OTHER)
    last = shown.page.evaluate(LAST)
    shown.page.click("#compare-start")
    shown.page.wait_for_selector(f'.compare-state[data-state="done"]:not([data-run="{last}"])')
    assert stands_at(shown) == engine.DEFAULT_THRESHOLD, "a copied one is a choice, not the router's to move"
    assert len(words(shown, "llm")) == 9


def test_the_race_is_saved_as_a_film_with_the_columns_colours_and_figures(shown: Window, tmp_path):
    shown.slide("#compare-threshold", 0.3)
    compare(shown)
    button = shown.page.locator(".compare-film")
    if button.is_hidden():
        pytest.skip("this Chromium records no WebM")
    shown.page.evaluate(_NOTE_WRITTEN)
    with shown.page.expect_download(timeout=4000 * PATIENCE) as coming:
        button.press("Enter")
    coming.value.save_as(tmp_path / "race.webm")
    film = (tmp_path / "race.webm").read_bytes()
    assert coming.value.suggested_filename.endswith(".webm") and film[:4] == b"\x1aE\xdf\xa3"
    seen = shown.page.evaluate(_LAST_PICTURE, base64.b64encode(film).decode())
    assert seen["size"] == [1280, 720] and seen["blue"] > 500 and seen["orange"] > 100
    written = shown.page.evaluate("window.written")
    assert all(count in written for count in shown.page.locator(".compare-count").all_text_contents())


_NOTE_WRITTEN = """() => {
  const write = CanvasRenderingContext2D.prototype.fillText;
  window.written = [];
  CanvasRenderingContext2D.prototype.fillText = function (text, ...more) {
    window.written.push(text.replace('done in ', ''));
    write.call(this, text, ...more);
  };
}"""


_LAST_PICTURE = """async (film) => {
  const bytes = Uint8Array.from(atob(film), c => c.charCodeAt(0)), video = document.createElement('video');
  const src = URL.createObjectURL(new Blob([bytes], { type: 'video/webm' }));
  Object.assign(video, { muted: true, playbackRate: 8, src });
  await new Promise((resolve, reject) => {
    video.onended = resolve;
    video.onerror = () => reject(video.error.message);
    video.play();
  });
  const { videoWidth: width, videoHeight: height } = video;
  const pen = Object.assign(document.createElement('canvas'), { width, height }).getContext('2d');
  pen.drawImage(video, 0, 0);
  const { data } = pen.getImageData(0, 120, width, height - 200);
  let blue = 0, orange = 0;
  for (let i = 0; i < data.length; i += 4) {
    blue += data[i + 2] - data[i] > 20;
    orange += data[i] - data[i + 2] > 20;
  }
  return { size: [width, height], blue, orange };
}"""
