"""Bad input, by one table (`tests.support.limits`), at every door: refused, before any work, by field and value."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

import httpx
import pytest

import engine.pair
from app.fields import FIELDS, page_request, read_query, read_turns, stop_strings, stop_text, turns_text
from engine import EngineError, InvalidRequest, Request, Sampling, Setting, WeightsError, build_request, load_settings
from engine.__main__ import main
from engine.endpoint.bodies import read_body
from engine.policy import POLICIES
from tests.support.limits import ELSEWHERE, FORM, LIMITS, Limit, names, spelled

SAMPLING = [each.name for each in fields(Sampling)]
SETTING = [each.name for each in fields(Setting)]


def row(*left_out: str) -> Any:
    """The rows of the table, but for fields that a surface has not."""
    rows = [each for each in LIMITS if each.field not in left_out]
    return pytest.mark.parametrize("limit", rows, ids=lambda each: each.field)


def check(limit: Limit, ask: Any, bad: Any = None, good: Any = None, also: str = "") -> None:
    """`ask(field, value)` takes the good values, and refuses the bad by name, in few words."""
    for value in limit.good if good is None else good:
        ask(limit.field, value)
    for value in limit.bad if bad is None else bad:
        with pytest.raises(EngineError) as refused:
            ask(limit.field, value)
        said = str(refused.value)
        assert names(said, limit.field, value, also) and len(said) < 400, (value, said)


def test_every_field_of_every_surface_has_a_row():
    rows = {each.field for each in LIMITS}
    assert {each.name for each in fields(Request)} - rows == set(ELSEWHERE)
    assert rows >= {*SETTING, *SAMPLING, *FIELDS} and set(FORM) == set(FIELDS)


@row()
def test_a_request(limit: Limit):
    def ask(field: str, value: Any) -> None:
        build_request(**{"prompt": "x", field: value})

    check(limit, ask)


def as_field(name: str, value: Any) -> Any:
    """As the page's fields hold it: numbers are floats, lists are texts, and 0 stands for "auto"."""
    if name == "stop" and isinstance(value, tuple):
        return stop_text(value)
    if name == "turns":
        return turns_text(value)
    if name == "max_draft" and value == "auto":
        return 0.0
    return float(value) if type(value) is int and abs(value) <= 2**53 and name not in ("prompt", "system") else value


def bad_in_a_field(limit: Limit) -> list[Any]:
    """An empty line of stop strings is none, and no draft's length stands for "auto"."""
    return [value for value in limit.bad if value != ("",) and not (limit.field == "max_draft" and value == 0)]


@row("alternatives")
def test_the_pages_fields(limit: Limit):
    check(limit, lambda field, value: page_request(**{**FORM, field: as_field(field, value)}), bad_in_a_field(limit))


@row("alternatives")
def test_a_link_whose_other_values_stay(limit: Limit):
    beside = "top_k" if limit.field != "top_k" else "seed"

    def ask(field: str, value: Any) -> None:
        written = as_field(field, value) if field in ("stop", "turns", "max_draft") else value
        text = spelled(int(written) if isinstance(written, bool) and field == "raw" else written)
        text = text.removesuffix(".0") if field == "max_draft" else text
        good, refused = read_query({beside: "7", field: text, "__theme": "dark"}, POLICIES)
        assert good[beside] == 7 and set(good) <= {beside, field}
        if refused:
            assert len(refused) == 1 and field not in good
            raise InvalidRequest(refused[0])
        assert field in good

    texts = (int, float) if isinstance(FORM[limit.field], str) else ()  # for a text what is typed is one
    bad = [each for each in bad_in_a_field(limit) if each is not None and not isinstance(each, texts)]
    check(limit, ask, bad + ([2**53] if limit.field == "seed" else []))  # a browser's numbers are exact up to there


# ---- stop strings and a conversation; that a link brings each back is in `test_settings_link.py` ----


def test_stop_strings_are_lines_with_escapes():
    for text, strings in (("", ()), (None, ()), ("a\n\nb", ("a", "b")), (r"\n\n", ("\n\n",)), (r"\\n", (r"\n",))):
        assert stop_strings(text) == strings, text
    assert read_turns("") == read_turns(None) == ()


def test_what_is_no_conversation_is_refused_in_a_few_words():
    for text, said in (
        (7, "7"),
        ("{", "JSON"),
        ("[" * 100_000, "JSON"),
        ('[{"role": "user"}]', "0.text"),
        ('[{"role": "user", "text": "a", "authors": [["slm", 2]]}]', "author = 2"),
        ("x" * 2_000_001, "2,000,001"),
    ):
        with pytest.raises(InvalidRequest) as refused:
            page_request(**{**FORM, "turns": text})
        assert said in str(refused.value) and len(str(refused.value)) < 300


@row("turns", "raw", "alternatives", *SETTING)
def test_a_call_of_v1(limit: Limit, served, tiny_pair):
    named = {"max_new_tokens": "max_tokens", "prompt": "messages", "system": "messages"}.get(limit.field, limit.field)

    def body(value: Any) -> dict[str, Any]:
        if named == "messages":
            system = [{"role": "system", "content": value}] if limit.field == "system" else []
            asked = {"role": "user", "content": "x" if system else value}
            return {"model": "tiny", "messages": [*system, asked]}
        return {"model": "tiny", "messages": [{"role": "user", "content": "x"}], named: value}

    def ask(_: str, value: Any) -> None:
        written = served.scheduler.tokens
        headers = {"content-type": "application/json"}
        answer = httpx.post(f"{served.url}/chat/completions", content=json.dumps(body(value)), headers=headers)
        assert answer.status_code == 400 and served.scheduler.tokens == written, answer.text
        error = answer.json()["error"]
        raise InvalidRequest(f"{error['param']}: {error['message']}")

    for value in limit.good:
        read_body(json.dumps(body(value)).encode(), True, tiny_pair, load_settings())
    wraps = [-1] if limit.field == "seed" else []
    check(limit, ask, [value for value in limit.bad if value not in (None, *wraps, 10**5_000)], (), named)


@row("turns", "raw", *SETTING)
def test_the_command_line(limit: Limit, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    def load(*_: Any, **__: Any) -> None:
        raise WeightsError("the models would be loaded now")

    monkeypatch.setattr(engine.pair, "load", load)

    def ask(field: str, value: Any) -> None:
        values = value if field == "stop" else [value]
        options = [f"--{field.replace('_', '-')}={spelled(each)}" for each in values]
        try:
            status = main([value] if field == "prompt" else ["x", *options])
        except SystemExit as ended:
            status = ended.code
        out, err = capsys.readouterr()
        assert status == 2 and not out and "Traceback" not in err
        if "would be loaded now" not in err:
            raise InvalidRequest(err.strip().splitlines()[-1])

    texts = limit.field in ("prompt", "system", "stop")
    check(limit, ask, [each for each in limit.bad if each is not None and not (texts and each == 5)])
