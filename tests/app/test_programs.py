"""The page's server for other programs: `/generate`, one call and one trace, and `/v1` for OpenAI's clients.

Values that no field takes are in `tests/app/test_limits.py`; what `/v1` answers is in `tests/engine/test_endpoint.py`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError

from app.share.program import ADDRESS, program
from engine import Request, Sampling, Trace
from engine.endpoint.bodies import MOST_BYTES
from engine.request import Turn
from tests.support.browser import LIMIT, Site, eventually, serve
from tests.support.fake_pair import FakePair

ASKED = {"model": "cpu:0.5@0.2", "messages": [{"role": "user", "content": "a palindrome"}], "max_tokens": 40}
SAME = Request("a palindrome", threshold=0.5, acceptance=0.2, max_new_tokens=40)


@pytest.fixture(scope="module")
def pair():
    return FakePair(500)


@pytest.fixture(scope="module")
def client(site: Site):
    client = client_of(site)
    yield client
    client.close()


@pytest.fixture
def openai(site: Site, pair: FakePair):
    """A client of `/v1`, once the models are there."""
    with httpx.Client(base_url=f"{site.url}v1", timeout=LIMIT) as client:
        eventually(lambda: client.get("/models").status_code == 200)
        yield client
    eventually(lambda: pair.open_streams == 0)


def client_of(site: Site, **options: Any) -> Client:
    return Client(site.url, verbose=False, httpx_kwargs={"timeout": LIMIT}, **options)


def generate(client: Client, *asked, **options) -> dict[str, Any]:
    return client.predict(*asked, **{"max_new_tokens": 20, **options}, api_name="/generate")


# ---- /generate ----


def test_generate_alone_is_open_to_programs_and_gives_the_whole_trace_of_what_was_asked(client: Client, pair: FakePair):
    described: Any = client.view_api(return_format="dict")
    assert list(described["named_endpoints"]) == ["/generate"]
    trace = generate(client, "a palindrome", 0.5, seed=3, acceptance=0.3, max_draft=8, stop=["\n\n"])
    asked = pair.requests[-1]
    assert (asked.threshold, asked.seed, asked.acceptance, asked.max_draft) == (0.5, 3, 0.3, 8)
    assert asked.stop == ("\n\n",) and {event["role"] for event in trace["events"]} == {"slm", "llm"}
    assert trace["cost"]["bytes"]["slm_only"] < trace["cost"]["bytes"]["run"]
    read = Trace.from_json(json.dumps(trace))
    assert read.text == trace["text"] and read.request == asked


def test_the_cost_follows_the_prices_of_the_call(client: Client, pair: FakePair):
    cheap, dear = (generate(client, "a palindrome", llm_price=price)["cost"]["price"] for price in (1.0, 10.0))
    assert dear["llm_only"] == pytest.approx(10 * cheap["llm_only"])
    assert dear["slm_only"] == pytest.approx(cheap["slm_only"])
    asked = len(pair.requests)
    for bad, named in (({"slm_price": -1}, "SLM price = -1"), ({"prompt": "x " * 3000}, "3,020")):
        with pytest.raises(AppError, match=named):
            generate(client, **{"prompt": "a palindrome", **bad})
    assert len(pair.requests) == asked, "refused before any work"


def test_a_call_needs_the_key_and_without_a_router_goes_by_confidence(random_pair, monkeypatch):
    monkeypatch.setenv("CITER_API_KEY", "s3cret")
    with serve(lambda preset, progress: random_pair) as site:
        for headers in ({}, {"Authorization": "Bearer wrong"}):
            client = client_of(site, headers=headers)
            with pytest.raises(AppError, match="key"):
                generate(client, "ab")
            client.close()
        client = client_of(site, headers={"Authorization": "Bearer s3cret"})
        assert generate(client, "ab", max_new_tokens=4)["policy"] == "confidence"
        assert site.host.scheduler.texts == 1, "no work was done without the key"
        with pytest.raises(AppError, match="confidence"):
            generate(client, "ab", policy="router")
        client.close()


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
    code = "import sys, app.page, app.api, engine.endpoint.heap; sys.exit('torch' in sys.modules)"
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


def test_what_the_page_refuses_is_told_to_programs_in_their_shape(openai: httpx.Client, site: Site):
    for headers in ({"Host": "evil.example"}, {"Origin": "https://evil.example"}):
        answer = openai.post("/chat/completions", json=ASKED, headers=headers)
        assert answer.status_code == 403 and answer.json()["error"]["type"] == "invalid_request_error"
    connection = HTTPConnection(urlsplit(site.url).netloc, timeout=LIMIT)
    connection.putrequest("POST", "/v1/completions")
    connection.putheader("Content-Length", str(MOST_BYTES + 1))
    connection.endheaders()
    answer = connection.getresponse()
    assert answer.status == 413 and "2,000,000" in json.load(answer)["error"]["message"]
    connection.close()
    assert openai.get("/embeddings").json()["error"]["code"] == "not_found"
    assert httpx.post(f"{site.url}generate", json={}).status_code == 404, "elsewhere in the page's own words"


@pytest.mark.parametrize(
    "asked",
    [
        SAME,
        Request("say 'hi' {address}", policy="confidence", threshold=0.9, sampling=Sampling(0.7, 0.9, 3), seed=5),
        Request("go on", policy="slm", raw=True, stop=("\n",), max_new_tokens=9),
        Request("b", system="Be brief.", turns=(Turn("user", "a"), Turn("assistant", "A"))),
    ],
)
def test_the_lines_for_a_program_get_the_text_that_is_on_the_page(openai, site, pair, asked, capsys):
    pytest.importorskip("openai", reason="openai is not installed")
    trace = pair.generate(asked)
    lines = program(trace)
    assert len(lines.splitlines()) == 3 and lines.index(ADDRESS) < lines.index("model=")
    exec(lines.replace(ADDRESS, f"{site.url}v1", 1), {})
    assert capsys.readouterr().out == f"{trace.text}\n" and pair.requests[-1] == asked
    assert "key" in program(trace, locked=True).splitlines()[1]
