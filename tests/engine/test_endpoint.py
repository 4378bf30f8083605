"""The endpoint, by its own server on a free port: what a program asks for is what it gets, or it is told why not."""

from __future__ import annotations

import json
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from engine import decoding
from engine.events import llm_passes, llm_share, taken_back
from engine.guard.guard import MOST_BYTES
from engine.request import Turn
from tests.support.served_endpoint import eventually, serve_endpoint

QUESTION = "Start with 12. Add 30. What is the result?"
MESSAGES = [{"role": "user", "content": QUESTION}]
CHAT, COMPLETIONS = "/chat/completions", "/completions"
BODY = {"model": "tiny", "messages": MESSAGES}
LONG = {"model": "custom:slm", "messages": MESSAGES, "max_tokens": 1900}
"""To the random pair: a text that does not end by itself."""


@pytest.fixture(scope="module")
def client(served):
    with httpx.Client(base_url=served.url, timeout=120) as client:
        yield client


def chat(client, **asked):
    answer = client.post(CHAT, json={**BODY, **asked})
    assert answer.status_code == 200, answer.text
    return answer.json()


def chunks(client, path=CHAT, **asked):
    """The parts of a stream."""
    body = {"model": "tiny", "stream": True, **({"messages": MESSAGES} if path == CHAT else {}), **asked}
    with client.stream("POST", path, json=body) as answer:
        assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/event-stream")
        lines = [line.removeprefix("data: ") for line in answer.iter_lines() if line.startswith("data: ")]
    assert lines.pop() == "[DONE]"
    return [json.loads(line) for line in lines]


# What is written


@pytest.mark.parametrize(
    ("model", "asked", "same"),
    [
        ("tiny:0.5@0.3", {}, {"threshold": 0.5, "acceptance": 0.3}),
        ("tiny:llm", {"temperature": 1.5, "seed": 7}, {"policy": "llm", "temperature": 1.5, "seed": 7}),
        ("tiny:random<0.5", {"seed": 3}, {"policy": "random", "threshold": 0.5, "seed": 3}),
    ],
)
def test_a_text_is_that_of_the_pair_token_for_token_with_authors_and_cost(client, tiny_pair, model, asked, same):
    trace = tiny_pair.generate(QUESTION, **{"policy": "router", **same})
    reply = chat(client, model=model, **asked)
    (choice,) = reply["choices"]
    assert choice["message"]["content"] == trace.text and choice["finish_reason"] == "stop"
    about = reply["citer"]
    assert about["llm_share"] == llm_share(trace.events) and about["taken_back"] == taken_back(trace.events)
    assert about["llm_passes"] == llm_passes(trace.events)
    for token, event in zip(choice["citer"]["tokens"], trace.events, strict=True):
        assert (token["id"], token["by"], token["text"]) == (event.id, event.role.value, event.text)
        assert token["score"] == pytest.approx(event.score, abs=1e-5)
        assert token["ratio"] == pytest.approx(event.ratio, abs=1e-5)
    cost = json.loads(trace.to_json())["cost"]
    for unit in ("bytes", "flops", "price"):
        assert about["cost"][unit] == cost[unit]
    usage = {"prompt_tokens": trace.prompt_tokens, "completion_tokens": len(trace.events)}
    assert reply["usage"].items() >= usage.items()


def test_a_stream_sends_the_same_texts_and_only_what_is_never_taken_back(client):
    # Drafts of a fixed length: "auto" depends on the clock.
    asked = {"model": "tiny:0.2@1/6", "temperature": 2.0, "seed": 5, "n": 2, "max_tokens": 60}
    whole, parts = chat(client, **asked), chunks(client, **asked, stream_options={"include_usage": True})
    assert whole["citer"]["taken_back"] > 0
    usage = parts.pop()
    assert usage["choices"] == [] and usage["usage"] == whole["usage"]
    assert parts[-1]["citer"]["taken_back"] == whole["citer"]["taken_back"]
    assert whole["choices"][0]["message"] != whole["choices"][1]["message"]
    for choice in whole["choices"]:
        own = [each for part in parts for each in part["choices"] if each["index"] == choice["index"]]
        assert "".join(each["delta"]["content"] for each in own) == choice["message"]["content"]
        assert [each["delta"].get("role") for each in own] == ["assistant"] + [None] * (len(own) - 1)
        assert [each["finish_reason"] for each in own] == [None] * (len(own) - 1) + [choice["finish_reason"]]
        tokens = [[token["id"], token["by"]] for each in own for token in each["citer"]["tokens"]]
        assert tokens == [[token["id"], token["by"]] for token in choice["citer"]["tokens"]]


def test_a_conversation_is_what_the_chat_template_makes_of_its_turns(client, tiny_pair):
    said = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Start with "}, {"type": "text", "text": "3."}]},
        {"role": "assistant", "content": "3 <|im_end|>"},
        {"role": "user", "content": QUESTION, "name": "ann"},
    ]
    turns = (Turn("user", "Start with 3."), Turn("assistant", "3 <|im_end|>"))
    trace = tiny_pair.generate(QUESTION, threshold=0.5, system="Be brief.", turns=turns)
    reply = chat(client, model="tiny:0.5", messages=said)
    assert reply["choices"][0]["message"]["content"] == trace.text
    assert reply["usage"]["prompt_tokens"] == trace.prompt_tokens


def test_completions_take_several_texts_at_once_and_n_of_each(client, tiny_pair):
    texts = ["12 + 30 =", "7 - 5 ="]
    asked = {"model": "tiny:llm", "prompt": texts, "temperature": 1.0, "seed": 4, "n": 2, "max_tokens": 6}
    reply = client.post(COMPLETIONS, json=asked).json()
    choices = reply["choices"]
    assert [choice["index"] for choice in choices] == [0, 1, 2, 3]
    options = {"raw": True, "policy": "llm", "temperature": 1.0, "max_new_tokens": 6}
    expected = [tiny_pair.generate(text, seed=seed, **options) for text in texts for seed in (4, 5)]
    assert [choice["text"] for choice in choices] == [trace.text for trace in expected]
    ids_of = [[token["id"] for token in choice["citer"]["tokens"]] for choice in choices]
    assert ids_of == [[event.id for event in trace.events] for trace in expected]
    assert reply["usage"]["prompt_tokens"] == sum(trace.prompt_tokens for trace in expected[::2]), "each prompt once"


def test_probabilities_are_those_of_the_author(client, tiny_pair):
    asked = {"model": "tiny:0.9@0.5", "temperature": 1.0, "seed": 1, "max_tokens": 20}
    (choice,) = chat(client, **asked, logprobs=True, top_logprobs=3)["choices"]
    options = {"threshold": 0.9, "acceptance": 0.5, "temperature": 1.0, "seed": 1, "max_new_tokens": 20}
    trace = tiny_pair.generate(QUESTION, alternatives=3, **options)
    for token, event in zip(choice["logprobs"]["content"], trace.events, strict=True):
        own = event.slm_alternatives if event.role.value == "slm" else event.llm_alternatives
        assert 2.718281828 ** token["logprob"] == pytest.approx(event.probability, rel=1e-4)
        assert [each["token"] for each in token["top_logprobs"]] == [each.text for each in own]


def test_a_text_ends_at_a_stop_string_or_its_limit_and_says_its_seed(client):
    stopped = chat(client, stop=["zzz", "42"])["choices"][0]
    assert stopped["message"]["content"].endswith("= ") and stopped["finish_reason"] == "stop"
    assert chat(client, max_tokens=3)["choices"][0]["finish_reason"] == "length"
    asked = {"temperature": 2.0, "max_tokens": 30}
    one, other = (chat(client, **asked) for _ in range(2))
    assert one["citer"]["seed"] != other["citer"]["seed"], "without one each text is another"
    assert chat(client, **asked, seed=one["citer"]["seed"])["choices"] == one["choices"]


# What is refused


def test_a_refused_request_is_no_work(client, served):
    steps = served.scheduler.steps
    cases = [(CHAT, {**BODY, "temperature": 9}, "temperature"), (COMPLETIONS, BODY, "prompt")]
    cases += [(COMPLETIONS, {"model": "tiny", "prompt": [""]}, "prompt")]
    for path, body, param in cases:
        answer = client.post(path, json=body)
        error = answer.json()["error"]
        assert (answer.status_code, error["type"], error["param"]) == (400, "invalid_request_error", param)
    long = client.post(CHAT, json={**BODY, "messages": [{"role": "user", "content": "word " * 4000}]})
    assert long.status_code == 400 and long.json()["error"]["code"] == "context_length_exceeded"
    assert served.scheduler.steps == steps


def test_a_body_that_is_no_json_object_or_too_large_is_refused(client):
    for content, status in (b"x" * (MOST_BYTES + 1), 413), (b"[1]", 400), (b"{", 400), (b"[" * 100_000, 400):
        answer = client.post(CHAT, content=content, headers={"Content-Type": "application/json"})
        assert answer.status_code == status and answer.json()["error"]["message"]
    assert client.post(CHAT, content=b"{}", headers={"Content-Type": "text/plain"}).status_code == 415


def test_other_routes_methods_names_and_sites_are_refused_in_the_same_shape(client):
    assert client.get("/embeddings").json()["error"]["code"] == "not_found"
    assert client.get(CHAT).status_code == 405 and "error" in client.get(CHAT).json()
    for headers in ({"Host": "evil.example"}, {"Origin": "https://evil.example"}):
        answer = client.post(CHAT, json={}, headers=headers)
        assert answer.status_code == 403 and "CITER_SERVER__HOSTS" in answer.json()["error"]["message"]


def test_the_key_is_asked_for_where_there_is_one_and_is_in_no_log(tiny_pair, caplog):
    key = "s3cret-ünlocked"
    with caplog.at_level(logging.DEBUG), serve_endpoint(tiny_pair, api_key=key) as served:
        for given in (None, "Bearer wrong", f"Basic {key}", "Bearer"):
            headers = {b"Authorization": given.encode()} if given else {}
            answer = httpx.get(f"{served.url}/models", headers=headers)
            assert answer.status_code == 401 and answer.json()["error"]["code"] == "invalid_api_key"
        headers = {b"Authorization": f"Bearer {key}".encode()}
        assert httpx.get(f"{served.url}/models", headers=headers).status_code == 200
        body = {"model": "tiny", "messages": [{"role": "user", "content": "my own words"}], "n": 2, "max_tokens": 5}
        assert httpx.post(f"{served.url}{CHAT}", json=body, headers=headers, timeout=120).status_code == 200
    assert key not in caplog.text and "my own words" not in caplog.text


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_goes_away_frees_its_row(random_pair, stream):
    with serve_endpoint(random_pair) as served, httpx.Client(base_url=served.url, timeout=120) as client:
        leaving = HTTPConnection(urlsplit(served.url).netloc, timeout=120)
        body = json.dumps({**LONG, "stream": stream})
        leaving.request("POST", f"/v1{CHAT}", body, {"Content-Type": "application/json"})
        eventually(lambda: served.scheduler.tokens > 0)
        leaving.close()
        eventually(lambda: served.scheduler.rows == 0)
        assert served.scheduler.texts == 1 and served.scheduler.tokens < LONG["max_tokens"]
        assert chat(client, model="custom", max_tokens=2)["usage"]["completion_tokens"] == 2


def test_a_stream_without_a_token_yet_begins_and_says_that_it_waits(tiny_pair, monkeypatch):
    monkeypatch.setattr("engine.endpoint.replies.QUIET_SECONDS", 0.05)
    decide, go = decoding.decide, threading.Event()
    monkeypatch.setattr("engine.decoding.decide", lambda *asked: go.wait(120) and decide(*asked))
    with serve_endpoint(tiny_pair) as served:
        body = {**BODY, "stream": True}
        with httpx.stream("POST", f"{served.url}{CHAT}", json=body, timeout=120) as answer:
            lines = answer.iter_lines()
            assert next(lines) == ": waiting"
            go.set()
            assert [line for line in lines if line][-1] == "data: [DONE]"


def test_a_text_that_fails_or_finds_no_room_is_told_so_without_words_of_the_prompt(tiny_pair, monkeypatch, caplog):
    settings: Any = {"server__queue_size": 1}
    decide, begun, go, body = decoding.decide, threading.Event(), threading.Event(), {**BODY, "max_tokens": 1}

    def broken(*_, **__):
        raise ZeroDivisionError("my own words")

    def held(*given):
        begun.set()
        return go.wait(120) and decide(*given)

    with serve_endpoint(tiny_pair, **settings) as served, httpx.Client(base_url=served.url, timeout=120) as client:
        monkeypatch.setattr("engine.decoding.decide", broken)
        answer = client.post(CHAT, json=BODY)
        assert answer.status_code == 500 and answer.json()["error"]["type"] == "server_error"
        assert "my own words" not in answer.text + caplog.text and "ZeroDivisionError" in caplog.text
        monkeypatch.setattr("engine.decoding.decide", held)
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(eventually, lambda: client.post(CHAT, json=body).status_code == 200)
            assert begun.wait(120)
            refused = client.post(CHAT, json=body)
            go.set()
            first.result()
        assert refused.status_code == 429 and int(refused.headers["retry-after"]) >= 1
        assert refused.json()["error"]["type"] == "rate_limit_error" and client.get("/models").is_success
