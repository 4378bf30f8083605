"""A trace survives JSON, and nothing but a trace is read back."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from engine import InvalidRequest, Role, Trace
from engine.request import Turn


@pytest.fixture(scope="module")
def trace(random_pair):
    options = {"policy": "confidence", "threshold": 0.3, "alternatives": 2, "stop": ("zzz",), "system": "Be brief."}
    return random_pair.generate("${x} {{y}} <b>\x1b[31m", max_new_tokens=20, temperature=0.7, **options)


def test_a_saved_trace_loads_equal(trace, tmp_path):
    trace.save(tmp_path / "trace.json")
    assert Trace.load(tmp_path / "trace.json") == trace


def test_the_json_has_the_documented_fields(trace):
    value = json.loads(trace.to_json())
    assert {"prompt", "text", "preset", "threshold", "events", "cost", "finish_reason"} <= set(value)
    assert {"id", "text", "role", "score", "slm_fed", "llm_fed", "seconds"} <= set(value["events"][0])
    assert {event["role"] for event in value["events"]} <= {"slm", "llm"}
    for unit in ("bytes", "flops", "seconds", "price"):
        assert set(value["cost"][unit]) == {"run", "slm_only", "llm_only"}
    assert value["text"] == "".join(event["text"] for event in value["events"])


@pytest.mark.parametrize(
    ("text", "where"),
    [("", "the file"), ("[]", "the file"), ("{}", "prompt"), ('{"prompt": 1}', "prompt"), ("not json", "the file")],
)
def test_what_is_not_a_trace_is_refused_by_field(text, where):
    with pytest.raises(InvalidRequest, match=f"not a trace.*{where}"):
        Trace.from_json(text)


def test_a_trace_with_values_out_of_range_is_refused(trace):
    value = json.loads(trace.to_json())
    value["sampling"]["temperature"] = -3
    with pytest.raises(InvalidRequest, match="temperature"):
        Trace.from_json(json.dumps(value))


def test_a_trace_of_another_format_is_refused(trace):
    value = json.loads(trace.to_json()) | {"format": 99}
    with pytest.raises(InvalidRequest, match="format 99"):
        Trace.from_json(json.dumps(value))


def test_a_trace_has_all_messages_before_its_prompt_and_one_from_before_there_were_any_has_none(trace):
    turns = (Turn("user", "hi"), Turn("assistant", "é a", ((Role.SLM, 2), (Role.LLM, 1))))
    talk = replace(trace, turns=turns)
    assert Trace.from_json(talk.to_json()) == talk and talk.request.turns == turns
    value = json.loads(talk.to_json())
    del value["turns"][1]["authors"]
    assert Trace.from_json(json.dumps(value)).turns == (turns[0], Turn("assistant", "é a"))
    del value["turns"]
    assert Trace.from_json(json.dumps(value)) == trace


def test_a_message_whose_authors_do_not_fit_its_text_is_refused(trace):
    value = json.loads(replace(trace, turns=(Turn("assistant", "abc", ((Role.SLM, 3),)),)).to_json())
    value["turns"][0]["authors"][0][1] = 2
    with pytest.raises(InvalidRequest, match="are of 2 characters, and its text has 3"):
        Trace.from_json(json.dumps(value))
