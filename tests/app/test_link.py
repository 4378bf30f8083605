"""A link that carries the text itself: what is in it, what is refused, and what who opens it sees."""

from __future__ import annotations

import asyncio
import base64
import json
import zlib
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from app.fields import FIELDS
from app.handlers import Handlers
from app.running.host import Host
from app.running.session import SWEEP
from app.running.sessions import Sessions
from app.share.buttons import _ShareHandlers
from app.share.export import trace_json
from app.share.link import MAX_LINK_TOKENS, link_json
from app.share.open_trace import opened_run
from app.share.swept import opened_sweep, swept_of
from app.sweep import Sweep, sweep_message
from engine import InvalidRequest, Prices, Request, Trace, WeightsError, load_settings
from engine.pair import Pair
from tests.app.test_open_trace_checks import changed, paths
from tests.app.test_reload import kept
from tests.app.test_share import CLIPBOARD, follow_link, ready, says
from tests.support.browser import Window, check_contrast, eventually, expect, serve, window
from tests.support.fake_pair import FakePair

SWEPT = '#sweep [data-state="done"], #sweep[data-state="done"]'
PROMPT = "Ben has $20. Ben earns $15. Ben spends $9. How much money is it now?"


def packed(text: str | bytes) -> str:
    """As the page's script packs it."""
    deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
    content = text.encode() if isinstance(text, str) else text
    return base64.urlsafe_b64encode(deflater.compress(content) + deflater.flush()).decode().rstrip("=")


@pytest.fixture(scope="module")
def trace() -> Trace:
    """A text of another machine."""
    asked = Request("echo where do you <b>come</b> from?", threshold=0.8, seed=9, max_new_tokens=40, alternatives=5)
    return replace(FakePair(1e6).generate(asked), slm="little", llm="big", router="their-router")


@pytest.fixture(scope="module")
def sweep(tiny_pair: Pair) -> Iterator[Sweep]:
    """The tiny pair's texts at many settings."""
    host = Host(lambda preset, progress: tiny_pair)
    host.start()
    done = Sweep(Request(PROMPT, max_new_tokens=24, max_draft=8), [], Prices(), "both").start(host)
    assert done.finished.wait(60)
    yield done
    host.close()


def of_row(sweep: Sweep, row: int) -> Trace:
    return sweep.pair.trace(sweep.at(row), sweep.events[row])


# ---- what is in it ---------------------------------------------------------------------------------------------------


def test_a_link_has_the_text_as_it_was_written(trace: Trace):
    back = Trace.parse(link_json(trace))
    assert back.text == trace.text and back.request == trace.request
    for one, other in zip(back.events, trace.events, strict=True):
        exact = ("id", "text", "role", "finish_reason")
        assert all(getattr(one, name) == getattr(other, name) for name in exact)
        assert (one.score is None) == (other.score is None)
        assert one.score == pytest.approx(other.score, rel=1e-8)
        assert [each.text for each in one.llm_alternatives] == [each.text for each in other.llm_alternatives]
    assert opened_run(link_json(trace)).complete
    assert len(packed(link_json(trace))) < len(packed(trace.to_json())) < 32_000


def test_a_text_of_any_length_is_not_tried(trace: Trace):
    assert link_json(replace(trace, events=trace.events * MAX_LINK_TOKENS)) == ""


def test_a_swept_text_takes_its_sweep_along(sweep: Sweep):
    text = of_row(sweep, 3)
    told = swept_of(sweep, text.request)
    assert told is not None and swept_of(sweep, replace(text.request, seed=5)) is None, "another text's is not its own"
    for written in (trace_json(text, "", told), link_json(text, told)):
        run = opened_run(written)
        opened = opened_sweep(written, run, Prices())
        assert opened is not None and not opened.active and Trace.from_json(written).text == text.text
        before, after = (json.loads(sweep_message(each, 0)[0]) for each in (sweep, opened))
        assert after["beside"] == run.id and before["beside"] is None
        for name in ("over", "points", "leaves", "replaced"):
            assert after[name] == before[name], name
        assert [text for _, text, _ in after["nodes"]] == [text for _, text, _ in before["nodes"]]
        assert [scores for _, _, scores in after["nodes"]] == [scores for _, _, scores in before["nodes"]]
        again = swept_of(opened, run.request)
        assert again is not None and again["leaves"] == told["leaves"], "it can be passed on"
    assert len(packed(link_json(text, told))) < 32_000


def test_an_opened_sweep_has_no_price_at_other_prices_and_its_own_again_at_its_own(sweep: Sweep):
    text = of_row(sweep, 3)
    run = opened_run(trace_json(text, "", swept_of(sweep, text.request)))
    opened = opened_sweep(trace_json(text, "", swept_of(sweep, text.request)), run, Prices())
    assert opened is not None
    window, sessions = SimpleNamespace(session_hash="a window"), Sessions()
    session = sessions.enter("a window")
    session.show(run, opened)
    handlers = Handlers(Host(lambda *_, **__: None), sessions, load_settings(), [None] * len(FIELDS))

    def told(price: float) -> Any:
        *_, message = handlers.set_view("price", Prices().slm, price, window)  # pyright: ignore[reportArgumentType]
        return json.loads(message)

    other, own = told(4 * Prices().llm), told(Prices().llm)
    assert [row[:-1] for row in other["figures"]] == [list(row[:-1]) for row in own["figures"]], "other units stay"
    assert {row[-1] for row in other["figures"]} == {None} and other["view"] == 1
    assert own["figures"] == [list(row) for row in sweep.figures if row] and own["view"] == 2


def test_an_opened_sweep_is_news_to_a_browser_that_began_one_while_it_was_read(sweep: Sweep):
    text = of_row(sweep, 3)
    sessions = Sessions()
    session = sessions.enter("a window")
    handlers = _ShareHandlers(Host(lambda *_, **__: None), sessions, [None] * len(FIELDS))
    run, swept, figures = asyncio.run(handlers._read(trace_json(text, "", swept_of(sweep, text.request)), session))
    assert swept is not None
    begun = session.jobs[SWEEP] = Sweep(text.request, [], Prices(), "both", swept)
    *_, message = handlers._show(session, run, swept, figures)
    assert json.loads(message)["n"] == swept.number > begun.number


def test_a_damaged_sweep_is_refused_by_name_or_can_be_shown(sweep: Sweep):
    text = of_row(sweep, 3)
    content = json.loads(trace_json(text, "", swept_of(sweep, text.request)))
    run, refused, shown = opened_run(json.dumps(content)), 0, 0
    given = [("sweep", name, *rest) for name in content["sweep"] for rest in some_paths(content["sweep"][name])]
    for path in given:
        for value in (None, -2, 0.5, 10**19, "x", [], {}, True):
            try:
                opened = opened_sweep(json.dumps(changed(content, path, value)), run, Prices())
            except InvalidRequest:
                refused += 1
                continue
            assert opened is None or sweep_message(opened, 0)[0]
            shown += 1
    assert refused > 50 and shown > 5


def some_paths(content: Any) -> list[tuple[str, ...]]:
    """Where something stands at the beginning of a list and at its end."""
    every = list(paths(content)) if isinstance(content, (list, dict)) else []
    return [(), *every[:4], *every[-3:]]


def test_a_sweep_that_would_keep_a_browser_busy_is_refused(sweep: Sweep):
    text = of_row(sweep, 3)
    content = json.loads(trace_json(text, "", swept_of(sweep, text.request)))
    run, swept = opened_run(json.dumps(content)), content["sweep"]
    ring = changed(content, ("sweep", "nodes", "0", "0"), 5)
    many = {**content, "sweep": {**swept, "points": [[0, 0]] * 101}}
    chain = [[i - 1, "x", 0.5] for i in range(19_000)]
    long = {**content, "sweep": {**swept, "nodes": chain, "leaves": [18_999] * len(swept["points"]), "replaced": []}}
    for bad, reason in ((ring, "what it follows"), (many, "settings"), (long, "all texts of the sweep")):
        with pytest.raises(InvalidRequest, match=reason):
            opened_sweep(json.dumps(bad), run, Prices())


# ---- on the page -----------------------------------------------------------------------------------------------------


@pytest.fixture
def shown(site_window: Window, site, pair):
    pair.tokens_per_second = 400.0
    site_window.url = site.url
    site_window.page.context.grant_permissions(CLIPBOARD["permissions"])
    site_window.open()
    yield site_window
    eventually(lambda: pair.open_streams == 0)
    assert complaints(site_window) == []


def complaints(shown: Window) -> list[str]:
    """Of the browser; a feed that is refused is told in its console, and gradio stands in for it."""
    return [each for each in shown.errors if not each.startswith("Failed to load resource")]


def colours(shown: Window) -> list[list[str | bool]]:
    """Of each token its text and whether the LLM's; the end, which is no text, is left out."""
    told = "nodes => nodes.map(node => [node.textContent, node.classList.contains('llm')])"
    return [token for token in shown.page.eval_on_selector_all(".stream-text .t:not(.end)", told) if token[0]]


def copied_link(shown: Window) -> str:
    ready(shown)
    shown.page.click('[data-take="link"]')
    says(shown, "Copied the link")
    return shown.page.evaluate("navigator.clipboard.readText()")


def test_a_copied_link_shows_the_same_text_elsewhere_without_any_model(shown: Window, browser):
    shown.write("echo one <b>two</b> three\n\nfour")
    link, tokens = copied_link(shown), colours(shown)
    address, _, text = link.partition("#text=")
    assert address == shown.url and 200 < len(text) < 32_000
    headline = shown.page.inner_text(".headline")

    def fail(preset, progress):
        raise WeightsError("No door is open.")

    with serve(fail) as other, window(browser, other) as there:
        there.url = f"{other.url}#text={text}"
        there.open()
        eventually(lambda: colours(there) == tokens, 10)
        assert there.page.inner_text(".headline") == headline
        expect(there.page.locator(".link-note").first).to_contain_text("came with the link", use_inner_text=True)
        expect(there.page.locator(".link-again").first).to_be_visible()
        expect(there.page.locator("#prompt textarea")).to_have_value("echo one <b>two</b> three\n\nfour")
        assert not any(text[:40] in url for url in there.requests), "no address has it"
        check_contrast(there.page, ".link-note p", ".link-again")
        expect(there.page.locator(".stream-text b")).to_have_count(0)
        assert [e for e in there.errors if "door" not in e] == []


def test_run_it_again_writes_it_with_the_models_here_and_leaves_the_address_clean(shown: Window, trace: Trace, pair):
    before = len(pair.requests)
    shown.url = f"{shown.url}#text={packed(link_json(trace))}"
    shown.open()
    eventually(lambda: shown.text() == trace.text)
    shown.page.wait_for_timeout(700)
    assert len(pair.requests) == before
    expect(shown.page.locator(".stream-state").first).to_have_attribute("data-state", "done")
    shown.page.focus(".link-again")
    shown.page.keyboard.press("Enter")
    eventually(lambda: len(pair.requests) > before)
    asked = pair.requests[-1]
    assert (asked.prompt, asked.threshold, asked.seed) == (trace.prompt, 0.8, 9)
    eventually(lambda: shown.page.evaluate("location.hash") == "")
    expect(shown.page.locator(".link-note").first).to_be_hidden()
    shown.wait_state("done")


def test_what_a_link_brings_is_only_opened_within_bounds_and_refused_in_words(shown: Window, trace: Trace):
    text = shown.write("echo mine")
    bad = {
        "x" * 32_001: "32,001 characters; at most 32,000",
        packed(b"a" * 20_000_000): "becomes more than 4 MB",
        packed(link_json(trace))[:200]: "cut off or changed",
        "%3Cscript%3E": "cut off or changed",
        packed(b"\xff\xfe{}"): "cut off or changed",
        packed("{}"): "not a trace",
        packed(link_json(trace).replace("where", "<img src=x onerror=window.hacked=1>", 2)): "text is not that of",
    }
    for fragment, reason in bad.items():
        shown.page.evaluate("document.querySelector('.link-note p').textContent = ''")
        shown.page.evaluate("(text) => { location.hash = `text=${text}`; }", fragment)
        eventually(lambda reason=reason: reason in shown.page.inner_text(".link-note"))
        expect(shown.page.locator(".link-note").first).to_contain_text("was not opened", use_inner_text=True)
        expect(shown.page.locator(".link-again").first).to_be_hidden()
    assert shown.text() == text and shown.page.evaluate("window.hacked") is None
    expect(shown.page.locator(".link-note img")).to_have_count(0)
    shown.page.evaluate("(text) => { location.hash = `text=${text}`; }", packed(link_json(trace)))
    eventually(lambda: shown.text() == trace.text)


def test_a_refused_link_leaves_the_address_so_that_a_reload_keeps_what_is_there(shown: Window, trace: Trace):
    text = shown.write("echo mine")
    shown.page.fill("#prompt textarea", "what I was typing")
    kept(shown, "mine")
    kept(shown, "what I was typing", "fields")
    for bad in (packed(link_json(trace))[:200], packed("{}")):  # refused here, and by the server
        shown.page.evaluate("(text) => { location.hash = `text=${text}`; }", bad)
        expect(shown.page.locator(".link-note").first).to_contain_text("was not opened", use_inner_text=True)
        assert shown.page.evaluate("location.hash") == ""
        shown.reload()
        eventually(lambda: shown.text() == text, 10)
        expect(shown.page.locator("#prompt textarea")).to_have_value("what I was typing")
        expect(shown.page.locator(".link-note").first).to_be_hidden()


def test_what_was_typed_under_the_text_of_a_link_is_there_after_a_reload(shown: Window, trace: Trace):
    address = shown.url
    shown.url = f"{address}#text={packed(link_json(trace))}"
    shown.open()
    eventually(lambda: shown.text() == trace.text)
    shown.page.fill("#prompt textarea", "echo what I was typing")
    kept(shown, "come")
    kept(shown, "what I was typing", "fields")
    shown.reload()
    eventually(lambda: shown.text() == trace.text, 10)
    shown.page.wait_for_timeout(700)
    expect(shown.page.locator("#prompt textarea")).to_have_value("echo what I was typing")
    assert shown.page.url == shown.url, "it can still be passed on"
    shown.page.click("#generate")
    eventually(lambda: shown.text() == "what I was typing")
    eventually(lambda: shown.page.url == address)
    kept(shown, "what I was typing")
    shown.reload()
    eventually(lambda: shown.text() == "what I was typing", 10)


def test_a_text_too_long_for_a_link_is_offered_as_a_file_to_send(shown: Window, monkeypatch):
    monkeypatch.setattr("app.share.link.MAX_LINK_TOKENS", 3)
    shown.write("echo one two three four five")
    ready(shown)
    shown.page.click('[data-take="link"]')
    said = says(shown, "too long")
    assert "at most 32,000 characters. Copied the link to the settings." in said
    follow = shown.page.evaluate("navigator.clipboard.readText()")
    assert "prompt=echo" in follow and "#" not in follow
    with shown.page.expect_download() as coming:
        shown.page.click(".share-file")
    assert coming.value.suggested_filename.endswith(".json")


def test_a_swept_texts_link_is_scrubbed_through_where_it_is_opened(browser, tiny_pair):
    with serve(lambda preset, progress: tiny_pair) as site, window(browser, site, **CLIPBOARD) as shown:
        shown.page.wait_for_selector("text=tiny SLM ⇄ LLM", timeout=60_000)
        shown.page.fill("#prompt textarea", PROMPT)
        shown.page.select_option(".sweep-over", "threshold")
        shown.page.click(".sweep-go")
        shown.page.wait_for_selector(SWEPT, timeout=60_000)
        seen = {}
        for threshold in (0, 1):
            shown.slide("#threshold", threshold)
            eventually(lambda t=threshold: f"text at threshold {t}," in shown.page.inner_text(".stream-state"))
            seen[threshold] = colours(shown)
        assert seen[0] != seen[1]
        link = copied_link(shown)
        with window(browser, site, 360, 780, color_scheme="dark", reduced_motion="reduce") as there:
            there.url = link
            there.open()
            eventually(lambda: colours(there) == seen[1], 10)
            expect(there.page.locator(".link-note").first).to_contain_text("scrub through", use_inner_text=True)
            steps = site.host.scheduler.steps
            there.slide("#threshold", 0)
            eventually(lambda: colours(there) == seen[0])
            there.slide("#threshold", 1)
            eventually(lambda: colours(there) == seen[1])
            assert site.host.scheduler.steps == steps
            expect(there.page.locator(".sweep-open").first, "there is nothing to go on with").to_be_disabled()
            assert there.page.evaluate("document.documentElement.scrollWidth") <= 360
            assert complaints(there) == []
        assert complaints(shown) == []


def test_scrubbing_an_opened_sweep_leaves_no_figure_of_another_text_on_the_meter(shown: Window, sweep: Sweep):
    text = of_row(sweep, 3)
    shown.url = f"{shown.url}#text={packed(link_json(text, swept_of(sweep, text.request)))}"
    shown.open()
    eventually(lambda: shown.text() == text.text and shown.field("tokens") == str(len(text.events)))
    shown.slide("#threshold", 1.01)
    eventually(lambda: shown.field("tokens") == "–")
    assert {shown.field(name) for name in ("saves", "slm", "run", "llm", "speed")} == {"–"}
    headline, note = (shown.page.text_content(each) for each in (".headline", ".meter-note"))
    assert all(shown.page.text_content(f'[data-field="{name}"]') in headline for name in ("share", "relative"))
    assert "100 %" in shown.field("share") and "plots are of the last text" in note
    expect(shown.page.locator(".meter-open").first, "that button is out of use").to_be_hidden()


def test_a_link_of_settings_still_fills_in_and_runs_nothing(shown: Window, pair):
    before = len(pair.requests)
    follow_link(shown, "prompt=echo+hello")
    shown.page.wait_for_selector(".link-note")
    expect(shown.page.locator(".link-again").first).to_be_hidden()
    assert len(pair.requests) == before
