"""The public endpoint, called as a client does."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import httpx
import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError

from engine import Trace
from tests.support.browser import eventually, serve
from tests.support.fake_pair import FakePair


@pytest.fixture(scope="module")
def pair():
    return FakePair(500)


@pytest.fixture(scope="module")
def site(pair):
    with serve(lambda preset, progress: pair) as site:
        yield site


@pytest.fixture(scope="module")
def client(site):
    client = Client(site.url, verbose=False)
    yield client
    client.close()


def test_generate_returns_the_whole_trace(client: Client):
    trace = client.predict("a palindrome", 0.5, max_new_tokens=20, seed=3, api_name="/generate")
    assert trace["prompt"] == "a palindrome" and trace["seed"] == 3 and len(trace["events"]) == 20
    assert {event["role"] for event in trace["events"]} == {"slm", "llm"}
    assert trace["cost"]["bytes"]["slm_only"] < trace["cost"]["bytes"]["run"] < trace["cost"]["bytes"]["llm_only"]
    assert Trace.from_json(json.dumps(trace)).text == trace["text"]


def test_acceptance_and_max_draft_reach_the_engine_and_the_trace(client: Client, pair: FakePair):
    trace = client.predict("a palindrome", 0.5, acceptance=0.3, max_draft=8, max_new_tokens=5, api_name="/generate")
    assert (trace["acceptance"], trace["max_draft"]) == (0.3, 8)
    assert (pair.requests[-1].acceptance, pair.requests[-1].max_draft) == (0.3, 8)
    trace = client.predict("a palindrome", 0.5, max_new_tokens=5, api_name="/generate")
    assert (trace["acceptance"], trace["max_draft"]) == (0, "auto")


def test_a_pair_without_a_router_goes_by_confidence_unless_the_router_is_asked_for(random_pair):
    with serve(lambda preset, progress: random_pair) as site:
        client = Client(site.url, verbose=False)
        trace = client.predict("ab", 0.5, max_new_tokens=4, api_name="/generate")
        assert trace["policy"] == "confidence" and len(trace["events"]) == 4
        with pytest.raises(AppError, match="needs a router, and none is loaded: choose confidence"):
            client.predict("ab", 0.5, policy="router", max_new_tokens=4, api_name="/generate")
        client.close()


def test_where_there_is_a_key_a_call_without_it_is_refused_before_any_work(monkeypatch):
    monkeypatch.setenv("CITER_API_KEY", "s3cret")
    pair = FakePair(500)
    with serve(lambda preset, progress: pair) as site:
        for headers in ({}, {"Authorization": "Bearer wrong"}):
            client = Client(site.url, verbose=False, headers=headers)
            with pytest.raises(AppError, match="This server wants its key"):
                client.predict("ab", 0.5, max_new_tokens=4, api_name="/generate")
            client.close()
        assert not pair.requests
        client = Client(site.url, verbose=False, headers={"Authorization": "Bearer s3cret"})
        assert len(client.predict("ab", 0.5, max_new_tokens=4, api_name="/generate")["events"]) == 4
        client.close()


def test_the_cost_follows_the_prices_of_the_call(client: Client):
    cheap, dear = (
        client.predict("a palindrome", 0.5, max_new_tokens=10, llm_price=price, api_name="/generate")["cost"]["price"]
        for price in (1.0, 10.0)
    )
    assert dear["llm_only"] == pytest.approx(10 * cheap["llm_only"])
    assert dear["slm_only"] == pytest.approx(cheap["slm_only"])


def _endpoints(client: Client) -> dict[str, Any]:
    described: Any = client.view_api(return_format="dict")
    return described["named_endpoints"]


def test_generate_is_the_only_public_endpoint(client: Client):
    assert list(_endpoints(client)) == ["/generate"]


def test_its_description_names_every_argument(client: Client):
    names = {parameter["parameter_name"] for parameter in _endpoints(client)["/generate"]["parameters"]}
    assert {"prompt", "threshold", "policy", "max_new_tokens", "temperature", "seed", "stop"} <= names
    assert {"acceptance", "max_draft"} <= names
    assert "request" not in names


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompt": " "}, "prompt is empty"),
        ({"prompt": "x " * 3000}, "3,020 tokens, the context holds 2,048"),
        ({"threshold": 7}, "threshold = 7"),
        ({"threshold": "much"}, "threshold = 'much'"),
        ({"policy": "magic"}, "policy = 'magic' is unknown"),
        ({"temperature": -1}, "temperature = -1"),
        ({"top_p": 0}, "top_p = 0"),
        ({"max_new_tokens": 0}, "max_new_tokens = 0"),
        ({"stop": [""]}, "a stop string must not be empty"),
        ({"slm_price": -1}, "SLM price = -1"),
        ({"llm_price": -0.5}, "LLM price = -0.5"),
        ({"acceptance": 1.5}, "acceptance = 1.5"),
        ({"acceptance": "some"}, "acceptance = 'some'"),
        ({"max_draft": 0}, "max_draft = 0"),
        ({"max_draft": "never"}, "max_draft = 'never'"),
    ],
)
def test_bad_values_are_refused_in_the_engines_words(client: Client, pair: FakePair, options, message):
    asked = len(pair.requests)
    with pytest.raises(AppError, match=message.split("(")[0]):
        client.predict(**{"prompt": "a palindrome", **options}, api_name="/generate")
    assert len(pair.requests) == asked


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-1e999"])
def test_numbers_that_are_none_are_refused_however_they_are_sent(site, pair: FakePair, value: str):
    asked = len(pair.requests)
    defaults = '"router", 20, 0, 1, 0, 1, 0, null, false, null, 0, 0.1, 1, 0, "auto"'
    body = f'{{"data": ["a palindrome", {value}, {defaults}]}}'
    call = httpx.post(f"{site.url}gradio_api/call/generate", content=body, headers={"content-type": "application/json"})
    answer = httpx.get(f"{site.url}gradio_api/call/generate/{call.json()['event_id']}", timeout=10).text
    assert "event: error" in answer and "must be a number from 0 to 2" in answer
    assert len(pair.requests) == asked


def test_a_client_that_goes_away_stops_its_run(site, pair: FakePair):
    pair.tokens_per_second = 2  # the whole text takes half a minute
    script = f"""
from gradio_client import Client
Client({site.url!r}, verbose=False).predict("a palindrome", api_name="/generate")
"""
    process = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.DEVNULL)
    try:
        eventually(lambda: pair.open_streams == 1, 30)
    finally:
        process.kill()
        process.wait()
    eventually(lambda: pair.open_streams == 0, 20)
    pair.tokens_per_second = 500


def test_the_page_never_imports_torch():
    code = "import sys, app.page, app.api, engine.endpoint.heap; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
