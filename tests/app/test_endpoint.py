"""The page's server is an endpoint for other programs, too, under the same port and with the same rows."""

from __future__ import annotations

import json
import threading
from http.client import HTTPConnection
from urllib.parse import urlsplit

import httpx
import pytest

from app.share.program import ADDRESS, program
from engine import Request, Sampling
from engine.endpoint.bodies import MOST_BYTES
from engine.request import Turn
from tests.support.browser import Site, eventually, serve
from tests.support.fake_pair import FakePair

ASKED = {"model": "cpu:0.5@0.2", "messages": [{"role": "user", "content": "a palindrome"}], "max_tokens": 40}
SAME = Request("a palindrome", threshold=0.5, acceptance=0.2, max_new_tokens=40)


@pytest.fixture
def client(site: Site, pair: FakePair):
    pair.tokens_per_second = 400.0
    with httpx.Client(base_url=f"{site.url}v1", timeout=30) as client:
        client.get("/models")  # where nobody asked before, the models are loaded from now on
        eventually(lambda: client.get("/models").status_code == 200)
        yield client
    eventually(lambda: pair.open_streams == 0)


def test_a_program_gets_its_text_from_the_pages_server_and_its_rows(client: httpx.Client, site: Site, pair: FakePair):
    texts = site.host.scheduler.texts
    reply = client.post("/chat/completions", json=ASKED).json()
    assert reply["choices"][0]["message"]["content"] == pair.generate(SAME).text
    assert site.host.scheduler.texts == texts + 1
    assert reply["citer"]["router"] == "fake-r1" and reply["citer"]["taken_back"] > 0


def test_a_stream_comes_as_it_is_written_and_leaving_it_frees_the_row(client: httpx.Client, site: Site, pair: FakePair):
    pair.tokens_per_second, before = 20.0, pair.tokens
    with client.stream("POST", "/chat/completions", json={**ASKED, "stream": True, "max_tokens": 400}) as answer:
        lines = answer.iter_lines()
        assert json.loads(next(lines).removeprefix("data: "))["choices"][0]["delta"]["role"] == "assistant"
        assert pair.open_streams == 1
    eventually(lambda: site.host.scheduler.rows == 0)
    assert pair.tokens - before < 100


def test_what_the_page_refuses_is_told_to_programs_in_their_shape(client: httpx.Client, site: Site):
    for headers in ({"Host": "evil.example"}, {"Origin": "https://evil.example"}):
        answer = client.post("/chat/completions", json=ASKED, headers=headers)
        assert answer.status_code == 403 and answer.json()["error"]["type"] == "invalid_request_error"
    connection = HTTPConnection(urlsplit(site.url).netloc, timeout=30)
    connection.putrequest("POST", "/v1/completions")
    connection.putheader("Content-Length", str(MOST_BYTES + 1))
    connection.endheaders()
    answer = connection.getresponse()
    assert answer.status == 413 and "2,000,000 bytes" in json.load(answer)["error"]["message"]
    connection.close()
    assert client.get("/embeddings").json()["error"]["code"] == "not_found"
    assert client.post("/chat/completions", json={**ASKED, "temperature": 9}).json()["error"]["param"] == "temperature"
    assert httpx.post(f"{site.url}generate", json={}).status_code == 404  # elsewhere in the page's own words


def test_while_the_models_load_a_program_is_told_when_to_ask_again():
    ready = threading.Event()
    with serve(lambda preset, progress: ready.wait(20) and FakePair(300)) as site:
        answer = httpx.get(f"{site.url}v1/models")
        assert answer.status_code == 503 and int(answer.headers["retry-after"]) >= 1
        assert "loaded" in answer.json()["error"]["message"]
        ready.set()
        eventually(lambda: httpx.get(f"{site.url}v1/models").status_code == 200)


@pytest.mark.parametrize(
    "request_",
    [
        SAME,
        Request("say 'hi' {address}", policy="confidence", threshold=0.9, sampling=Sampling(0.7, 0.9, 3), seed=5),
        Request("go on", policy="slm", raw=True, stop=("\n",), max_new_tokens=9),
        Request("b", system="Be brief.", turns=(Turn("user", "a"), Turn("assistant", "A"))),
    ],
)
def test_the_lines_for_a_program_get_the_text_that_is_on_the_page(client, site, pair, request_, capsys):
    pytest.importorskip("openai", reason="openai is not installed")
    trace = pair.generate(request_)
    lines = program(trace)
    assert len(lines.splitlines()) == 3 and lines.index(ADDRESS) < lines.index("model=")
    assert program(trace, locked=True) == lines.replace('"none"', '"put the server\'s key here"')
    exec(lines.replace(ADDRESS, f"{site.url}v1", 1), {})
    assert capsys.readouterr().out == f"{trace.text}\n"
    assert pair.requests[-1] == request_
