"""This project's own endpoint as the LLM's server: the same texts over HTTP; and before one that fails, a word."""

from __future__ import annotations

import json

import httpx

from tests.support.fake_llm_server import served
from tests.support.served_endpoint import serve_endpoint
from tests.support.served_pair import PROMPTS, asked, loaded


def request(model: str, **options):
    """What a program sends."""
    return {"model": model, "messages": [{"role": "user", "content": PROMPTS[0]}], "max_tokens": 16, **options}


def test_a_program_hears_that_the_llms_server_is_gone_after_all_that_was_written(tiny_pair):
    expected = tiny_pair.generate(asked(PROMPTS[0], 1.01))
    with (
        served(tiny_pair) as server,
        loaded(server, llm_patience=0.2) as pair,
        serve_endpoint(pair) as here,
        httpx.Client(base_url=here.url, timeout=120) as client,
    ):
        last = server.asked + 5
        server.fault = lambda number: "500" if number > last else None
        with client.stream("POST", "/chat/completions", json=request("tiny:llm", stream=True)) as answer:
            assert answer.status_code == 200
            *parts, end = [json.loads(line[6:]) for line in answer.iter_lines() if line.startswith("data: {")]
        tokens = [token["id"] for part in parts for token in part["choices"][0]["citer"]["tokens"]]
        assert tokens == [event.id for event in expected.events[:5]], "what was written is there"
        assert end["error"]["type"] == "server_error" and "stays" in end["error"]["message"]
        server.stop()
        answer = client.post("/chat/completions", json=request("tiny:llm"))
        assert answer.status_code == 503 and int(answer.headers["retry-after"]) >= 1
        error = answer.json()["error"]
        assert error["code"] == "unavailable"
        assert client.post("/chat/completions", json=request("tiny:slm")).status_code == 200
