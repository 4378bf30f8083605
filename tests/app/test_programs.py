"""The page's server for other programs: `/generate`, one call and one trace, and `/v1` for OpenAI's clients.

Values that no field takes are in `tests/app/test_limits.py`; what `/v1` answers is in `tests/engine/test_endpoint.py`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError

from engine import Trace, build_request
from tests.support.browser import LIMIT, Site, eventually, serve
from tests.support.fake_pair import FakePair

ASKED = {"model": "cpu:0.5@0.2", "messages": [{"role": "user", "content": "a palindrome"}], "max_tokens": 40}
SAME = build_request("a palindrome", threshold=0.5, acceptance=0.2, max_new_tokens=40)


@pytest.fixture(scope="module")
def pair():
    return FakePair(500)


@pytest.fixture
def openai(site: Site, pair: FakePair):
    """A client of `/v1`, once the models are there."""
    with httpx.Client(base_url=f"{site.url}v1", timeout=LIMIT) as client:
        eventually(lambda: client.get("/models").status_code == 200)
        yield client
    eventually(lambda: pair.open_streams == 0)


@contextmanager
def calling(site: Site, key: str = "") -> Iterator[Callable[..., Any]]:
    """Calls of `/generate` by gradio's own client."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    client = Client(site.url, verbose=False, httpx_kwargs={"timeout": LIMIT}, headers=headers)
    yield lambda *asked, **more: client.predict(*asked, **{"max_new_tokens": 20, **more}, api_name="/generate")
    client.close()


# ---- /generate ----


def test_generate_gives_the_whole_trace_of_what_was_asked_at_the_prices_of_the_call(site: Site, pair: FakePair):
    named = httpx.get(f"{site.url}gradio_api/info", timeout=LIMIT).json()["named_endpoints"]
    assert list(named) == ["/generate"], "programs are told of no other function of the page"
    with calling(site) as generate:
        trace = generate("a palindrome", 0.5, seed=3, acceptance=0.3, max_draft=8, stop=["\n\n"])
        read, asked = Trace.from_json(json.dumps(trace)), pair.requests[-1]
        assert (str(asked.setting), asked.seed) == ("router < 0.5 @ 0.3/8", 3)
        assert asked.stop == ("\n\n",) and read.text == trace["text"] and read.request == asked
        cheap, dear = (generate("a palindrome", llm_price=price)["cost"]["price"] for price in (1.0, 10.0))
        assert dear["llm_only"] == pytest.approx(10 * cheap["llm_only"])
        assert dear["slm_only"] == pytest.approx(cheap["slm_only"])
        before = len(pair.requests)
        for bad, named in (({"slm_price": -1}, "SLM price = -1"), ({"prompt": "x " * 3000}, "3,020")):
            with pytest.raises(AppError, match=named):
                generate(**{"prompt": "a palindrome", **bad})
        assert len(pair.requests) == before, "refused before any work"


def test_a_call_needs_the_key_and_without_a_router_goes_by_confidence(random_pair, monkeypatch):
    monkeypatch.setenv("CITER_API_KEY", "s3cret")
    with serve(lambda preset, progress: random_pair) as site:
        for key in ("", "wrong"):
            with calling(site, key) as generate, pytest.raises(AppError, match="key"):
                generate("ab")
        with calling(site, "s3cret") as generate:
            assert generate("ab", max_new_tokens=4)["policy"] == "confidence"
            assert site.host.scheduler.texts == 1, "no work was done without the key"
            with pytest.raises(AppError, match="confidence"):
                generate("ab", policy="router")


def test_a_client_that_goes_away_stops_its_text(site: Site, pair: FakePair):
    pair.tokens_per_second = 2  # the whole text takes minutes
    script = f"from gradio_client import Client; Client({site.url!r}, verbose=False).predict('a', api_name='/generate')"
    process = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.DEVNULL)
    try:
        eventually(lambda: pair.open_streams == 1)
    finally:
        process.kill()
        process.wait()
    eventually(lambda: pair.open_streams == 0)
    pair.tokens_per_second = 500


def test_the_page_is_up_without_importing_torch():
    code = "import sys, app.page, app.api, engine.guard.heap; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# ---- /v1 ----


def test_a_program_gets_its_text_from_the_pages_rows_and_leaving_frees_them(openai, site: Site, pair: FakePair):
    texts = site.host.scheduler.texts
    reply = openai.post("/chat/completions", json=ASKED).json()
    assert reply["choices"][0]["message"]["content"] == pair.generate(SAME).text
    assert site.host.scheduler.texts == texts + 1 and reply["citer"]["taken_back"] > 0
    pair.tokens_per_second, before = 20.0, pair.tokens
    with openai.stream("POST", "/chat/completions", json={**ASKED, "stream": True, "max_tokens": 2000}) as answer:
        first = next(answer.iter_lines()).removeprefix("data: ")
        assert json.loads(first)["choices"][0]["delta"]["role"] == "assistant" and pair.open_streams == 1
    eventually(lambda: site.host.scheduler.rows == 0)
    assert pair.tokens - before < 2000
    pair.tokens_per_second = 500
