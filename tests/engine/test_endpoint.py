"""The endpoint, by its own server on a free port: what a program asks for is what it gets, or it is told why not."""

from __future__ import annotations

import json
import logging
import threading
import time
from dataclasses import replace
from http.client import HTTPConnection
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from engine import Sampling, decoding
from engine.endpoint import bodies, heap, replies
from engine.endpoint.fields import read_fields
from engine.endpoint.model_names import RouterSetting, name_and_field, named_setting, with_field
from engine.endpoint.refusals import Refusal
from engine.events import llm_passes, llm_share, taken_back
from engine.request import DEFAULT_THRESHOLD, MAX_STOPS, Turn
from engine.settings import load_settings
from tests.support.served_endpoint import serve_endpoint

QUESTION = "Start with 12. Add 30. What is the result?"
MESSAGES = [{"role": "user", "content": QUESTION}]
CHAT, COMPLETIONS = "/chat/completions", "/completions"
LONG = {"model": "custom:slm", "messages": MESSAGES, "max_tokens": 1900}
"""To the random pair: a text that does not end by itself."""


@pytest.fixture(scope="module")
def client(served):
    with httpx.Client(base_url=served.url, timeout=60) as client:
        yield client


def chat(client, **asked):
    answer = client.post(CHAT, json={"model": "tiny", "messages": MESSAGES, **asked})
    assert answer.status_code == 200, answer.text
    return answer.json()


def chunks(client, path=CHAT, **asked):
    """The parts of a stream."""
    body = {"model": "tiny", "stream": True, **({"messages": MESSAGES} if path == CHAT else {}), **asked}
    with client.stream("POST", path, json=body) as answer:
        assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/event-stream")
        lines = [line.removeprefix("data: ") for line in answer.iter_lines() if line]
    assert lines.pop() == "[DONE]"
    return [json.loads(line) for line in lines]


def written(choice):
    """(id, author) of each token of a choice."""
    return [(token["id"], token["by"]) for token in choice["citer"]["tokens"]]


def told(trace):
    return [(event.id, event.role.value) for event in trace.events]


def eventually(holds, seconds=20.0):
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.01)


# What is written


@pytest.mark.parametrize(
    "model, asked, same",
    [
        ("tiny:0.5@0.3", {}, {"threshold": 0.5, "acceptance": 0.3}),
        ("tiny:0", {}, {"threshold": 0.0}),
        ("tiny:llm", {"temperature": 1.5, "seed": 7, "top_p": 0.9}, {"policy": "llm", "seed": 7}),
        (
            "tiny:0.9@1",
            {"temperature": 1.5, "seed": -1, "citer": {"policy": "confidence"}},
            {"policy": "confidence", "threshold": 0.9, "acceptance": 1.0, "seed": 2**63 - 1},
        ),
        (
            "tiny:0.8@0.3",
            {"citer": {"policy": "confidence"}},
            {"policy": "confidence", "threshold": 0.8, "acceptance": 0.3},
        ),
        ("tiny", {"citer": {"policy": "random", "threshold": 0.5}, "seed": 3}, {"threshold": 0.5, "seed": 3}),
        (
            "tiny:0.2@0.9",
            {"citer": {"acceptance": 0.3, "max_draft": 2}},
            {"threshold": 0.2, "acceptance": 0.3, "max_draft": 2},
        ),
    ],
)
def test_a_text_is_that_of_the_pair_token_for_token_with_authors_and_cost(client, tiny_pair, model, asked, same):
    setting = named_setting(model, tiny_pair, load_settings())
    sampling = Sampling(**{name: asked[name] for name in ("temperature", "top_p") if name in asked})
    setting = with_field(setting, asked.get("citer"), tiny_pair, load_settings())
    same = {**vars(setting), **same}
    trace = tiny_pair.generate(QUESTION, sampling=sampling, **same)
    reply = chat(client, model=model, **asked)
    (choice,) = reply["choices"]
    assert choice["message"]["content"] == trace.text and written(choice) == told(trace)
    assert choice["finish_reason"] == "stop" and reply["object"] == "chat.completion"
    about = reply["citer"]
    assert about["llm_share"] == llm_share(trace.events) and about["taken_back"] == taken_back(trace.events)
    assert about["llm_passes"] == llm_passes(trace.events)
    for token, event in zip(choice["citer"]["tokens"], trace.events, strict=True):
        assert token["score"] == pytest.approx(event.score, abs=1e-5)
        assert token["ratio"] == pytest.approx(event.ratio, abs=1e-5) and token["text"] == event.text
    cost = json.loads(trace.to_json())["cost"]
    assert {unit: about["cost"][unit] for unit in ("bytes", "flops", "price")} == {
        unit: cost[unit] for unit in ("bytes", "flops", "price")
    }
    assert reply["usage"]["prompt_tokens"] == trace.prompt_tokens
    assert reply["usage"]["completion_tokens"] == len(trace.events)


def test_a_stream_sends_the_same_text_and_only_what_is_never_taken_back(client, tiny_pair):
    asked = {"model": "tiny:0.2@1", "temperature": 2.0, "seed": 5, "max_tokens": 60}
    asked["citer"] = {"max_draft": 6}  # "auto" depends on the clock
    whole = chat(client, **asked)
    assert whole["citer"]["taken_back"] > 0
    parts = chunks(client, **asked, stream_options={"include_usage": True})
    usage = parts.pop()
    assert usage["choices"] == [] and usage["usage"] == whole["usage"]
    assert {(part["usage"], part["object"]) for part in parts} == {(None, "chat.completion.chunk")}
    choices = [part["choices"][0] for part in parts]
    assert choices[0]["delta"]["role"] == "assistant"
    (message,) = whole["choices"]
    assert "".join(choice["delta"]["content"] for choice in choices) == message["message"]["content"]
    tokens = [token for choice in choices for token in choice["citer"]["tokens"]]
    for name in ("id", "text", "by"):
        assert [token[name] for token in tokens] == [token[name] for token in message["citer"]["tokens"]]
    for name in ("score", "ratio"):  # what the caches hold by then is rounded in another order
        there = [token[name] for token in message["citer"]["tokens"]]
        assert [token[name] for token in tokens] == pytest.approx(there, abs=1e-5)
    same = {"threshold": 0.2, "acceptance": 1.0, "temperature": 2.0, "seed": 5, "max_new_tokens": 60, "max_draft": 6}
    trace = tiny_pair.generate(QUESTION, **same)
    back = [[(draft["id"], draft["by"]) for draft in token.get("taken_back", ())] for token in tokens]
    assert back == [[(draft.id, draft.role.value) for draft in event.taken_back] for event in trace.events]
    assert [choice["finish_reason"] for choice in choices] == [None] * (len(choices) - 1) + [message["finish_reason"]]
    assert parts[-1]["citer"]["taken_back"] == whole["citer"]["taken_back"]


def test_no_part_of_a_stream_holds_what_json_has_not():
    assert replies._sent({"score": 0.5}) == 'data: {"score": 0.5}\n\n'
    with pytest.raises(ValueError, match="not JSON compliant"):
        replies._sent({"score": float("nan")})


def test_several_texts_stream_side_by_side_each_under_its_own_index(client):
    asked = {"temperature": 2.0, "seed": 4, "n": 2, "max_tokens": 20}
    whole, parts = chat(client, **asked), chunks(client, **asked)
    assert whole["choices"][0]["message"] != whole["choices"][1]["message"]
    for choice in whole["choices"]:
        own = [each for part in parts for each in part["choices"] if each["index"] == choice["index"]]
        assert "".join(each["delta"]["content"] for each in own) == choice["message"]["content"]
        assert [each["delta"].get("role") for each in own] == ["assistant"] + [None] * (len(own) - 1)
        assert [each["finish_reason"] for each in own] == [None] * (len(own) - 1) + [choice["finish_reason"]]
    about = [part["citer"]["llm_share"] for part in parts if "citer" in part]
    assert about == [whole["citer"]["llm_share"]] and "citer" in parts[-1]


def test_a_conversation_is_what_the_chat_template_makes_of_its_turns(client, tiny_pair):
    said = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Start with "}, {"type": "text", "text": "3."}]},
        {"role": "assistant", "content": "3 <|im_end|>"},
        {"role": "user", "content": QUESTION, "name": "ann"},
    ]
    turns = (Turn("user", "Start with 3."), Turn("assistant", "3 <|im_end|>"))
    trace = tiny_pair.generate(QUESTION, threshold=0.5, system="Be brief.", turns=turns)
    template = tiny_pair.tokenizer.apply_chat_template(
        [
            {"role": "system", "content": "Be brief."},
            *({"role": t.role, "content": t.text} for t in turns),
            MESSAGES[0],
        ],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=False,
    )
    assert trace.prompt_tokens > len(template)  # what was typed is no control token
    reply = chat(client, model="tiny:0.5", messages=said)
    assert written(reply["choices"][0]) == told(trace) and reply["usage"]["prompt_tokens"] == trace.prompt_tokens


def test_completions_take_texts_and_ids_several_at_once_and_n_of_each(client, tiny_pair):
    texts = ["12 + 30 =", "7 - 5 ="]
    ids = [tiny_pair.tokenizer.encode(text, add_special_tokens=False) for text in texts]
    asked = {"model": "tiny:llm", "temperature": 1.0, "seed": 4, "n": 2, "max_tokens": 6, "return_token_ids": True}
    replies = [client.post(COMPLETIONS, json={**asked, "prompt": prompt}).json() for prompt in (texts, ids)]
    choices = replies[0]["choices"]
    assert [choice["index"] for choice in choices] == [0, 1, 2, 3]
    expected = [
        tiny_pair.generate(text, raw=True, policy="llm", temperature=1.0, seed=seed, max_new_tokens=6)
        for text in texts
        for seed in (4, 5)
    ]
    assert [choice["text"] for choice in choices] == [trace.text for trace in expected]
    assert [choice["token_ids"] for choice in choices] == [[e.id for e in trace.events] for trace in expected]
    assert [choice["citer"] for choice in replies[1]["choices"]] == [choice["citer"] for choice in choices]
    assert replies[0]["usage"]["prompt_tokens"] == sum(map(len, ids))  # each prompt once
    assert client.post(COMPLETIONS, json={**asked, "prompt": ids[0], "n": 1}).json()["choices"] == [
        {**replies[1]["choices"][0]}
    ]


def test_a_body_that_is_not_in_utf_8_is_refused(client):
    wide = json.dumps({"model": "tiny", "messages": MESSAGES}).encode("utf-16")
    answer = client.post(CHAT, content=wide, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400 and "must be JSON in UTF-8" in answer.text


def test_probabilities_are_those_of_the_author_in_either_shape(client, tiny_pair):
    asked = {"model": "tiny:0.9@0.5", "temperature": 1.0, "seed": 1, "max_tokens": 20}
    (choice,) = chat(client, **asked, logprobs=True, top_logprobs=3)["choices"]
    trace = tiny_pair.generate(
        QUESTION, threshold=0.9, acceptance=0.5, temperature=1.0, seed=1, max_new_tokens=20, alternatives=3
    )
    content = choice["logprobs"]["content"]
    assert len(content) == len(trace.events)
    for token, event in zip(content, trace.events, strict=True):
        own = event.slm_alternatives if event.role.value == "slm" else event.llm_alternatives
        known = {each.id: each.probability for each in own}
        assert 2.718281828 ** token["logprob"] == pytest.approx(event.probability, rel=1e-4)
        if event.id in known:
            assert event.probability == pytest.approx(known[event.id], rel=1e-4)
        assert [each["token"] for each in token["top_logprobs"]] == [each.text for each in own]
        assert bytes(token["bytes"]).decode() == token["token"]
    body = {**asked, "prompt": "12 + 30 =", "logprobs": 2}
    whole = client.post(COMPLETIONS, json=body).json()["choices"][0]["logprobs"]
    for token, told, logprob in zip(whole["tokens"], whole["top_logprobs"], whole["token_logprobs"], strict=True):
        assert len(told) in (2, 3) and told[token] == pytest.approx(logprob, abs=1e-4), "the token's own is there, too"
    assert max(map(len, whole["top_logprobs"])) == 3
    parts = [part["choices"][0]["logprobs"] for part in chunks(client, COMPLETIONS, **body)]
    for name in whole:
        assert [each for part in parts for each in part[name]] == whole[name], name
    assert chat(client, max_tokens=2)["choices"][0]["logprobs"] is None


def test_stop_strings_and_limits_end_a_text_and_the_reason_says_which(client):
    assert chat(client, stop="42")["choices"][0]["message"]["content"].endswith("= ")
    assert chat(client, stop=["zzz", "42"])["choices"][0]["finish_reason"] == "stop"
    short = chat(client, max_completion_tokens=3, max_tokens=9)
    assert short["usage"]["completion_tokens"] == 3 and short["choices"][0]["finish_reason"] == "length"


def test_without_a_seed_each_sampled_text_is_another_and_its_seed_is_told(client):
    asked = {"temperature": 2.0, "max_tokens": 30}
    replies = [chat(client, **asked) for _ in range(2)]
    assert replies[0]["citer"]["seed"] != replies[1]["citer"]["seed"]
    again = chat(client, **asked, seed=replies[0]["citer"]["seed"])
    assert again["choices"] == replies[0]["choices"]


# Names of models


def test_a_models_name_is_a_setting_and_the_list_has_some(client, tiny_pair):
    listed = client.get("/models").json()["data"]
    assert [model["id"] for model in listed] == ["tiny", "tiny:slm", "tiny:llm"]
    one = client.get("/models/tiny:0.25@0.5").json()
    assert (one["citer"]["threshold"], one["citer"]["acceptance"]) == (0.25, 0.5)
    settings = load_settings()
    own = RouterSetting("router", tiny_pair.threshold, tiny_pair.acceptance, "auto")
    assert named_setting("tiny", tiny_pair, settings) == own
    for policy, threshold, acceptance in (("router", 0.00001, 1.0), ("confidence", 2.0, 0.0), ("random", 0.123, 0.5)):
        name, field = name_and_field("tiny", policy, threshold, acceptance)
        body = {"model": name, "messages": MESSAGES, "citer": field}
        setting = read_fields(body, True, tiny_pair, settings).setting
        assert setting == RouterSetting(policy, threshold, acceptance, "auto")


def test_the_slm_and_the_llm_are_alone_whatever_acceptance_the_router_has(client, tiny_pair, monkeypatch):
    monkeypatch.setattr(tiny_pair.router, "card", replace(tiny_pair.router.card, acceptance=0.9))
    assert named_setting("tiny:0.5", tiny_pair, load_settings()).acceptance == 0.9
    for policy in ("slm", "llm"):
        expected = tiny_pair.generate(QUESTION, policy=policy, max_new_tokens=30)
        reply = chat(client, model=f"tiny:{policy}", max_tokens=30)
        assert written(reply["choices"][0]) == [(event.id, policy) for event in expected.events]
        assert reply["citer"]["acceptance"] == 0


def test_the_slm_whose_drafts_are_judged_has_the_name_of_a_setting_that_writes_the_same_text(tiny_pair):
    options = {"acceptance": 0.9, "max_new_tokens": 40}
    judged = tiny_pair.generate(QUESTION, policy="slm", **options)
    assert taken_back(judged.events)
    name, _ = name_and_field("tiny", "slm", 0.5, 0.9)
    setting = named_setting(name, tiny_pair, load_settings())
    assert (name, setting) == ("tiny:0@0.9", RouterSetting("router", 0.0, 0.9, "auto"))
    assert tiny_pair.generate(QUESTION, policy="router", threshold=0.0, **options).text == judged.text


@pytest.mark.parametrize(
    ("name", "said", "threshold", "acceptance"),
    [
        ("tiny:0.8", {}, 0.8, 0.0),
        ("tiny:0.8@0.3", {}, 0.8, 0.3),
        ("tiny:0.8@0.3", {"acceptance": 0.1}, 0.8, 0.1),
        ("tiny", {}, DEFAULT_THRESHOLD, 0.0),
        ("tiny:llm", {"threshold": 0.2}, 0.2, 0.0),
    ],
)
def test_another_policy_keeps_the_dials_that_the_name_states_and_no_other(tiny_pair, name, said, threshold, acceptance):
    body = {"model": name, "messages": MESSAGES, "citer": {"policy": "confidence", **said}}
    setting = read_fields(body, True, tiny_pair, load_settings()).setting
    assert setting == RouterSetting("confidence", threshold, acceptance, "auto")


@pytest.mark.parametrize(
    "name",
    [
        *("gpt-4", "", "TINY", "tiny:", "tiny:LLM", "tiny:nan", "tiny:1e-1", "tiny:-1", "tiny:3", "tiny:١", "x" * 300),
        *("tiny:0.5@", "tiny:0.5@1.1", "tiny:0.5@0.1@0"),
        *("router-tiny-0.5", "router-confidence-0.5"),
    ],
)
def test_a_name_that_is_none_is_refused_and_the_refusal_says_which_there_are(tiny_pair, name):
    with pytest.raises(Refusal) as refused:
        named_setting(name, tiny_pair, load_settings())
    assert refused.value.status == 404 and refused.value.body["error"]["code"] == "model_not_found"
    assert len(str(refused.value)) < 400


# What is refused


REFUSED = [
    ({"model": None}, "model"),
    ({"model": "x" * 301}, "model"),
    ({"messages": []}, "messages"),
    ({"messages": [{"role": "user", "content": "a"}] * 1001}, "messages"),
    ({"messages": [{"role": "assistant", "content": "a"}]}, "messages"),
    ({"messages": [{"role": "tool", "content": "a"}]}, "messages[0].role"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": "  "}]}, "messages"),
    ({"messages": [{"role": "user", "content": "a \ud800"}]}, "messages"),
    ({"messages": [{"role": "user", "content": "word " * 4000}]}, "messages"),
    ({"temperature": 5.1}, "temperature"),
    ({"temperature": "hot"}, "temperature"),
    ({"top_p": 0}, "top_p"),
    ({"top_k": -1}, "top_k"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_completion_tokens": 10**9}, "max_completion_tokens"),
    ({"n": 33}, "n"),
    ({"n": True}, "n"),
    ({"seed": 2**63}, "seed"),
    ({"stop": [""]}, "stop"),
    ({"stop": ["a"] * (MAX_STOPS + 1)}, "stop"),
    ({"stop": "a" * 1001}, "stop"),
    ({"stream": "yes"}, "stream"),
    ({"stream_options": {"include_usage": True}}, "stream_options"),
    ({"top_logprobs": 3}, "top_logprobs"),
    ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
    ({"citer": {"threshold": 3}}, "citer"),
    ({"citer": {"router": "x"}}, "citer"),
    ({"citer": {"policy": "oracle"}}, "citer.policy"),
    ({"tools": [{"type": "function"}]}, "tools"),
    ({"response_format": {"type": "json_object"}}, "response_format"),
    ({"presence_penalty": 0.5}, "presence_penalty"),
    ({"wings": 2}, "wings"),
]


@pytest.mark.parametrize("asked, param", REFUSED, ids=[f"{param}-{n}" for n, (_, param) in enumerate(REFUSED)])
def test_a_field_out_of_its_limits_is_refused_by_name_before_any_work(client, served, asked, param):
    steps = served.scheduler.steps
    content = json.dumps({"model": "tiny", "messages": MESSAGES, **asked})
    answer = client.post(CHAT, content=content, headers={"Content-Type": "application/json"})
    error = answer.json()["error"]
    assert (answer.status_code, error["type"], error["param"]) == (400, "invalid_request_error", param)
    assert len(error["message"]) < 500 and served.scheduler.steps == steps


@pytest.mark.parametrize("prompt", [None, "", [], [[]], [1, "a"], [10**6], [-1], [1.5], ["a"] * 33, {"a": 1}])
def test_a_prompt_that_is_none_is_refused_by_name(client, prompt):
    answer = client.post(COMPLETIONS, json={"model": "tiny", "prompt": prompt})
    assert answer.status_code == 400 and answer.json()["error"]["param"] in ("prompt", "n")
    assert (
        client.post(COMPLETIONS, json={"model": "tiny", "prompt": "a", "echo": True}).json()["error"]["param"] == "echo"
    )


def test_what_changes_no_text_or_asks_for_nothing_is_let_through(client):
    neutral = {
        "user": "ann",
        "frequency_penalty": 0.0,
        "logit_bias": {},
        "tools": [],
        "response_format": {"type": "text"},
    }
    assert chat(client, **neutral, stop=None, max_tokens=1)["usage"]["completion_tokens"] == 1


def test_bodies_are_bounded_before_they_are_parsed(client, monkeypatch):
    cases = [
        (b"x" * (bodies.MOST_BYTES + 1), 413),
        (b'{"a": [' + b"1," * 300_000 + b"1]}", 413),
        (b"[1]", 400),
        (b"{", 400),
        (b"[" * 100_000, 400),
    ]
    for content, status in cases:
        answer = client.post(CHAT, content=content, headers={"Content-Type": "application/json"})
        assert answer.status_code == status and answer.json()["error"]["message"]
    assert client.post(CHAT, content=b"{}", headers={"Content-Type": "text/plain"}).status_code == 415
    monkeypatch.setattr(bodies, "BODY_SECONDS", 0.05)

    def slow():
        yield b"{"
        time.sleep(0.4)
        yield b"}"

    answer = client.post(CHAT, content=slow(), headers={"Content-Type": "application/json"})
    assert answer.status_code == 408


def test_other_routes_methods_names_and_sites_are_refused_in_the_same_shape(client):
    assert client.get("/embeddings").json()["error"]["code"] == "not_found"
    assert client.get(CHAT).status_code == 405 and "error" in client.get(CHAT).json()
    for headers in ({"Host": "evil.example"}, {"Origin": "https://evil.example"}):
        answer = client.post(CHAT, json={}, headers=headers)
        assert answer.status_code == 403 and "CITER_SERVER__HOSTS" in answer.json()["error"]["message"]
    answer = client.options(CHAT, headers={"Origin": "https://evil.example"})
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_the_key_is_asked_for_where_there_is_one_and_is_in_no_log(tiny_pair, caplog):
    key = "s3cret-ünlocked"
    with caplog.at_level(logging.DEBUG), serve_endpoint(tiny_pair, api_key=key) as served:
        for given in (None, "Bearer wrong", f"Basic {key}", "Bearer"):
            headers = {b"Authorization": given.encode()} if given else {}
            answer = httpx.get(f"{served.url}/models", headers=headers)
            assert answer.status_code == 401 and answer.json()["error"]["code"] == "invalid_api_key"
        headers = {b"Authorization": f"Bearer {key}".encode()}
        assert httpx.get(f"{served.url}/models", headers=headers).status_code == 200
        secret = {"role": "user", "content": "my own words"}
        answer = httpx.post(
            f"{served.url}{CHAT}", json={"model": "tiny", "messages": [secret], "n": 9}, headers=headers
        )
        assert answer.status_code == 200
    assert key not in caplog.text and "my own words" not in caplog.text


# Many at once


def test_two_clients_at_once_get_their_own_texts(client, tiny_pair):
    questions = [f"Start with {n}. Add {n + 3}. What is the result?" for n in range(4)]
    expected = [tiny_pair.generate(question, threshold=0.5).text for question in questions]
    found: dict[int, list[str]] = {n: [] for n in range(4)}

    def ask(n):
        messages = [{"role": "user", "content": questions[n]}]
        found[n].append(chat(client, model="tiny:0.5", messages=messages)["choices"][0]["message"]["content"])
        parts = chunks(client, model="tiny:0.5", messages=messages)
        found[n].append("".join(part["choices"][0]["delta"]["content"] for part in parts))

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[n] for n in range(4)] == [[text, text] for text in expected]


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_goes_away_frees_its_row_within_a_step(random_pair, stream):
    with serve_endpoint(random_pair) as served, httpx.Client(base_url=served.url, timeout=60) as client:
        with pytest.raises(httpx.TimeoutException), httpx.Client(base_url=served.url, timeout=60) as leaving:
            if stream:
                with leaving.stream("POST", CHAT, json={**LONG, "stream": True}) as answer:
                    next(answer.iter_lines())
                    raise httpx.ReadTimeout("gone")
            else:
                leaving.post(CHAT, json=LONG, timeout=httpx.Timeout(60, read=0.3))
        eventually(lambda: served.scheduler.rows == 0)
        assert served.scheduler.texts == 1 and served.scheduler.tokens < LONG["max_tokens"]
        steps = served.scheduler.steps
        assert chat(client, model="custom", max_tokens=2)["usage"]["completion_tokens"] == 2
        assert served.scheduler.steps == steps + 2


def test_a_stream_without_a_token_yet_begins_and_says_that_it_waits(tiny_pair, monkeypatch):
    monkeypatch.setattr("engine.endpoint.replies.FIRST_SECONDS", 0.05)
    monkeypatch.setattr("engine.endpoint.replies.QUIET_SECONDS", 0.05)
    decide, go = decoding.decide, threading.Event()
    monkeypatch.setattr("engine.decoding.decide", lambda *asked: go.wait(30) and decide(*asked))
    with serve_endpoint(tiny_pair) as served, httpx.Client(base_url=served.url, timeout=60) as client:
        with client.stream("POST", CHAT, json={"model": "tiny", "messages": MESSAGES, "stream": True}) as answer:
            lines = answer.iter_lines()
            assert answer.status_code == 200 and next(lines) == ": waiting"
            go.set()
            said = [line for line in lines if line.startswith("data: ")]
        assert said[-1] == "data: [DONE]" and json.loads(said[-2][6:])["choices"][0]["finish_reason"] == "stop"


def test_more_than_there_is_room_for_is_told_to_come_back(tiny_pair):
    settings: Any = {"server": {"queue_size": 1}}
    with serve_endpoint(tiny_pair, **settings) as served, httpx.Client(base_url=served.url, timeout=60) as client:
        body = {"model": "tiny", "messages": MESSAGES, "max_tokens": 1}
        holding = HTTPConnection(urlsplit(served.url).netloc, timeout=60)
        holding.putrequest("POST", f"/v1{CHAT}")
        for name, value in (("Content-Type", "application/json"), ("Content-Length", "100")):
            holding.putheader(name, value)
        holding.endheaders(b'{"model"')  # its body is still to come
        eventually(lambda: client.post(CHAT, json=body).status_code == 429)
        refused = client.post(CHAT, json=body)
        assert refused.json()["error"]["type"] == "rate_limit_error" and int(refused.headers["retry-after"]) >= 1
        assert client.get("/models").is_success
        holding.close()
        eventually(lambda: client.post(CHAT, json=body).status_code == 200)


def test_a_text_that_fails_is_an_error_of_the_server_without_words_of_the_prompt(tiny_pair, monkeypatch, caplog):
    def broken(*_, **__):
        raise ZeroDivisionError("my own words")

    with serve_endpoint(tiny_pair) as served:
        monkeypatch.setattr("engine.decoding.decide", broken)
        answer = httpx.post(f"{served.url}{CHAT}", json={"model": "tiny", "messages": MESSAGES}, timeout=30)
        assert answer.status_code == 500 and answer.json()["error"]["type"] == "server_error"
        assert "my own words" not in answer.text + caplog.text and "ZeroDivisionError" in caplog.text
        monkeypatch.undo()
        assert httpx.post(f"{served.url}{CHAT}", json={"model": "tiny", "messages": MESSAGES}, timeout=30).is_success


# The process


def test_freed_memory_is_given_back_again_and_again_where_the_c_library_can(monkeypatch):
    asked: list[tuple[int, ...]] = []
    library = SimpleNamespace(malloc_trim=lambda *a: asked.append(a), mallopt=lambda *a: asked.append(a))
    monkeypatch.setattr(heap, "EVERY_SECONDS", 0.01)
    monkeypatch.setattr(heap.ctypes, "CDLL", lambda _: library)
    heap.give_back_freed_memory()
    eventually(lambda: asked.count((0,)) > 2)
    assert asked[0] == (heap._ARENA_MAX, 2)
    monkeypatch.setattr(heap, "EVERY_SECONDS", 3600.0)
    monkeypatch.setattr(heap.ctypes, "CDLL", lambda _: SimpleNamespace())
    heap.give_back_freed_memory()  # another C library
