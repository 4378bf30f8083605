"""This project's own endpoint as the LLM's server: the same texts over HTTP; and before one that fails, a word."""

from __future__ import annotations

import json

import httpx
import pytest

from engine import InvalidRequest, SettingsError, load
from engine.served.model import ServedModel
from tests.support.fake_llm_server import served
from tests.support.served_endpoint import serve_endpoint
from tests.support.served_pair import PROMPTS, THRESHOLDS, asked, loaded, written


def test_the_endpoint_serves_the_llm_of_another_pair_token_for_token(tiny_pair):
    requests = [asked(prompt, threshold) for prompt in PROMPTS[:2] for threshold in THRESHOLDS]
    ours = written(tiny_pair.generate_batch(requests))
    with serve_endpoint(load("tiny"), api_key="a-key-for-it") as server:
        wrong = {"llm_key": "a-key-for-it", "llm_name": "no"}
        with pytest.raises(SettingsError, match="it has tiny"), loaded(server, **wrong):
            pass
        with loaded(server, llm_key="a-key-for-it", llm_name="tiny:llm") as pair:
            assert written(pair.generate_batch(requests)) == ours
            assert isinstance(pair.llm, ServedModel) and pair.llm.dialect.owner == "citer"
            with pytest.raises(InvalidRequest, match="acceptance"):
                pair.check(asked(PROMPTS[0], 0.5, 0.5))
        with loaded(server, llm_key="a-key-for-it") as pair:
            assert pair.llm_name == "tiny:llm", "of all its names the one that is the LLM"


def request(model: str, **options):
    """What a program sends."""
    return {"model": model, "messages": [{"role": "user", "content": PROMPTS[0]}], "max_tokens": 16, **options}


def test_a_program_hears_that_the_llms_server_is_gone_after_all_that_was_written(tiny_pair):
    expected = tiny_pair.generate(asked(PROMPTS[0], 1.01))
    with (
        served("sglang", tiny_pair) as server,
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


def test_a_stream_holds_the_whole_text_where_its_last_drafts_stay_unread(tiny_pair):
    with (
        served("sglang", tiny_pair) as server,
        loaded(server, llm_patience=0.2, llm_gone="slm") as pair,
        serve_endpoint(pair) as here,
        httpx.Client(base_url=here.url, timeout=120) as client,
    ):
        server.fault = lambda number: "500"
        body = request("tiny:0@0.5", n=2, citer={"max_draft": 6}, stream_options={"include_usage": True}, stream=True)
        with client.stream("POST", "/chat/completions", json=body) as answer:
            *parts, end = [json.loads(line[6:]) for line in answer.iter_lines() if line.startswith("data: {")]
        alone = client.post("/chat/completions", json=request("tiny:slm")).json()["choices"][0]
    for index in range(2):
        own = [choice for part in parts for choice in part["choices"] if choice["index"] == index]
        tokens = [token["id"] for choice in own for token in choice["citer"]["tokens"]]
        assert tokens == [token["id"] for token in alone["citer"]["tokens"]]
        assert "".join(choice["delta"]["content"] for choice in own) == alone["message"]["content"]
        assert [choice["finish_reason"] for choice in own] == [None] * (len(own) - 1) + [alone["finish_reason"]]
    assert end["usage"]["completion_tokens"] == 2 * len(alone["citer"]["tokens"])
