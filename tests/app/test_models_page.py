"""The panel "Models" in Chromium, before real small models: choose, look what it takes, load, write; other windows."""

from __future__ import annotations

import json
import shutil
import threading

import httpx
import pytest

import engine
from app.models.panel import _ModelsHandlers
from engine import load_settings
from tests.support.browser import Window, eventually, expect, serve, window
from tests.support.own_pair import save_arithmetic
from tests.support.paths import ROOT

PROMPT = "Start with 12. Add 30. What is the result?"
HEADER = "#models .models"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A second tiny pair, `mine` in a file of pairs; the same with damaged weights; and a router of another name."""
    folder = tmp_path_factory.mktemp("own")
    slm, llm = save_arithmetic(folder)
    (folder / "pairs.toml").write_text(
        f'[mine]\nslm = {json.dumps(str(slm))}\nllm = {json.dumps(str(llm))}\nweights = "fp32"\n'
    )
    shutil.copytree(llm, folder / "damaged")
    weights = folder / "damaged" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-5000])
    shutil.copytree(ROOT / "assets" / "routers" / "tiny", folder / "elsewhere")
    card = folder / "elsewhere" / "router.json"
    card.write_text(json.dumps(json.loads(card.read_text("utf-8")) | {"name": "elsewhere"}), "utf-8")
    return folder


@pytest.fixture(scope="module")
def settings(folder):
    return load_settings(
        preset="tiny", pairs=folder / "pairs.toml", cache_dir=folder / "cache", hub=False, mirror=False,
        max_new_tokens=40,
    )  # fmt: skip


@pytest.fixture(scope="module")
def site(settings):
    with serve(lambda preset, progress: engine.load(None, settings, progress), "tiny", settings) as site:
        yield site


@pytest.fixture
def shown(site_window: Window):
    site_window.open()
    wait_header(site_window, "router ")
    yield site_window
    assert site_window.errors == []


def wait_header(shown: Window, text: str, seconds: float = 40) -> None:
    eventually(lambda: text in (shown.page.text_content(HEADER) or ""), seconds)


def open_panel(shown: Window) -> None:
    shown.page.click("#models-card button >> nth=0")
    shown.page.wait_for_selector("#models-look")


def choose(shown: Window, pair: str, slm: str = "", llm: str = "", router: str = "auto") -> str:
    """Fills in the panel and asks what that takes; what is said then."""
    page = shown.page
    page.click("#models-pair input")
    page.click(f'[role="option"] >> text="{pair}"')
    page.fill("#models-slm textarea, #models-slm input", slm)
    page.fill("#models-llm textarea, #models-llm input", llm)
    page.fill("#models-router input", router)
    page.press("#models-router input", "Enter")
    page.click("#models-look")
    return eventually(lambda: (text := says(shown)) and "Looking" not in text and "everybody" not in text and text, 20)


def says(shown: Window) -> str:
    return shown.page.inner_text("#models-says")


def load(shown: Window) -> None:
    shown.page.click("#models-load:enabled")


def back_to_tiny(shown: Window) -> None:
    choose(shown, "tiny")
    load(shown)
    wait_header(shown, "tiny SLM ⇄ LLM")
    wait_header(shown, "router tiny")


def test_a_pair_is_chosen_loaded_and_written_with_and_other_windows_notice(shown, site, browser):
    with window(browser, site) as other:
        wait_header(other, "tiny SLM ⇄ LLM")
        text = other.write(PROMPT)
        open_panel(shown)
        expect(shown.page.locator("#models-load")).to_be_disabled()
        told = choose(shown, "mine")
        assert told.startswith("Nothing to download: the models are here.\nMemory: ") and "are free" in told
        assert "Then its texts end, for all who are here." in told
        load(shown)
        for each in (shown, other):
            wait_header(each, "small ⇄ large")
            eventually(lambda each=each: "No router belongs to this pair" in each.page.inner_text("#models"))
            eventually(lambda each=each: each.page.input_value("#policy input") == "SLM's own confidence")
        eventually(lambda: says(shown) == "The page has small ⇄ large now.")
        expect(shown.page.locator("#models-load")).to_be_disabled()
        state = ".stream-state"
        eventually(lambda: "Written by tiny SLM ⇄ LLM, router tiny, before this page" in other.page.text_content(state))
        assert other.text() == text
        expect(other.page.locator(".stream-more").first).to_be_hidden()
        assert other.write(PROMPT) and "Written by" not in (other.page.text_content(state) or "")
        run = newest(site)
        assert run.pair is site.host.pair and run.pair.trace(run.request, run.events).slm == "small"
        other.page.click("#tabs [role=tab] >> text=Compare")
        # Gradio's list throws where its choices become fewer while it is open, so it is opened when they have.
        eventually(lambda: chosen_in(other, "compare") == "SLM's own confidence")
        offered = eventually(lambda: compare_choices(other))
        assert "trained router" not in offered
        other.page.keyboard.press("Escape")
        other.page.click("#tabs [role=tab] >> text=Tune")
        for tab in ("compare", "tune"):
            eventually(lambda tab=tab: chosen_in(other, tab) == "SLM's own confidence")
        back_to_tiny(shown)
        for tab in ("compare", "tune"):
            eventually(lambda tab=tab: chosen_in(other, tab) == "trained router")
        assert other.errors == []
    eventually(lambda: shown.page.input_value("#policy input") == "trained router")


def chosen_in(shown: Window, tab: str) -> str:
    return shown.page.input_value(f"#{tab}-policy input")


def compare_choices(shown: Window) -> list[str]:
    shown.page.click("#compare-policy input")
    return shown.page.locator('[role="option"]').all_inner_texts()


def newest(site):
    return max((s.run for s in site.sessions._all() if s.run), key=lambda run: run.number)


def test_a_wrong_path_is_told_where_it_was_typed_and_nothing_is_loaded(shown, site):
    pair = site.host.pair
    open_panel(shown)
    told = choose(shown, "tiny", slm="no/such/folder")
    assert "CITER_SLM = no/such/folder: no such folder, no such GGUF file, and not a repo of the Hub" in told
    expect(shown.page.locator("#models-load")).to_be_disabled()
    assert "no config.json" in choose(shown, "tiny", llm=str(ROOT / "docs"))
    assert "Router = nowhere at all: no such folder" in choose(shown, "tiny", router="nowhere at all")
    assert choose(shown, "tiny") == "The page has these models and this router already."
    assert shown.page.is_disabled("#models-load")
    assert "Nothing to download" in choose(shown, "mine")
    shown.page.wait_for_selector("#models-load:enabled")
    shown.page.fill("#models-slm textarea, #models-slm input", "other")
    shown.page.wait_for_selector("#models-load:disabled", state="attached")
    assert site.host.pair is pair and site.host.status.phase == "ready"


def test_a_window_opened_after_a_change_of_the_pair_is_not_told_of_it(shown, site):
    site.host.news += 2
    shown.open()
    open_panel(shown)
    for _ in range(3):
        shown.page.wait_for_event("response", lambda answer: answer.url.endswith("/citer/pair"))
    assert says(shown) == "For everybody on this page."
    site.host.news += 1
    eventually(lambda: says(shown) == "The page has tiny SLM ⇄ LLM now.")


def test_an_answer_about_another_choice_than_the_one_that_stands_there_unlocks_nothing(shown, site, monkeypatch):
    plain, go_on = _ModelsHandlers._looked_at, threading.Event()

    def slowly(handlers, values):
        assert go_on.wait(20)
        return plain(handlers, values)

    monkeypatch.setattr(_ModelsHandlers, "_looked_at", slowly)
    open_panel(shown)
    shown.page.click("#models-pair input")
    shown.page.click('[role="option"] >> text="mine"')
    shown.page.click("#models-look")
    eventually(lambda: "Looking" in says(shown))
    shown.page.fill("#models-slm textarea, #models-slm input", "other")
    go_on.set()
    eventually(lambda: says(shown) == "Another choice since. What does it take?")
    expect(shown.page.locator("#models-load")).to_be_disabled()


def test_what_cannot_be_loaded_is_told_and_the_pair_from_before_writes(shown, site, folder):
    pair = site.host.pair
    open_panel(shown)
    told = choose(shown, "auto", slm=str(folder / "small"), llm=str(folder / "damaged"))
    assert "Disk: " in told and "Memory: " in told
    load(shown)
    eventually(lambda: "The other pair was not loaded." in shown.page.inner_text("#models"), 30)
    eventually(lambda: "The pair from before is there." in says(shown))
    assert site.host.pair is pair and "tiny SLM ⇄ LLM" in (shown.page.text_content(HEADER) or "")
    assert shown.write(PROMPT)


def test_another_router_leaves_the_models_as_they_are(shown, site, folder):
    before = site.host.pair
    weights = before.slm.model
    open_panel(shown)
    told = choose(shown, "tiny", router=str(folder / "elsewhere"))
    assert told.startswith("The models stay; only the router is another.")
    load(shown)
    wait_header(shown, "router elsewhere")
    assert site.host.pair is not before and site.host.pair.slm.model is weights
    assert (
        shown.write(PROMPT) and newest(site).pair.trace(newest(site).request, newest(site).events).router == "elsewhere"
    )
    back_to_tiny(shown)
    assert site.host.pair.slm.model is weights


def test_where_the_host_does_not_allow_it_there_is_no_fold_and_no_event(settings, browser, site):
    closed = settings.model_copy(update={"server": settings.server.model_copy(update={"choose": "off"})})
    events = {name: number for number, function in site.page.fns.items() if (name := function.name) in ("look", "load")}
    assert set(events) == {"look", "load"}
    with serve(lambda preset, progress: engine.load(None, settings, progress), "tiny", closed) as off:
        assert not [function for function in off.page.fns.values() if function.name in events]
        with window(browser, off) as shown:
            wait_header(shown, "tiny SLM ⇄ LLM")
            expect(shown.page.locator("#models-card")).to_have_count(0)
        pair = off.host.pair
        for number in events.values():
            body = {"data": ["mine", "", "", "auto"], "fn_index": number, "session_hash": "abc"}
            answer = httpx.post(f"{off.url}gradio_api/queue/join", json=body)
            assert answer.status_code in (404, 422, 200)  # another event may have this number
        assert off.host.pair is pair and off.host.news == 0
