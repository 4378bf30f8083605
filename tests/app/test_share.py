"""Take it with you, in Chromium: texts go out as files, Markdown and links, and links are followed."""

from __future__ import annotations

import re
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from PIL import Image

from app.fields import MAX_TEXT
from engine import Trace
from tests.support.browser import Window, check_contrast, eventually, expect, serve, sizes, window
from tests.support.fake_pair import FakePair

BAR, SAID = "#share", ".share-said"
CLIPBOARD: dict[str, Any] = {"permissions": ["clipboard-read", "clipboard-write"]}


@pytest.fixture
def shown(site_window, site, pair):
    pair.tokens_per_second = 400.0
    site_window.url = site.url
    site_window.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    site_window.open()
    yield site_window
    eventually(lambda: pair.open_streams == 0)
    assert site_window.errors == []


@pytest.fixture
def written(shown: Window) -> Window:
    shown.write("echo one two three")
    ready(shown)
    return shown


def ready(shown: Window) -> None:
    shown.page.wait_for_selector('[data-take="json"]:enabled')


def follow_link(shown: Window, query: str) -> None:
    shown.url = f"{shown.url}?{query}"
    shown.open()


def session_of(site):
    (session,) = [session for session in site.sessions._sessions.values() if session.shown]
    return session


def download(shown: Window, kind: str, folder: Path) -> Path:
    with shown.page.expect_download() as coming:
        shown.page.click(f'[data-take="{kind}"]')
    assert coming.value.suggested_filename.endswith(f".{kind}")
    coming.value.save_as(folder / f"text.{kind}")
    return folder / f"text.{kind}"


def says(shown: Window, part: str) -> str:
    """Waits until something with this part is said."""
    eventually(lambda: part in shown.page.inner_text(SAID) and "Opening" not in shown.page.inner_text(SAID), 10)
    return shown.page.inner_text(SAID)


def fields(shown: Window) -> dict[str, str | bool]:
    """What stands in the fields, by label."""
    if not shown.page.is_visible('input[aria-label*="Temperature"] >> nth=0'):
        shown.page.click("#sampling-card button >> nth=0")
    values: dict[str, str | bool] = {
        label: shown.page.locator("#sampling-card").get_by_label(label, exact=False).first.input_value()
        for label in ("Temperature", "Top-p", "Top-k", "Repetition", "New tokens", "Seed", "System", "Stop strings")
    }
    return {
        **values,
        "Prompt": shown.page.input_value("#prompt textarea"),
        "Threshold": shown.page.input_value("#threshold input[type=number]"),
        "Scored by": shown.page.input_value("#policy input"),
        "Raw": shown.page.is_checked("#raw input"),
    }


@contextmanager
def page_of(browser, pair, query: str = "", **options):
    """A page of its own in front of a pair, opened with a query."""
    with serve(lambda preset, progress: pair) as site, window(browser, site, **options) as shown:
        if query:
            shown.url = f"{site.url}?{query}"
            shown.open()
        yield shown, site


# ---- out -------------------------------------------------------------------------------------------------------------


def test_there_is_nothing_to_take_before_there_is_a_text(shown: Window, pair):
    takers = shown.page.locator("[data-take]")
    assert takers.count() == 7 and all(button.is_disabled() for button in takers.all())
    expect(shown.page.locator("[data-open]").first).to_be_enabled()
    pair.tokens_per_second = 1
    shown.ask("echo one two three four five six")
    shown.page.wait_for_selector(".t")
    assert takers.first.is_disabled(), "it is not complete yet"
    pair.tokens_per_second = 400.0
    shown.wait_state("done")
    eventually(lambda: all(button.is_enabled() for button in takers.all()))


def test_the_trace_is_that_of_the_run_at_the_prices_of_the_page(written: Window, site, tmp_path: Path):
    written.slide("#llm-price", 4)
    eventually(lambda: session_of(site).view.prices.llm == 4)
    session = session_of(site)
    trace = Trace.load(download(written, "json", tmp_path))
    run = session.shown
    assert trace == replace(run.pair.trace(run.request, run.events), prices=session.view.prices)
    assert trace.text == "one two three"
    expect(written.page.locator(SAID).first).to_contain_text("Saved as citer-", use_inner_text=True)


def test_the_downloaded_page_shows_the_same_tokens_without_a_server(written: Window, browser, tmp_path: Path):
    tokens, by_llm = written.tokens(), written.tokens(".llm")
    file = download(written, "html", tmp_path)
    context = browser.new_context(offline=True)
    page = context.new_page()
    page.goto(file.as_uri())
    assert page.eval_on_selector_all(".t:not(.end)", "nodes => nodes.map(node => node.textContent)") == tokens
    assert page.eval_on_selector_all(".t.llm:not(.end)", "nodes => nodes.map(node => node.textContent)") == by_llm
    context.close()


def test_markdown_is_copied(shown: Window):
    shown.write("echo ```\n# no heading")
    ready(shown)
    shown.page.click('[data-take="markdown"]')
    assert says(shown, "Copied") == "Copied as Markdown."
    copied = shown.page.evaluate("navigator.clipboard.readText()")
    assert copied.startswith("**Prompt**\n\n> ````text\n> echo ```\n> # no heading\n> ````\n")
    assert "| bytes moved |" in copied and "- SLM: Qwen2.5-Coder 0.5B\n" in copied


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_picture_has_the_coloured_text_and_its_headline(browser, site, scheme: str, tmp_path: Path):
    with window(browser, site, color_scheme=scheme) as shown:
        shown.page.wait_for_selector("text=fake-r1")
        shown.write("a palindrome")
        ready(shown)
        image = Image.open(picture(shown, tmp_path)).convert("RGB")
        assert image.width == 2160 and 600 < image.height < 7000
        counts = Counter({colour: count for count, colour in image.getcolors(image.width * image.height) or []})
        paper = shown.page.evaluate("getComputedStyle(document.querySelector('.stream')).backgroundColor")
        ground = tuple(int(part) for part in re.findall(r"\d+", paper)[:3])
        assert counts.most_common(1)[0][0] == ground or counts[ground] > 100_000
        for kind in ("slm", "llm"):
            assert counts[tinted(shown, kind, ground)] > 2_000, kind
        assert shown.errors == []


def test_a_long_texts_picture_is_bounded_and_says_so(shown: Window, tmp_path: Path):
    lines = ("x" + "\n" * 40 + " ") * 4
    shown.write(f"echo one {lines}two three")
    ready(shown)
    image = Image.open(picture(shown, tmp_path))
    assert image.width * image.height < 16_777_216, "browsers paint no larger one"
    expect(shown.page.locator(SAID).first).to_contain_text("It has the first", use_inner_text=True)


def picture(shown: Window, folder: Path) -> Path:
    with shown.page.expect_download() as coming:
        shown.page.click('[data-take="picture"]')
    assert coming.value.suggested_filename.endswith(".png")
    coming.value.save_as(folder / "text.png")
    says(shown, "Saved as citer-")
    return folder / "text.png"


def tinted(shown: Window, kind: str, ground: tuple[int, ...]) -> tuple[int, ...]:
    """An author's colour over the paper's, as the canvas mixes them."""
    mixed = """([kind, ground]) => {
      const pen = document.createElement('canvas').getContext('2d');
      pen.fillStyle = `rgb(${ground.join(' ')})`;
      pen.fillRect(0, 0, 1, 1);
      pen.fillStyle = getComputedStyle(document.querySelector('.stream')).getPropertyValue(`--${kind}-tint`);
      pen.fillRect(0, 0, 1, 1);
      return [...pen.getImageData(0, 0, 1, 1).data].slice(0, 3);
    }"""
    return tuple(shown.page.evaluate(mixed, [kind, list(ground)]))


def test_the_lines_for_a_program_are_shown_and_copied_with_this_servers_address(written: Window):
    written.page.click('[data-take="program"]')
    says(written, "Copied three lines")
    lines = written.page.input_value(".share-copy")
    assert len(lines.splitlines()) == 3 and f'base_url="{written.url}v1"' in lines and "echo one two three" in lines
    assert written.page.evaluate("navigator.clipboard.readText()") == lines
    assert written.page.inner_text(SAID) == "Copied three lines for a program."
    written.page.click(".t >> nth=1")
    written.page.click(".candidate:enabled >> nth=0")
    written.page.wait_for_selector(".version >> nth=1")
    ready(written)
    written.page.click('[data-take="program"]')
    says(written, "Tokens chosen by hand are not in the program.")


def test_where_the_browser_forbids_copying_the_text_is_there_selected(written: Window):
    written.page.evaluate("void (navigator.clipboard.writeText = () => Promise.reject(new Error('no')))")
    written.page.click('[data-take="settings"]')
    says(written, "copy by hand")
    assert written.page.evaluate("getSelection().toString()").startswith(f"{written.url}?prompt=echo%20one")


def test_a_text_that_the_server_has_dropped_is_said_to_be_gone(written: Window, site):
    site.sessions._sessions.clear()
    written.page.click('[data-take="json"]')
    assert "no longer has this text" in says(written, "no longer")


def test_hostile_text_stays_text_on_the_way_out(written: Window, browser, tmp_path: Path):
    hostile = "</script><img src=x onerror=window.hacked=1>${window.hacked=1}\u2028\ufeff"
    written.write(f"echo {hostile}")
    ready(written)
    assert Trace.load(download(written, "json", tmp_path)).text == hostile
    context = browser.new_context(offline=True)
    page = context.new_page()
    page.goto(download(written, "html", tmp_path).as_uri())
    assert "".join(page.eval_on_selector_all(".t:not(.end)", "nodes => nodes.map(n => n.textContent)")) == hostile
    assert page.evaluate("window.hacked") is None and written.page.evaluate("window.hacked") is None
    context.close()


# ---- links -----------------------------------------------------------------------------------------------------------


def test_a_copied_link_restores_every_field_and_the_text(browser, tiny_pair):
    query = (
        "prompt=Ben%20has%20%245.%0AHow%20much%3F&threshold=0.61&policy=confidence&seed=11&temperature=0.8&top_p=0.9"
        "&top_k=30&repetition_penalty=1.1&max_new_tokens=25&system=Be%20brief.&raw=1&stop=zz%5Cn"
        "&acceptance=0.25&max_draft=6"
    )
    with page_of(browser, tiny_pair, query, **CLIPBOARD) as (shown, site):
        shown.page.wait_for_selector(".link-note")
        shown.page.click("#generate")
        shown.wait_state("done")
        ready(shown)
        text, asked = shown.text(), fields(shown)
        assert (asked["Prompt"], asked["Threshold"], asked["Seed"]) == ("Ben has $5.\nHow much?", "0.61", "11")
        assert (asked["Scored by"], asked["Raw"], asked["Stop strings"]) == ("SLM's own confidence", True, "zz\\n")
        shown.page.click('[data-take="settings"]')
        assert says(shown, "Copied") == "Copied the link to the settings."
        link = shown.page.evaluate("navigator.clipboard.readText()")
        assert dict(parse_qsl(urlsplit(link).query)) == dict(parse_qsl(query))
        with window(browser, site) as other:
            other.url = link
            other.open()
            other.page.wait_for_selector(".link-note")
            assert fields(other) == asked
            other.page.click("#generate")
            other.wait_state("done")
            assert other.text() == text and len(text) > 10


def test_a_link_fills_in_and_nothing_runs(shown: Window, pair):
    before = len(pair.requests)
    expect(shown.page.locator(".link-note").first, "opened without one").to_be_hidden()
    follow_link(shown, "prompt=echo+hello&__theme=light")
    shown.page.wait_for_selector(".link-note")
    assert shown.page.inner_text(".link-note") == "The link filled in prompt; Generate writes the text."
    shown.page.wait_for_timeout(700)
    expect(shown.page.locator(".stream-state").first).to_have_attribute("data-state", "idle")
    assert len(pair.requests) == before
    shown.page.click("#generate")
    shown.wait_state("done")
    assert shown.text() == "hello"


def test_a_links_threshold_and_policy_win_over_those_of_the_models(browser):
    pair = FakePair()
    pair.threshold = 0.9
    with page_of(browser, pair, "threshold=0.25&policy=random") as (shown, _):
        shown.page.wait_for_selector("text=fake-r1")
        shown.page.wait_for_timeout(1200)  # the models' own come twice a second
        expect(shown.page.locator("#threshold input[type=number]")).to_have_value("0.25")
        expect(shown.page.locator("#policy input")).to_have_value("chance")
        shown.ask("echo one two")
        shown.wait_state("done")
        assert (pair.requests[-1].threshold, pair.requests[-1].policy) == (0.25, "random")


def test_values_beyond_the_sliders_that_the_engine_accepts_are_kept(shown: Window, pair):
    follow_link(shown, "threshold=1.5&temperature=3&top_p=0.01&prompt=echo+x")
    shown.page.wait_for_selector(".link-note")
    shown.page.click("#generate")
    shown.wait_state("done")
    asked = pair.requests[-1]
    assert (asked.threshold, asked.sampling.temperature, asked.sampling.top_p) == (1.5, 3, 0.01)


def test_bad_values_of_a_link_are_named_and_the_rest_is_filled_in(shown: Window):
    follow_link(shown, "seed=7&threshold=80&policy=%3Cimg+src%3Dx+onerror%3Dwindow.hacked%3D1%3E&raw=${1}")
    shown.page.wait_for_selector(".link-note")
    note = shown.page.inner_text(".link-note")
    assert "filled in seed;" in note and "threshold = 80.0 must be a number from 0 to 2" in note
    assert "policy = '<img src=x onerror=window.hacked=1>' is unknown" in note and "raw = '${1}'" in note
    assert fields(shown)["Seed"] == "7" and fields(shown)["Threshold"] == "0.5"
    assert shown.page.evaluate("window.hacked") is None
    expect(shown.page.locator(".link-note img")).to_have_count(0)


def test_a_prompt_too_long_for_a_link_is_left_out_and_that_is_said(shown: Window):
    shown.write("echo a" + " " * MAX_TEXT)
    ready(shown)
    shown.page.click('[data-take="settings"]')
    assert says(shown, "too long") == "Copied the link to the settings. The prompt is too long for a link."
    link = shown.page.evaluate("navigator.clipboard.readText()")
    assert "prompt" not in link and "threshold=0.5" in link


# ---- look ------------------------------------------------------------------------------------------------------------


def test_it_fits_is_readable_and_asks_nobody_else(browser, site, tmp_path: Path):
    with window(browser, site, **CLIPBOARD) as shown:
        shown.url = f"{site.url}?seed=x&prompt=echo+hi"
        shown.open()
        shown.page.wait_for_selector(".link-note")
        shown.write("echo hi")
        ready(shown)
        for kind in ("markdown", "settings", "link"):
            shown.page.click(f'[data-take="{kind}"]')
            says(shown, "Copied")
        for kind in ("json", "html"):
            download(shown, kind, tmp_path)
        check_contrast(shown.page, ".share-name", SAID, "[data-take]", "[data-open]", ".link-note p", ".link-note li")
        parts = ("#link-note", "#prompt-card", "#stream", BAR, "#dashboard")
        for width, _ in sizes(shown.page, (1280, 900), (360, 900)):
            order = [shown.page.locator(part).bounding_box()["y"] for part in parts]
            assert order == sorted(order), width
            assert shown.page.evaluate("document.documentElement.scrollWidth") <= width
        away = [url for url in shown.requests if not url.startswith((site.url, "data:", "blob:"))]
        assert shown.requests and away == []


def test_every_button_is_reached_and_used_with_the_keyboard(written: Window, tmp_path: Path):
    written.page.focus("[data-take] >> nth=0")
    reached = []
    for _ in range(8):
        reached.append(written.page.evaluate("document.activeElement.textContent"))
        written.page.keyboard.press("Tab")
    assert reached == [
        "Copy link",
        "Copy as Markdown",
        "Save picture",
        "Page (HTML)",
        "Trace (JSON)",
        "Copy settings link",
        "Use from a program",
        "Open a trace…",
    ]
    written.page.focus('[data-take="json"]')
    with written.page.expect_download():
        written.page.keyboard.press("Enter")
    # The browser's own dialog opens on this click; without a screen its event is now and then missed.
    written.page.locator(f"{BAR} input").first.evaluate(
        "node => node.addEventListener('click', (event) => {"
        "event.preventDefault(); window.picking = navigator.userActivation.isActive; })",
    )
    written.page.focus("[data-open]")
    written.page.keyboard.press("Enter")
    assert written.page.evaluate("window.picking") is True
