"""The page's server for other programs: `/v1` for OpenAI's clients; what it answers is in `test_endpoint.py`."""

from __future__ import annotations

import json
import subprocess
import sys

import httpx
import pytest

from engine import build_request
from tests.support.browser import LIMIT, Site, eventually
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


def test_the_page_is_up_without_importing_torch():
    code = "import sys, app.page, engine.guard.process; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


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
