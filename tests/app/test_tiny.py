"""`python app.py` as a user starts it, with the shipped tiny pair, in Chromium."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import urllib.request

import pytest
from gradio_client import Client

from tests.support.browser import Site, Window, chromium, eventually, expect, window
from tests.support.paths import ROOT, TINY

pytestmark = pytest.mark.skipif(not (TINY / "llm").is_dir(), reason="the tiny pair is not in assets/tiny")

PROMPT = "Ben has $20. Ben earns $15. Ben spends $9. How much money is it now?"


@pytest.fixture(scope="module")
def site():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "CITER_PRESET": "tiny", "CITER_SERVER__PORT": str(port), "CITER_MAX_NEW_TOKENS": "80"}
    process = subprocess.Popen([sys.executable, "app.py"], cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}/"

    def answers() -> bool:
        assert process.poll() is None, "app.py ended"
        try:
            return urllib.request.urlopen(url, timeout=2).status == 200
        except OSError:
            return False

    try:
        eventually(answers, 60)
        yield Site(url, None, None)  # type: ignore[arg-type]  # another process
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture(scope="module")
def shown(site):
    with chromium() as browser, window(browser, site) as shown:
        shown.page.wait_for_selector("text=tiny SLM ⇄ LLM", timeout=60_000)
        yield shown


@pytest.fixture(scope="module")
def policy(tiny_pair) -> str:
    """What the page chooses by itself."""
    return "router" if tiny_pair.router else "confidence"


def test_the_slider_starts_at_the_routers_own_threshold(shown: Window, tiny_pair):
    at = "document.querySelector('#threshold input[type=range]').value"
    shown.page.wait_for_function(f"{at} == {tiny_pair.threshold}", timeout=10_000)
    assert "has learned short sums" in shown.page.inner_text("#examples-tiny"), "what the tiny pair knows is said"


def test_the_page_shows_token_for_token_what_the_engine_writes(shown: Window, tiny_pair, policy):
    trace = tiny_pair.generate(PROMPT, policy=policy, threshold=tiny_pair.threshold, max_new_tokens=80)
    assert shown.write(PROMPT, 60) == trace.text
    authors = shown.page.eval_on_selector_all(
        ".t", "nodes => nodes.map(n => n.classList.contains('llm') ? 'llm' : 'slm')"
    )
    assert authors == [event.role.value for event in trace.events]
    assert shown.errors == []


@pytest.mark.parametrize(("threshold", "absent"), [(0, ".llm"), (1.01, ".slm")])
def test_the_ends_of_the_slider_are_the_models_alone(shown: Window, tiny_pair, threshold, absent):
    shown.slide("#threshold", threshold)
    alone = tiny_pair.generate(PROMPT, policy="slm" if threshold == 0 else "llm", max_new_tokens=80)
    assert shown.write(PROMPT, 60) == alone.text
    assert shown.tokens(absent) == []
    shown.slide("#threshold", 0.5)


def test_what_the_llm_would_have_written_is_learned_when_it_catches_up(shown: Window):
    shown.slide("#threshold", 0.9)
    shown.write(PROMPT, 60)
    places = shown.page.eval_on_selector_all(".t.llm", "nodes => nodes.map(node => Number(node.dataset.i))")
    authors = shown.page.eval_on_selector_all(".t", "nodes => nodes.map(n => n.classList.contains('llm'))")
    earlier = [i for i in range(max(places)) if not authors[i]]
    shown.page.hover(f'.t[data-i="{earlier[0]}"]')
    eventually(lambda: shown.page.locator(".candidates >> nth=1").locator(".candidate").count() == 5)
    shown.slide("#threshold", 0.5)


def test_a_prompt_beyond_the_context_is_refused_before_any_model_work(shown: Window, tiny_pair):
    shown.ask("Ben has $20. " * 2000)
    shown.wait_state("failed", seconds=20)
    message = shown.page.text_content(".stream-state")
    assert f"{tiny_pair.context:,}" in message or str(tiny_pair.context) in message


def test_markup_and_escape_sequences_in_a_prompt_do_nothing(shown: Window):
    prompt = "<img src=x onerror=window.hacked=1> ${window.hacked=1} {{value}} \x1b[31m 3 + 4"
    shown.write(prompt, 60)
    assert shown.page.evaluate("window.hacked") is None and shown.errors == []
    expect(shown.page.locator("#prompt textarea")).to_have_value(prompt)


def test_the_endpoint_returns_the_trace_of_the_real_pair(site: Site, shown: Window, tiny_pair, policy):
    client = Client(site.url, verbose=False)
    trace = client.predict(PROMPT, 0.5, policy=policy, max_new_tokens=80, api_name="/generate")
    client.close()
    assert trace["text"] == tiny_pair.generate(PROMPT, policy=policy, threshold=0.5, max_new_tokens=80).text
    assert trace["preset"] == "tiny" and set(trace["cost"]) >= {"bytes", "flops", "seconds", "price"}
