"""A trace survives JSON, and what is wrong with a file is said where it stands; damaged files are in `test_formats`."""

from __future__ import annotations

import json
import tracemalloc
from dataclasses import replace
from typing import Any

import pytest

from engine import InvalidRequest, Request, Role, Trace, costs
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


def test_a_text_that_went_on_from_token_ids_costs_what_it_read(random_pair):
    request = Request("a", raw=True, policy="slm", max_new_tokens=6)
    decoding = random_pair.start([request], prompts=[list(range(40))])
    decoding.finish()
    (row,) = decoding.rows
    trace = random_pair.trace(row.request, row.events, row.prompt_tokens)
    assert trace.prompt_tokens == trace.events[0].slm_fed == 40
    cost = costs(trace.events, 40, random_pair.slm_cost, random_pair.llm_cost)
    assert cost.run.bytes == cost.slm_only.bytes, "it is the SLM alone"
    assert json.loads(trace.to_json())["cost"]["bytes"]["run"] == cost.run.bytes


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


def test_what_is_no_trace_takes_a_few_times_its_size_to_refuse(trace):
    wrong = put(json.loads(trace.to_json()), "events", [None] * 1000)
    with pytest.raises(InvalidRequest) as refused:
        Trace.from_json(json.dumps(wrong))
    assert len(str(refused.value)) < 2_000, "it is looked at up to its first fault"
    text = '{"x": [' + "[]," * 100_000 + "[]]}"
    tracemalloc.start()
    try:
        with pytest.raises(InvalidRequest, match="prompt"):
            Trace.parse(text)
        assert tracemalloc.get_traced_memory()[1] < 50 * len(text)
    finally:
        tracemalloc.stop()


def test_a_trace_has_all_messages_before_its_prompt_and_one_from_before_there_were_any_has_none(trace):
    turns = (Turn("user", "hi"), Turn("assistant", "é a", ((Role.SLM, 2), (Role.LLM, 1))))
    talk = replace(trace, turns=turns)
    assert Trace.from_json(talk.to_json()) == talk and talk.request.turns == turns
    value = json.loads(talk.to_json())
    del value["turns"][1]["authors"]
    assert Trace.from_json(json.dumps(value)).turns == (turns[0], Turn("assistant", "é a"))
    del value["turns"]
    assert Trace.from_json(json.dumps(value)) == trace
