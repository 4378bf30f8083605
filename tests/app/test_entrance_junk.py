"""What nobody's page would send, by any event or call: refused in words, and no fault of the server's."""

from __future__ import annotations

import asyncio
import json
import logging
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.entrance.gradio_parts import LONGEST_HASH, PageState
from app.page import build
from app.running.host import Host
from engine import InvalidRequest, load_settings
from tests.support.browser import serve
from tests.support.fake_pair import FakePair, request
from tests.support.mutations import VALUES

PAIR = FakePair(1e6)
HOST = Host(lambda preset, progress: PAIR)
NOWHERE = Path(tempfile.mkdtemp()) / "cache"  # so that no pair can be had that an event asks for
PAGE = build(HOST, load_settings(cache_dir=NOWHERE))
EVENTS = [function for function in PAGE.fns.values() if function.fn]
WITH_DATA = [function for function in EVENTS if function.collects_event_data]
OPEN = next(function for function in WITH_DATA if function.api_name == "open_trace")
OFFERS = ("token_cost", "text_of", "take", "read_prompts")
OFFERED = [(block, getattr(block, name, None)) for block in PAGE.blocks.values() for name in OFFERS]
SERVED = [each for each in OFFERED if getattr(each[1], "_is_server_fn", False)]
NAMES = ("kind", "author", "number", "token", "step", "row", "point", "over", "run", "index", "name", "text", "file")
JUNK = st.one_of(
    VALUES,
    st.recursive(VALUES, lambda inner: st.lists(inner, max_size=3), max_leaves=5),
    st.dictionaries(st.sampled_from(NAMES), VALUES | st.sampled_from(["branch", "both", "s"]), max_size=5),
)


@pytest.fixture(scope="module", autouse=True)
def text():
    """The window "s" has a text, so that what is asked of it is looked at."""
    session = PAGE.sessions.get("s")
    assert session.begin(request(max_new_tokens=5), HOST).finished.wait(120)
    yield
    HOST.close()


def ask(function: Any, inputs: list[Any], data: Any, caplog: pytest.LogCaptureFixture) -> None:
    """An event as gradio hands it on: its answer can be sent, or it is refused in words and is no fault of the page."""
    asked = gr.Request(request=SimpleNamespace(query_params={}, client=None, headers={}), session_hash="s")  # type: ignore[arg-type]
    event, state = gr.EventData(None, data), PageState(PAGE)
    try:
        answer = asyncio.run(PAGE.process_api(function, inputs, state, asked, session_hash="s", event_data=event))
        json.dumps(answer["data"], default=str, ensure_ascii=False, allow_nan=False).encode()
    except gr.Error as refused:
        assert not refused.print_exception and 5 < len(str(refused.message)) < 500
    assert not [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


@given(function=st.sampled_from(WITH_DATA), data=JUNK)
@example(function=OPEN, data={"name": "\ud800\n.json", "text": "no trace"})
def test_the_data_of_an_event_is_refused_in_words(function, data, caplog: pytest.LogCaptureFixture):
    ask(function, [getattr(block, "value", None) for block in function.inputs], data, caplog)


@given(data=st.data(), function=st.sampled_from(EVENTS))
def test_so_are_the_values_of_its_fields(data, function, caplog: pytest.LogCaptureFixture):
    fitting = st.tuples(*(st.just(getattr(block, "value", None)) | VALUES for block in function.inputs))
    ask(function, list(data.draw(st.lists(JUNK, max_size=20) | fitting)), None, caplog)


@given(served=st.sampled_from(SERVED), data=JUNK)
def test_so_is_what_a_component_is_asked(served, data):
    try:
        served[1](data)
    except InvalidRequest as refused:
        assert 5 < len(str(refused)) < 500


LONG = "x" * (LONGEST_HASH + 1)
IN_BROWSER = next(index for index, function in PAGE.fns.items() if not function.fn)
CALL = {"data": [], "fn_index": EVENTS[0]._id}
ASKED = {"data": {}, "component_id": SERVED[0][0]._id, "fn_name": "take"}
REFUSED = [
    ("run/predict", {**CALL, "fn_index": IN_BROWSER}, 404),
    ("run/predict", {**CALL, "fn_index": -1}, 404),
    ("run/predict", {**CALL, "fn_index": "7"}, 404),
    ("run/write", {"data": []}, 404),
    ("run/predict", {**CALL, "session_hash": LONG}, 422),
    ("run/predict", {**CALL, "session_hash": ["s"]}, 422),
    ("run/predict", {**CALL, "batched": True}, 422),
    ("run/predict", {**CALL, "data": 7}, 422),
    ("component_server", {**ASKED, "component_id": 10**6}, 404),
    ("component_server", {**ASKED, "component_id": "x"}, 404),
    ("component_server", {**ASKED, "fn_name": "no"}, 404),
    ("component_server", b'{"data": ' + b"9" * 5_000, 400),
]


def test_by_http_they_are_refused_with_words_and_a_status(capfd: pytest.CaptureFixture[str]):
    with serve(lambda preset, progress: PAIR) as site, httpx.Client(base_url=f"{site.url}gradio_api/") as client:
        for path, body, status in REFUSED:
            of_session = {"session_hash": "s", **body} if isinstance(body, dict) else body
            content = body if isinstance(body, bytes) else json.dumps(of_session)
            headers = {"content-type": "application/json"}
            answer = client.post(path, content=content, headers=headers)
            assert answer.status_code == status, (path, body, answer.text)
            assert 5 < len(answer.json()["detail"]) < 300
        assert client.post("component_server", files={"x": b"x"}).status_code == 415
    assert "Traceback" not in "".join(capfd.readouterr())
