"""What is parsed, with damage drawn by chance: traces, links, prompts, settings, questions. Refused or sound."""

from __future__ import annotations

import asyncio
import json
import os
from contextlib import chdir
from dataclasses import asdict
from typing import Any
from unittest import mock

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from starlette.requests import Request as Asking

from app.fields import FIELDS, fitting, link_query, page_request, read_query, read_turns, turns_text
from app.share.open_trace import opened_run
from app.share.swept import opened_sweep
from app.sweep import sweep_message
from app.tune.prompts import MAX_ROWS, parse, read_file
from engine import POLICIES, InvalidRequest, Request, Role, SettingsError, Trace, build_request, load_settings
from engine.endpoint.bodies import read_body
from engine.endpoint.fields import MAX_TEXTS, read_fields
from engine.endpoint.refusals import Refusal
from engine.events import extend
from engine.events.cost import costs
from engine.request import Turn
from engine.settings import variables
from tests.support.fake_pair import FakePair
from tests.support.mutations import VALUES, damaged_bytes, damaged_json
from trainer import TrainerError
from trainer.questions.question import FIELDS as QUESTION_FIELDS
from trainer.questions.question import Question, prompt, question_of
from trainer.questions.sources import read_jsonl

STARTS = dict(zip(FIELDS, ("hi", 0.5, 0, "router", "", False, 0, 1, 0, 1, 0, 256, "", 0, ""), strict=True))
PAIR: Any = FakePair(1e6)
TALK = (Turn("user", "a?"), Turn("assistant", "b c", ((Role.SLM, 2), (Role.LLM, 1))))
TRACE = PAIR.generate(Request("echo a b c", max_new_tokens=9, threshold=0.5, alternatives=2, turns=TALK))
SWEEP = {
    "over": "threshold",
    "points": [[0.0, 0.0], [1.5, 0.0]],
    "nodes": [[-1, "a", 0.5], [0, "b", None]],
    "replaced": [[1, 0.3]],
    "leaves": [1, 0],
    "figures": [[0.5, 1.0, 1.0, None, 1.0], None],
    "same": [[-1.0, 3.0, -1.0, 3.0], None],
}
JSON_TRACE = {**json.loads(TRACE.to_json()), "sweep": SWEEP}


def short(error):
    return len(str(error)) < 2000


@given(content=damaged_json(JSON_TRACE))
def test_a_damaged_trace_is_refused_by_name_or_can_be_shown_and_saved(content):
    text = content.decode("utf-8", "surrogateescape")
    try:
        trace = Trace.from_json(content)
    except InvalidRequest as error:
        assert short(error)
        with pytest.raises(InvalidRequest):
            opened_run(text)
        return
    again = Trace.from_json(trace.to_json())
    assert again == trace
    try:
        run = opened_run(text)
    except InvalidRequest as error:
        assert short(error)
        return
    shown: list = []
    for event in run.events:
        extend(shown, event)
    assert len(shown) == len(trace.events) > 0
    assert costs(shown, trace.prompt_tokens, trace.slm_cost, trace.llm_cost, trace.prices).run.bytes >= 0
    link_query(trace)
    try:
        swept = opened_sweep(text, run, trace.prices)
    except InvalidRequest as error:
        assert short(error)
        return
    assert swept is None or sweep_message(swept, 0)[1] == len(swept.nodes)


@given(content=damaged_json([asdict(turn) for turn in TALK]))
def test_a_damaged_conversation_is_refused_by_name_or_can_be_asked_after(content):
    try:
        turns = read_turns(content.decode("utf-8", "surrogateescape"))
        asked = Request("what next?", turns=turns)
    except InvalidRequest as error:
        assert short(error)
        return
    assert read_turns(turns_text(asked.turns)) == turns


LINK: dict[str, Any] = dict.fromkeys(FIELDS, st.one_of(st.text(max_size=30), VALUES.map(str), st.integers().map(str)))
LINK["stop"] = st.one_of(
    LINK["stop"],
    st.text(alphabet="a\\n\n\u2028\ud800", max_size=30),
    st.sampled_from([999, 1_000, 1_001, 1_999]).map(lambda length: "x" * length),
    st.sampled_from([99, 100, 101, 199]).map(lambda count: "x\n" * count),
)


@example(query={"stop": "x" * 1_001})
@example(query={"stop": "x\n" * 101})
@given(query=st.fixed_dictionaries({}, optional=LINK))
def test_any_link_fills_in_what_can_be_asked_and_names_the_rest(query):
    values, refused = read_query(query, POLICIES)
    assert len(values) + len(refused) == len(query)
    assert all(len(reason) <= 161 for reason in refused)
    filled = {**STARTS, **values}
    filled["prompt"] = filled["prompt"] if filled["prompt"].strip() else "hi"
    page_request(*(filled[name] for name in FIELDS))


@example(values={"max_draft": [], "policy": {}})
@given(values=st.fixed_dictionaries({}, optional=dict.fromkeys(FIELDS, VALUES)))
def test_whatever_a_browser_has_kept_of_the_fields_fits_or_is_left_out(values):
    good, refused = fitting(values, policies=POLICIES)
    assert len(good) + len(refused) == len(values) and all(len(reason) <= 161 for reason in refused)


@given(
    values=st.fixed_dictionaries(
        {"prompt": VALUES | st.text()}, optional=dict.fromkeys([name for name in STARTS if name != "prompt"], VALUES)
    )
)
def test_any_request_is_taken_or_refused_by_name(values):
    for build in (build_request, lambda **fields: page_request(**{**STARTS, **fields})):
        try:
            request = build(**values)
        except InvalidRequest as error:
            assert short(error)
            continue
        (request.prompt + (request.system or "") + "".join(request.stop)).encode("utf-8")


SHARED = {
    "model": "cpu:0.5@0.1",
    "citer": {"policy": "router", "threshold": 0.5, "acceptance": 0.1, "max_draft": 4},
    "temperature": 0.5,
    "top_p": 0.9,
    "top_k": 5,
    "repetition_penalty": 1.1,
    "max_tokens": 9,
    "max_completion_tokens": 9,
    "n": 2,
    "best_of": 2,
    "seed": 1,
    "stop": ["x", "y"],
    "stream": True,
    "stream_options": {"include_usage": True},
    "return_token_ids": True,
    "logit_bias": {},
    "user": "me",
}
SAID = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": [{"type": "text", "text": "hi"}]}]
CHAT = {**SHARED, "messages": SAID, "logprobs": True, "top_logprobs": 2}
COMPLETION = {**SHARED, "prompt": ["a", [1, 2, 3]], "logprobs": 2, "return_tokens_as_token_ids": True}
SETTINGS = load_settings()


def body_of(content: bytes) -> dict[str, Any]:
    """What the endpoint takes a body for."""

    async def receive() -> Any:
        return {"type": "http.request", "body": content}

    scope = {"type": "http", "headers": [(b"content-type", b"application/json")]}
    return asyncio.run(read_body(Asking(scope, receive)))


@pytest.mark.parametrize("good", [CHAT, COMPLETION])
def test_the_bodies_that_are_damaged_here_are_good_ones(good):
    assert len([*read_fields(body_of(json.dumps(good).encode()), "messages" in good, PAIR, SETTINGS).texts()]) > 1


@given(data=st.data())
def test_a_damaged_body_of_the_endpoint_is_refused_in_words_or_can_be_served(data):
    good = data.draw(st.sampled_from([CHAT, COMPLETION]))
    content = data.draw(damaged_json(good))
    try:
        asked = read_fields(body_of(content), "messages" in good, PAIR, SETTINGS)
    except Refusal as refusal:
        assert 400 <= refusal.status < 500 and 5 < len(str(refusal)) < 1000
        assert bytes(refusal.response().body).decode("utf-8")
        return
    texts = [*asked.texts()]
    assert 0 < len(texts) <= MAX_TEXTS
    for request, _ in texts:
        "".join((request.prompt, request.system or "", *request.stop, *(turn.text for turn in request.turns))).encode()


PROMPTS = [
    ("p.csv", b'prompt,answer\n"1 + 1?",2\n"a ""b"" c",x\n'),
    ("p.jsonl", b'{"prompt": "1 + 1?", "answer": "2"}\n{"prompt": "b"}\n'),
    ("p.txt", b"one\ntwo\nthree\n"),
]


@given(data=st.data())
def test_a_damaged_file_of_prompts_is_refused_by_name_or_holds_prompts(data):
    name, content = data.draw(st.sampled_from(PROMPTS))
    content = data.draw(st.one_of(damaged_bytes(content), st.binary(), st.text().map(str.encode)))
    for read in (lambda: read_file(name, content)[1], lambda: parse(content.decode("utf-8", "surrogateescape"))):
        try:
            table = read()
        except InvalidRequest as error:
            assert short(error)
            continue
        assert 0 < len(table.rows) <= MAX_ROWS
        assert all(row.prompt.strip() and row.prompt.encode("utf-8") for row in table.rows)


ROW = {
    "id": "q",
    "question": "1 + 1?",
    "reference": "It is 2.",
    "answer": "B",
    "choices": ["1", "2"],
    "family": "choice",
}


@given(content=damaged_json(ROW))
def test_a_damaged_question_is_skipped_with_its_place_or_can_be_asked(content, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "rows.jsonl"
    path.write_bytes(content.replace(b"\n", b" ") + b'\n{"id": "good", "question": "2?", "answer": "2"}\n')
    said: list[str] = []
    questions = read_jsonl(path, said.append)
    assert questions[-1].id == "good" and len(questions) + len(said) >= 2 - (not content.strip())
    assert all(str(path) in line and "skipped" in line for line in said)
    for question in questions:
        assert isinstance(question, Question) and prompt(question).encode("utf-8")


@given(row=st.dictionaries(st.sampled_from(QUESTION_FIELDS.replace("[", "").replace("]", "").split(", ")), VALUES))
def test_any_row_is_a_question_or_no_question(row):
    try:
        prompt(question_of(row)).encode("utf-8")
    except (ValueError, KeyError):
        pass
    except TrainerError as error:
        pytest.fail(str(error))


NAMES = [name for name, _, _ in variables()] + ["CITER_PRICE", "CITER_SERVER"]
TEXTS = [
    "~nosuchuser",
    "~nosuchuser/x",
    "1e26",
    "9" * 30,
    "9" * 5000,
    "-1",
    "nan",
    "1e400",
    "{",
    "[" * 100_000,
    '{"slm": NaN}',
    '{"slm": "x"}',
    "null",
    "bad host",
    "\udcff",
    "x" * 10_000,
    "\x1b[31m",
]


@given(
    name=st.sampled_from(NAMES),
    value=st.sampled_from(TEXTS) | st.text(st.characters(exclude_characters="\0"), max_size=20),
)
def test_any_variable_is_taken_or_refused_by_its_name_in_short_lines(name, value, tmp_path_factory):
    try:
        os.fsencode(value)
    except UnicodeEncodeError:
        return  # no environment can hold it
    with mock.patch.dict(os.environ, {name: value}), chdir(tmp_path_factory.getbasetemp()):  # without a .env
        try:
            settings = load_settings()
        except SettingsError as error:
            assert name in str(error)
            assert all(len(line) < 600 and line.isprintable() for line in str(error).splitlines())
            return
    json.dumps(settings.model_dump(mode="json"), allow_nan=False)
    assert settings.price.slm <= 1e6 and settings.context <= 1_000_000
    page_prices = settings.price
    TRACE.__class__(**{**vars(TRACE), "prices": type(TRACE.prices)(*page_prices.model_dump().values())})


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        (
            "CITER_CACHE_DIR",
            "~nosuchuser/x",
            "CITER_CACHE_DIR = ~nosuchuser/x: must be a path, and there is no such user",
        ),
        (
            "CITER_PRICE__LLM",
            "1e26",
            r"CITER_PRICE__LLM = 1e26: must be less than or equal to 1000000 \(from 0 to 1e\+06\)",
        ),
        ("CITER_PRICE", "{oops", r"CITER_PRICE = \{oops: must be one JSON object"),
        ("CITER_PRICE", "[" * 100_000, r"CITER_PRICE = \[\[.*…: must be one JSON object"),
        ("CITER_CONTEXT", "9" * 30, r"CITER_CONTEXT = 9+: must be .* \(from 16 to 1e\+06\)"),
        ("CITER_SERVER__HOST", "bad host", "CITER_SERVER__HOST = bad host: must match"),
        ("CITER_PRESET", "x" * 5000, "CITER_PRESET = x{79}…: must have at most 100 characters"),
    ],
)
def test_a_bad_setting_is_told_with_its_range(monkeypatch, tmp_path, name, value, told):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=told):
        load_settings()
