"""A trace survives JSON, and nothing but a trace is read back."""

from __future__ import annotations

import json
import tracemalloc
from dataclasses import replace

import pytest
from pydantic import ValidationError

from engine import InvalidRequest, Request, Role, Trace, costs
from engine.events.trace import _adapter
from engine.request import Turn


@pytest.fixture(scope="module")
def trace(random_pair):
    options = {"policy": "confidence", "threshold": 0.3, "alternatives": 2, "stop": ("zzz",), "system": "Be brief."}
    return random_pair.generate("${x} {{y}} <b>\x1b[31m", max_new_tokens=20, temperature=0.7, **options)


def test_a_saved_trace_loads_equal(trace, tmp_path):
    trace.save(tmp_path / "trace.json")
    assert Trace.load(tmp_path / "trace.json") == trace


def test_a_text_that_went_on_from_token_ids_costs_what_it_read(random_pair):
    request = Request("a", raw=True, policy="slm", max_new_tokens=6)
    ids = list(range(40))
    decoding = random_pair.start([request], prompts=[ids])
    decoding.finish()
    (row,) = decoding.rows
    trace = random_pair.trace(row.request, row.events, row.prompt_tokens)
    assert trace.prompt_tokens == trace.events[0].slm_fed == 40
    cost = costs(trace.events, 40, random_pair.slm_cost, random_pair.llm_cost)
    assert cost.run.bytes == cost.slm_only.bytes, "it is the SLM alone"
    assert json.loads(trace.to_json())["cost"]["bytes"]["run"] == cost.run.bytes
    assert random_pair.generate(request).prompt_tokens == random_pair.check(request) == 1


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


@pytest.mark.parametrize(
    ("path", "value"),
    [
        *((name, [None] * 1000) for name in ("events", "stop", "forced", "turns")),
        *((f"events.0.{name}", [None] * 1000) for name in ("slm_alternatives", "revealed", "verdicts", "taken_back")),
        *((f"events.0.{name}", [[0] * 1000]) for name in ("llm_alternatives", "revealed", "verdicts")),
        ("events.0.llm_alternatives", [{str(n): 0 for n in range(1000)}]),
        *((f"slm_cost.{name}", [None] * 1000) for name in ("pass_table", "head_table")),
        ("turns", [{"role": "user", "text": "", "authors": [None] * 1000}]),
    ],
)
def test_a_trace_that_is_wrong_everywhere_is_looked_at_up_to_its_first_fault(trace, path, value):
    content = json.loads(trace.to_json())
    *above, last = path.split(".")
    place = content
    for name in above:
        place = place[int(name) if isinstance(place, list) else name]
    place[last] = value
    with pytest.raises(ValidationError) as refused:
        _adapter().validate_python(content)
    assert refused.value.error_count() == 1


@pytest.mark.parametrize("number", ["1e999", "-1e999", "Infinity", "NaN"])
@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("threshold", "@"),
        ("events.0.score", "@"),
        ("events.0.seconds", "@"),
        ("events.0.probability", "@"),
        ("events.0.slm_alternatives", [[1, "a", "@"]]),
        ("events.0.revealed", [[0, "llm", [], "@"]]),
        ("events.0.verdicts", [[0, "@"]]),
        ("llm_cost.pass_table", [[1, "@"]]),
    ],
)
def test_a_number_that_no_json_can_hold_is_refused_where_it_stands(trace, path, value, number):
    content = json.loads(trace.to_json())
    *above, last = path.split(".")
    place = content
    for name in above:
        place = place[int(name) if isinstance(place, list) else name]
    place[last] = value
    with pytest.raises(InvalidRequest, match=path.replace(".", r"\.")):
        Trace.from_json(json.dumps(content).replace('"@"', number))


def test_what_is_no_trace_takes_a_few_times_its_size_to_refuse():
    text = '{"x": [' + "[]," * 100_000 + "[]]}"
    with pytest.raises(InvalidRequest):
        Trace.parse("{}")
    tracemalloc.start()
    try:
        with pytest.raises(InvalidRequest, match="prompt: Field required"):
            Trace.parse(text)
        assert tracemalloc.get_traced_memory()[1] < 50 * len(text)
    finally:
        tracemalloc.stop()


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
