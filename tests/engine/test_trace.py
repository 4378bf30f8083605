"""A trace survives JSON, and what is wrong with a file is said where it stands; damaged files are in `test_formats`."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from engine import InvalidRequest, Role, Trace
from engine.request import Turn


@pytest.fixture(scope="module")
def trace(random_pair):
    options = {"policy": "confidence", "threshold": 0.3, "alternatives": 2, "stop": ("zzz",), "system": "Be brief."}
    return random_pair.generate("${x} {{y}} <b>\x1b[31m", max_new_tokens=20, temperature=0.7, **options)


def put(content: Any, path: str, value: Any) -> Any:
    """A trace's JSON with another value at a place such as `events.0.score`."""
    *above, last = path.split(".")
    place = content
    for name in above:
        place = place[int(name) if isinstance(place, list) else name]
    place[last] = value
    return content


def test_a_saved_trace_loads_equal_and_has_the_documented_fields(trace, tmp_path):
    trace.save(tmp_path / "trace.json")
    assert Trace.load(tmp_path / "trace.json") == trace
    value = json.loads((tmp_path / "trace.json").read_text(encoding="utf-8"))
    assert {"prompt", "text", "preset", "threshold", "events", "cost", "finish_reason"} <= set(value)
    assert {"id", "text", "role", "score", "slm_fed", "llm_fed", "seconds"} <= set(value["events"][0])
    assert {event["role"] for event in value["events"]} <= {"slm", "llm"}
    for unit in ("bytes", "flops", "seconds", "price"):
        assert set(value["cost"][unit]) == {"run", "slm_only", "llm_only"}
    assert value["text"] == "".join(event["text"] for event in value["events"])


def test_what_is_not_a_trace_or_of_another_format_is_refused(trace):
    for text, where in (("", "file"), ("[]", "file"), ("{}", "prompt"), ('{"prompt": 1}', "prompt")):
        with pytest.raises(InvalidRequest, match=f"trace.*{where}"):
            Trace.from_json(text)
    for path, value in (("format", 99), ("sampling.temperature", -3)):
        with pytest.raises(InvalidRequest, match=path.rpartition(".")[2]):
            Trace.from_json(json.dumps(put(json.loads(trace.to_json()), path, value)))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("threshold", "@"),
        ("events.0.score", "@"),
        ("events.0.slm_alternatives", [[1, "a", "@"]]),
        ("events.0.verdicts", [[0, "@"]]),
        ("llm_cost.pass_table", [[1, "@"]]),
    ],
)
def test_a_number_that_no_json_can_hold_is_refused_where_it_stands(trace, path, value):
    content = json.dumps(put(json.loads(trace.to_json()), path, value))
    for number in ("1e999", "Infinity", "NaN"):
        with pytest.raises(InvalidRequest, match=path.replace(".", r"\.")):
            Trace.from_json(content.replace('"@"', number))


def test_a_trace_that_is_wrong_everywhere_is_refused_in_few_words(trace):
    wrong = put(json.loads(trace.to_json()), "events", [None] * 1000)
    with pytest.raises(InvalidRequest, match="events") as refused:
        Trace.from_json(json.dumps(wrong))
    assert len(str(refused.value)) < 2_000


def test_a_trace_has_all_messages_before_its_prompt_and_one_from_before_there_were_any_has_none(trace):
    turns = (Turn("user", "hi"), Turn("assistant", "é a", ((Role.SLM, 2), (Role.LLM, 1))))
    talk = replace(trace, turns=turns)
    assert Trace.from_json(talk.to_json()) == talk and talk.request.turns == turns
    value = json.loads(talk.to_json())
    del value["turns"][1]["authors"]
    assert Trace.from_json(json.dumps(value)).turns == (turns[0], Turn("assistant", "é a"))
    del value["turns"]
    assert Trace.from_json(json.dumps(value)) == trace
